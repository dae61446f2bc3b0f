"""Claim: two ranks of one machine search at least as fast as one rank that has the threads of both.

A differentiable search's steps on `mbconv_cifar_small`, on noise: one weight step and one choice step each, of the same
batch over all ranks together. Two ranks take half of it each, on an architecture of their own, with half of the
threads or a GPU of their own, and average their gradients. The one rank takes the batch as it is, and again in two
parts, which are the same step as the two ranks'. The ways take turns, as processes of their own. Beside images per
second stand those per second of processor time, of all ranks together, which other processes slow down less.

Run: `python benchmarks/search_ranks.py [--device cpu] [--space search_spaces/mbconv_cifar_small.yaml]
[--batch-size 128] [--steps 6] [--repeats 3]`. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.parts import split_parts
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import pick_device
from se_nas.hardware.distributed import Ranks, join_ranks
from se_nas.hardware.environment import processor_name
from se_nas.search.differentiable.search import DifferentiableConfig, _Search
from se_nas.search.problem import SearchProblem
from se_nas.space.yaml.file import load_space
from se_nas.training.loop import StepContext

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar_small.yaml"
BAR = 1.0
#: Ranks, and parts that each takes.
WAYS = {"one rank": (1, 1), "one rank, two parts": (1, 2), "two ranks": (2, 1)}


def images_per_second(ranks: Ranks, device: torch.device, accumulate: int, options: argparse.Namespace) -> list[float]:
    """Over all ranks, of both kinds of step, after one of each: by the clock, and by processor time."""
    space, batch_size, steps = load_space(options.space), options.batch_size, options.steps
    count = 3 * batch_size * (steps + 1)
    shape = (count, space.resolution, space.resolution, space.channels)
    noise = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    train = ImageSet(noise, torch.arange(count) % space.classes)
    info = DataInfo.of("noise", tuple(map(str, range(space.classes))), train, flip=True)
    tables = count_tables(space)
    rng = np.random.default_rng(0)
    limit = float(np.median([tables["macs"].cost(space.sample(rng)) for _ in range(99)]))
    with tempfile.TemporaryDirectory() as folder:
        problem = SearchProblem(
            space=space,
            budgets=(Budget("macs", limit),),
            tables=tables,
            info=info,
            train=train,
            parts=split_parts(train.labels, {"weights": 0.4, "choices": 0.4, "validation": 0.2}, 0),
            device=device,
            seed=0,
            folder=Path(folder),
            ranks=ranks,
        )
        config = DifferentiableConfig(pretrain_epochs=0, epochs=1, batch_size=batch_size, accumulate=accumulate)
        search = _Search(problem, config)
        wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        started = used = 0.0
        for step in range(steps + 1):
            if step == 1:
                wait()
                ranks.sum([0.0])  # all are there
                started, used = time.perf_counter(), time.process_time()
            search._step(StepContext(step, 0, step, 0, 1.0, step))
        wait()
        (cpu,) = ranks.sum([time.process_time() - used])
        images = 2 * steps * batch_size
        return [images / (time.perf_counter() - started), images / cpu]


def measure(way: str, options: argparse.Namespace) -> list[float]:
    """One way in processes of its own."""
    size, accumulate = WAYS[way]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    kept = {"space": options.space, "device": options.device, "batch-size": options.batch_size, "steps": options.steps}
    words = ["--as-rank", str(accumulate), *(f"--{name}={value}" for name, value in kept.items())]
    threads = str(max(1, len(os.sched_getaffinity(0)) // size))
    # threads that spin as they wait take the processors that other processes need
    waiting = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    environment = {**os.environ, **waiting, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*torchrun, __file__, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3, help="of every way, at least 2")
    parser.add_argument("--as-rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_rank is not None:
        tune_allocator()
        with join_ranks(pick_device(options.device)) as (ranks, device):
            found = images_per_second(ranks, device, options.as_rank, options)
            if ranks.first:
                print(json.dumps(found))
        return
    load_before = os.getloadavg()
    rates: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way, each in rates.items():
            each.append(measure(way, options))
            print(f"{way}: {each[-1][0]:.1f} images/s, {each[-1][1]:.1f} a second of processor time", flush=True)
    figures: dict[str, float | list[float]] = {}
    for number, clock in enumerate(("", ", processor time")):
        for way, each in rates.items():
            figures[f"images_per_second, {way}{clock}"] = round(statistics.median(rate[number] for rate in each), 1)
        for way in ("one rank", "one rank, two parts"):
            ratios = [a[number] / b[number] for a, b in zip(rates["two ranks"], rates[way], strict=True)]
            low, median, high = (round(value, 3) for value in statistics.quantiles(ratios, n=4, method="inclusive"))
            name = f"two ranks over {way}{clock}"
            figures |= {name: median, f"{name}, quartiles": [low, high]}
    bars = {"two ranks over one rank": BAR}
    setting = {
        "hardware": processor_name(options.device),
        "torch": torch.__version__,
        "space": options.space.stem,
        "batch_size": options.batch_size,
        "n": options.repeats,
        "load_average": [load_before, os.getloadavg()],
    }
    holds = all(figures[name] >= bar for name, bar in bars.items())
    print(json.dumps({"benchmark": "search_ranks", **setting, "figures": figures, "bars": bars, "holds": holds}))


if __name__ == "__main__":
    main()
