"""Claim: a differentiable step of the whole space costs at most 1.25 times a training step of its largest network.

With `--space search_spaces/mbconv_cifar_widths.yaml`, in which widths are choices too, the same. For every family of
blocks, at most 1.3 times: `--family all` measures that on a small space of each.

The differentiable step mixes every option of every choice under Gumbel-softmax and takes the gradients of all weights
and all choice logits, with the budgets on expected cost, and both updates; the other step trains the plain network of
the greatest MACs, forward, backward and update. They take turns, on the same images. The number of SE options should
hardly matter, so a second pair compares the space with 2 SE options ("none" and 2) to the same space with 8.
Peak memory is what each step adds in a process of its own. Run:
python benchmarks/supernet_step.py [--space search_spaces/mbconv_cifar.yaml] [--batch-size 64] [--repeats 9]
python benchmarks/supernet_step.py --activations relu hard_swish, with activations as a choice of every block;
python benchmarks/supernet_step.py --family all [--batch-size 16] [--repeats 9].
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import autocast_for, pick_device, sent
from se_nas.hardware.environment import processor_name
from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.network import Network, initialise
from se_nas.search.budgets.decode import greatest_cost
from se_nas.search.differentiable.budget_projection import BudgetProjection
from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space, parse_space
from se_nas.supernet.supernet import SuperNet
from se_nas.training.optimizer import make_optimizer
from se_nas.training.recipe_files import default_recipe

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar.yaml"
RECIPE = default_recipe(learning_rate=0.01, weight_decay=4e-5)
BARS = {"time_ratio": 1.25, "memory_ratio": 1.25, "se_options_ratio": 1.03}
BARS_OF_PLACES = {**BARS, "time_ratio": 1.6, "memory_ratio": 1.6}
"""Where SE's places are a choice."""
BARS_OF_ACTIVATIONS = {"time_ratio": 1.4, "memory_ratio": 1.3}
"""Where blocks choose between two activations: no convolution more and no map more, but each is computed of every map
that it may stand behind, and again in backward, and so is its slope: about a tenth of a network's time each."""
TWO, EIGHT = (None, 2), (None, 2, 3, 4, 6, 8, 16, 32)
"""SE options of the second comparison; both largest networks are the same."""

FAMILY_BAR = 1.3
FAMILIES: dict[str, dict[str, Any]] = {
    "basic": {"kind": "basic", "kernel": [3, 5], "expansion": [0.5, 1]},
    "preactivation": {"kind": "basic", "kernel": [3, 5], "expansion": [0.5, 1], "preactivation": True},
    "bottleneck": {"kind": "bottleneck", "kernel": [3, 5], "expansion": [0.125, 0.25]},
    "grouped": {"kind": "bottleneck", "kernel": [3, 5], "expansion": [0.25, 0.5], "group_width": 8},
    "senet": {
        "kind": "bottleneck",
        "kernel": [3, 5],
        "expansion": [0.25, 0.5],
        "group_width": 8,
        "entry": 0.5,
        "shortcut": "conv3x3",
    },
    "conv": {"kind": "conv", "kernel": [3, 5]},
    "separable": {"kind": "separable", "kernel": [3, 5]},
    "mbconv": {"kind": "mbconv", "kernel": [3, 5], "expansion": [1, 3, 6]},
    "fused_mbconv": {"kind": "fused_mbconv", "kernel": [3, 5], "expansion": [1, 2, 4]},
    "residual_conv": {"kind": "residual_conv", "kernel": [3, 5]},
    "shuffle": {"kind": "shuffle", "kernel": [3, 5], "expansion": 0.25, "groups": 4},
    "inception": {"kind": "inception", "kernel": [3, 5]},
}
"""One block of each family, as a space file has it; an Inception module's branches come from its stage's width."""

Step = Callable[[], None]


def family_space(name: str) -> SearchSpace:
    """Three stages of one family, every part of which that can be a choice is one."""
    block = FAMILIES[name]
    inside = block["kind"] in ("mbconv", "fused_mbconv")
    se = {"options": ["none", 4, 8, 16], "ratio_of": "block_output", "position": "inside" if inside else "standard"}
    stages = []
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        quarter = width // 4
        # a 1x1 convolution alone is no branch where there is a stride
        branches = [[quarter] * length for length in ((1, 2, 3) if stride == 1 else (2, 2, 3))]
        own = {"branches": branches, "pool_width": quarter} if name == "inception" else {}
        stages.append({"width": width, "stride": stride, "depth": [1, 2], "blocks": [{**block, **own, "se": se}]})
    return parse_space({"name": name, "resolution": 32, "stem": {"width": 32}, "stages": stages}, name)


