"""Whether compiling and capturing pay: steps that are plain, compiled and, on CUDA devices, captured, taken in turn.

`python -m benchmarks.graph_step [--space search_spaces/cifar_tiny.yaml] [--what network mixture] [--device auto]` from
the checkout's folder. The network is the one of the most MACs, with gradients of its weights; the mixture has those of
the choices. The updates of weights and logits, which are the same, are left out. On a CPU it is CPU time, for which set
OMP_NUM_THREADS=1. The last line is JSON: for each way its median milliseconds, and the ratio to the plain way, of which
less than 1 is quicker.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.supernet_step import images, in_turn, ratio
from se_nas.cost.table import count_tables
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import arithmetic, autocast_for, pick_device, sent
from se_nas.hardware.environment import processor_name
from se_nas.hardware.graph_step import Compiled, GraphStep
from se_nas.layers.network import build
from se_nas.search.budgets.decode import greatest_cost
from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.search.differentiable.mixture_passes import Graphs, choice_passes
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from se_nas.supernet.supernet import SuperNet

Step = Callable[[], None]


def network_step(space: SearchSpace, x: Tensor, y: Tensor, how: Graphs) -> Step:
    """Gradients of the weights of the largest network."""
    torch.manual_seed(0)
    network = build(space.resolve(greatest_cost(space, count_tables(space), "macs").architecture))
    network.to(x.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled = Compiled(network) if how.compiled else None

    def passes(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        with autocast_for(x.device):
            loss = F.cross_entropy((compiled or network)(x).float(), y)
        loss.backward()
        return (loss.detach(),)

    run = GraphStep(passes, network, compiled=compiled, captured=how.captured, say=how.say)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        run(x, y)

    return step


def mixture_step(space: SearchSpace, x: Tensor, y: Tensor, how: Graphs) -> Step:
    """Gradients of the choices in the mixture of a space."""
    torch.manual_seed(0)
    supernet, logits = SuperNet(space), ChoiceLogits(space)
    supernet.to(x.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = choice_passes(supernet, logits, F.cross_entropy, how)

    def step() -> None:
        run(x, y, sent(logits.relaxed(1.0, gumbel=True).detach(), x.device))

    return step


STEPS = {"network": network_step, "mixture": mixture_step}


def on_cpu(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of every step, in turn: on one thread they are those of a quiet machine also on a busy one."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            started = time.process_time()
            step()
            times[name].append((time.process_time() - started) * 1e3)
    return times


def measured(what: str, space: SearchSpace, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The ways' median milliseconds, ratios to the plain one with quartiles, and seconds that each took to be ready."""
    x, y = images(space, options.batch_size, device)
    failed: list[str] = []
    ways = {"plain": (False, False), "compiled": (True, False)}
    if device.type == "cuda":
        ways |= {"captured": (False, True), "compiled and captured": (True, True)}
    steps, ready = {}, {}
    for name, (compiled, captured) in ways.items():
        steps[name] = STEPS[what](space, x, y, Graphs(compiled=compiled, captured=captured, say=failed.append))
        started = time.perf_counter()
        for _ in range(7):  # what is captured is so by then
            steps[name]()
        ready[name] = round(time.perf_counter() - started, 1)
    times = in_turn(steps, device, options.repeats) if device.type != "cpu" else on_cpu(steps, options.repeats)
    found: dict[str, Any] = {"failed": failed}
    for name, each in times.items():
        median, quartiles = ratio(times, name, "plain")
        found[name] = {
            "ms": round(statistics.median(each), 2),
            "ratio": round(median, 3),
            "quartiles": quartiles,
            "first_7_seconds": ready[name],
        }
    return found


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, default=Path("search_spaces/cifar_tiny.yaml"))
    parser.add_argument("--what", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15, help="timed steps of each way, at least 2")
    options = parser.parse_args()
    load_before, tuned, device = os.getloadavg(), tune_allocator(), pick_device(options.device)
    space, figures = load_space(options.space), {}
    with arithmetic(device, tuned=True):
        for what in options.what:
            figures[what] = measured(what, space, options, device)
            print(what, figures[what], flush=True)
    setting = {
        "hardware": processor_name(device.type),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": [load_before, os.getloadavg()],
        "allocator_tuned": tuned,
        "space": space.name,
        "batch_size": options.batch_size,
        "n": options.repeats,
    }
    print(json.dumps({"benchmark": "graph_step", **setting, "figures": figures}))


if __name__ == "__main__":
    main()
