"""Claim: with glibc's thresholds raised (`hardware.allocator`), a CPU training step takes a tenth of the page faults.

Two processes that differ only in that setting train one network of mbconv_cifar_small (at most 6 MMACs, batch 128),
and take turns, so that the machine's drift hits both. The claim is about faults; the time is reported beside it.
Run: python benchmarks/allocator.py [--repeats 5]. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.environment import processor_name
from se_nas.layers.network import Network, initialise
from se_nas.search.budgets.decode import decode
from se_nas.space.yaml.file import load_space
from se_nas.training.optimizer import make_optimizer
from se_nas.training.recipe_files import default_recipe

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar_small.yaml"
BATCH, STEPS, UNTIMED = 128, 10, 3
BARS = {"fault_ratio": 0.1}
"""Most page faults with the setting, as a share of those without it."""


def work(tuned: bool) -> dict[str, float]:
    """Milliseconds and page faults of one step, the means of STEPS, in this process."""
    if tuned and not tune_allocator():
        raise SystemExit("this C library has no such setting, or the environment makes it already")
    torch.manual_seed(0)
    space = load_space(SPACE)
    deepest = {c.name: list(range(len(c.options))) for c in space.choices}
    found = decode(space, count_tables(space), [Budget("macs", 6e6)], deepest)
    network = Network(space.resolve(found.architecture))
    initialise(network)
    network = network.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, default_recipe(learning_rate=0.01, weight_decay=4e-5))
    x = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(10, (BATCH,))
    for number in range(UNTIMED + STEPS):
        if number == UNTIMED:
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"ms": (time.perf_counter() - started) * 1e3 / STEPS, "faults": faults / STEPS}


def main() -> None:
    """Run both kinds of process in turn; print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each kind")
    parser.add_argument("--work", choices=("tuned", "default"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.work == "tuned")))
        return
    found: dict[str, list[dict[str, float]]] = {"default": [], "tuned": []}
    for _ in range(options.repeats):
        for kind, results in found.items():
            done = subprocess.run(
                [sys.executable, __file__, "--work", kind], capture_output=True, text=True, check=True
            )
            results.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {k: {n: statistics.median(r[n] for r in rs) for n in ("ms", "faults")} for k, rs in found.items()}
    ratios = [a["ms"] / b["ms"] for a, b in zip(found["default"], found["tuned"], strict=True)]
    table = Table(title=f"one training step, batch {BATCH}")
    for heading in ("malloc", "median ms", "page faults"):
        table.add_column(heading, justify="right")
    for kind, values in medians.items():
        table.add_row(kind, f"{values['ms']:.1f}", f"{values['faults']:.0f}")
    Console(width=120).print(table)
    print(f"speed-up: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    figures: dict[str, Any] = {
        "median": medians,
        "speed_up": round(statistics.median(ratios), 3),
        "speed_up_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "fault_ratio": round(medians["tuned"]["faults"] / max(1.0, medians["default"]["faults"]), 4),
    }
    setting = {
        "hardware": processor_name("cpu"),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "n": options.repeats,
    }
    holds = figures["fault_ratio"] <= BARS["fault_ratio"]
    print(json.dumps({"benchmark": "allocator", **setting, "figures": figures, "bars": BARS, "holds": holds}))


if __name__ == "__main__":
    main()