def with_se_options(space: SearchSpace, options: tuple[float | None, ...]) -> SearchSpace:
    """The space with these SE ratios in every block, rounded to single channels so that all stay distinct."""
    stages = tuple(
        replace(stage, ops=tuple(replace(op, se=replace(op.se, options=options, divisor=1)) for op in stage.ops))
        for stage in space.stages
    )
    return replace(space, name=f"{space.name}, {len(options)} SE options", stages=stages)


def asked_for(options: argparse.Namespace) -> SearchSpace:
    """The space of --space, each block with the activations of --activations."""
    space = load_space(options.space)
    if not options.activations:
        return space
    several = tuple(options.activations)
    stages = tuple(
        replace(stage, ops=tuple(replace(op, activation=several) for op in stage.ops)) for stage in space.stages
    )
    return replace(space, stages=stages)


def differentiable_step(space: SearchSpace, x: torch.Tensor, y: torch.Tensor) -> Step:
    """One step of all weights and all choice logits through the mixture."""
    supernet = SuperNet(space).to(x.device, memory_format=torch.channels_last)
    logits = ChoiceLogits(space)  # on the CPU, as in a search, and the projection too
    tables = count_tables(space)
    projection = BudgetProjection([Budget("macs", 20e6), Budget("params", 1e6)])
    optimizer = make_optimizer(supernet, RECIPE)
    choice_optimizer = torch.optim.Adam(logits.parameters(), 0.01)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        choice_optimizer.zero_grad(set_to_none=True)
        with autocast_for(x.device):
            probabilities = logits.rows(sent(logits.relaxed(1.0, gumbel=True), x.device))
            loss = F.cross_entropy(supernet.mix(probabilities)(x).float(), y)
        loss.backward()
        optimizer.step()
        choice_optimizer.step()
        projection.project(logits, tables)

    return step


def largest_step(space: SearchSpace, x: torch.Tensor, y: torch.Tensor) -> Step:
    """One training step of the network of the greatest MACs."""
    network = Network(space.resolve(greatest_cost(space, count_tables(space), "macs").architecture))
    initialise(network)
    network = network.to(x.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(network, RECIPE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast_for(x.device):
            loss = F.cross_entropy(network(x).float(), y)
        loss.backward()
        optimizer.step()

    return step


def images(space: SearchSpace, batch_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels."""
    torch.manual_seed(0)
    x = torch.randn(batch_size, space.channels, *[max(space.resolutions)] * 2, device=device)
    return x.to(memory_format=torch.channels_last), torch.randint(space.classes, (batch_size,), device=device)


def milliseconds(step: Step, device: torch.device) -> float:
    """Time of one step: on one CPU thread that of its own clock, which stands still while another process has it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    wait()
    started = clock()
    step()
    wait()
    return (clock() - started) * 1e3


def in_turn(steps: dict[str, Step], device: torch.device, repeats: int) -> dict[str, list[float]]:
    """Times of every step, taken in turn after two untimed rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats + 2):
        for name, step in steps.items():
            elapsed = milliseconds(step, device)
            if number >= 2:
                times[name].append(elapsed)
    return times


def peak_mib(kind: str, options: argparse.Namespace) -> float:
    """Peak memory that two steps add to a process that has loaded everything else."""
    command = [sys.executable, __file__, "--space", str(options.space), "--device", options.device]
    command += ["--batch-size", str(options.batch_size), "--peak-of", kind]
    command += ["--activations", *options.activations] if options.activations else []
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def print_peak(kind: str, options: argparse.Namespace) -> None:
    """What the process started by `peak_mib` does."""
    device, space = pick_device(options.device), asked_for(options)
    x, y = images(space, options.batch_size, device)
    # resident now, in pages; the peak so far may be that of an import
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    step = {"mixture": differentiable_step, "largest": largest_step}[kind](space, x, y)
    step()
    step()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(int(status["VmHWM"].split()[0]) / 1024 - before)


def ratio(times: dict[str, list[float]], above: str, below: str) -> tuple[float, list[float]]:
    """Median of the paired ratios, and their quartiles."""
    low, median, high = statistics.quantiles([a / b for a, b in zip(times[above], times[below], strict=True)], n=4)
    return median, [round(low, 3), round(high, 3)]


def compare_families(options: argparse.Namespace, device: torch.device) -> dict[str, dict[str, Any]]:
    """For each family asked for, the ratio of the two steps' times and their medians; printed as a table too."""
    table = Table(title=f"small spaces of one family each, batch {options.batch_size}")
    for heading in ("family", "largest, ms", "mixed, ms", "ratio (quartiles)", "bar"):
        table.add_column(heading, justify="right")
    figures = {}
    for name in FAMILIES if options.family == "all" else [options.family]:
        space = family_space(name)
        x, y = images(space, options.batch_size, device)
        steps = {"mixture": differentiable_step(space, x, y), "largest": largest_step(space, x, y)}
        times = in_turn(steps, device, options.repeats)
        median, quartiles = ratio(times, "mixture", "largest")
        ms = {step: round(statistics.median(values), 1) for step, values in times.items()}
        shown = f"{median:.3f} ({quartiles[0]} to {quartiles[1]})"
        table.add_row(name, f"{ms['largest']}", f"{ms['mixture']}", shown, f"{FAMILY_BAR}")
        figures[name] = {"time_ratio": round(median, 4), "time_ratio_quartiles": quartiles, "median_ms": ms}
    Console(width=120).print(table)
    return figures


def print_answer(options: argparse.Namespace, device: torch.device, tuned: bool, answer: dict[str, Any]) -> None:
    """The conditions for people, and one JSON object."""
    setting = {
        "hardware": processor_name(device.type),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch_size": options.batch_size,
        "n": options.repeats,
        "allocator_tuned": tuned,
    }
    print(", ".join(f"{key} {value}" for key, value in setting.items()))
    print(json.dumps({"benchmark": "supernet_step", **setting, **answer}))


def main() -> None:
    """Measure, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--family", choices=("all", *FAMILIES), help="small spaces instead of --space")
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS, help="what each block of --space chooses from")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, mps or xpu")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9, help="timed steps of each kind, at least 2")
    parser.add_argument("--peak-of", choices=("mixture", "largest"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        # without the allocator setting: what is freed must leave the peak alone
        print_peak(options.peak_of, options)
        return
    tuned = tune_allocator()
    device = pick_device(options.device)
    if options.family:
        found = compare_families(options, device)
        holds = all(family["time_ratio"] <= FAMILY_BAR for family in found.values())
        print_answer(options, device, tuned, {"figures": found, "bars": {"time_ratio": FAMILY_BAR}, "holds": holds})
        return
    space = asked_for(options)
    open_parts = {choice.place.part for choice in space.choices}
    bars = BARS_OF_PLACES if "se_position" in open_parts else BARS
    bars = BARS_OF_ACTIVATIONS if "activation" in open_parts else bars
    x, y = images(space, options.batch_size, device)
    main_pair = in_turn(
        {"mixture": differentiable_step(space, x, y), "largest": largest_step(space, x, y)}, device, options.repeats
    )
    two, eight = with_se_options(space, TWO), with_se_options(space, EIGHT)
    se_pair = in_turn(
        {"two": differentiable_step(two, x, y), "eight": differentiable_step(eight, x, y)}, device, options.repeats
    )
    memory = {kind: peak_mib(kind, options) for kind in ("mixture", "largest")}
    time_ratio, time_quartiles = ratio(main_pair, "mixture", "largest")
    se_ratio, se_quartiles = ratio(se_pair, "eight", "two")
    memory_ratio = memory["mixture"] / memory["largest"]

    table = Table(title=f"{space.name}, batch {options.batch_size}")
    for heading in ("step", "median ms", "peak MiB", "ratio (quartiles)", "bar"):
        table.add_column(heading, justify="right")
    ms = {name: statistics.median(times) for name, times in {**main_pair, **se_pair}.items()}
    table.add_row("largest network", f"{ms['largest']:.0f}", f"{memory['largest']:.0f}", "", "")
    table.add_row(
        "whole space, mixed",
        f"{ms['mixture']:.0f}",
        f"{memory['mixture']:.0f}",
        f"time {time_ratio:.3f} ({time_quartiles[0]} to {time_quartiles[1]}), memory {memory_ratio:.3f}",
        f"{bars['time_ratio']}",
    )
    table.add_row("with 2 SE options", f"{ms['two']:.0f}", "", "", "")
    table.add_row(
        "with 8 SE options",
        f"{ms['eight']:.0f}",
        "",
        f"time {se_ratio:.3f} ({se_quartiles[0]} to {se_quartiles[1]})",
        f"{bars['se_options_ratio']}",
    )
    Console(width=120).print(table)
    figures = {
        "time_ratio": round(time_ratio, 4),
        "time_ratio_quartiles": time_quartiles,
        "memory_ratio": round(memory_ratio, 4),
        "se_options_ratio": round(se_ratio, 4),
        "se_options_ratio_quartiles": se_quartiles,
        "median_ms": {name: round(value, 1) for name, value in ms.items()},
        "peak_mib": {name: round(value, 1) for name, value in memory.items()},
    }
    holds = all(figures[name] <= bar for name, bar in bars.items())
    print_answer(options, device, tuned, {"figures": figures, "bars": bars, "holds": holds})


if __name__ == "__main__":
    main()
