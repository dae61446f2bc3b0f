"""Claim: beside the accuracy evaluation an Optuna-driven search takes at most 20 ms a candidate, over 2,000 of them,
and a vectorised cost table gives at least 100,000 architecture costs a second.

The searches are those of a run: space mbconv_cifar under budgets of MACs and parameters, every proposal repaired, the
study in a file. The evaluator is instant, so what passes between two of its calls is sampling, repair, costs and
bookkeeping. The claim is about the default samplers, evolution for accuracy alone and NSGA-II for accuracy and MACs;
the others are timed beside them, over as many candidates as they can bear. Run:
python benchmarks/optuna_overhead.py [--candidates 2000] [--samplers evolution,nsga2].
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from se_nas.cost.budget import parse_budgets
from se_nas.cost.table import CostTable, count_tables
from se_nas.hardware.environment import describe_environment
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.search import search_architectures
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar.yaml"
BUDGETS = {"macs": "20M", "params": "800k"}
SAMPLERS: dict[str, tuple[tuple[str, ...], int]] = {
    "evolution": (("accuracy",), 2000),
    "nsga2": (("accuracy", "macs"), 2000),
    "nsga3": (("accuracy", "macs"), 2000),
    "random": (("accuracy",), 2000),
    "tpe": (("accuracy",), 300),
    "gp": (("accuracy",), 30),
}
"""Of each sampler the objectives, and the most candidates that it is timed over."""
JUDGED = ("evolution", "nsga2")
EDGE = 200
"""Candidates at the beginning and at the end that are told apart, which shows whether the time grows with the study."""
ROWS, REPEATS = 100_000, 7
BARS = {"ms_per_candidate": 20.0, "costs_per_second": 100_000.0}
"""Most milliseconds a candidate, the mean; least architectures a second, each with every metric."""


class InstantEvaluator:
    """A seeded sum over the picks, squeezed to accuracies; notes when it is called."""

    def __init__(self, space: SearchSpace) -> None:
        rng = np.random.default_rng(0)
        self._worth = {
            c.name: dict(zip(c.options, rng.normal(size=len(c.options)), strict=True)) for c in space.choices
        }
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, architecture: Architecture) -> float:
        """Accuracy, from 0 to 1."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())
        worth = sum(float(self._worth[name][option]) for name, option in architecture.picks)
        return 1 / (1 + math.exp(-worth / 8))


def time_sampler(
    space: SearchSpace, tables: Mapping[str, CostTable], name: str, objectives: tuple[str, ...], candidates: int
) -> dict[str, Any]:
    """Search with one sampler; milliseconds between the evaluations."""
    evaluate = InstantEvaluator(space)
    config = OptunaConfig(sampler=name, objectives=objectives, max_evaluations=candidates + 1)
    with tempfile.TemporaryDirectory() as folder:
        search_architectures(
            space, parse_budgets(BUDGETS, "here"), evaluate, config=config, tables=tables, file=Path(folder) / "study"
        )
    ms = np.diff(evaluate.wall) * 1e3
    edge = min(EDGE, max(1, len(ms) // 3))
    return {
        "objectives": list(objectives),
        "n": len(ms),
        "mean_ms": round(float(ms.mean()), 2),
        "median_ms": round(float(np.median(ms)), 2),
        "p95_ms": round(float(np.quantile(ms, 0.95)), 2),
        "edge": edge,
        "first_ms": round(float(ms[:edge].mean()), 2),
        "last_ms": round(float(ms[-edge:].mean()), 2),
        "cpu_mean_ms": round((evaluate.cpu[-1] - evaluate.cpu[0]) * 1e3 / len(ms), 2),
    }


def time_costs(space: SearchSpace, tables: Mapping[str, CostTable]) -> dict[str, Any]:
    """Architectures a second whose every metric the tables give."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(len(choice.options), size=ROWS) for choice in space.choices], axis=1)
    rates, cpu = [], time.process_time()
    for _ in range(REPEATS):
        start = time.perf_counter()
        for table in tables.values():
            table.costs(rows)
        rates.append(ROWS / (time.perf_counter() - start))
    return {
        "rows": ROWS,
        "metrics": list(tables),
        "n": REPEATS,
        "per_second": round(statistics.median(rates)),
        "per_second_range": [round(min(rates)), round(max(rates))],
        "per_cpu_second": round(ROWS * REPEATS / (time.process_time() - cpu)),
    }


def main() -> None:
    """Time the samplers and the tables, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=2000, help="at most so many for each sampler, at least 2")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="which ones, with commas")
    options = parser.parse_args()
    load_before = os.getloadavg()
    space = load_space(SPACE)
    tables = count_tables(space)
    costs = time_costs(space, tables)
    figures = {}
    for name in options.samplers.split(","):
        objectives, most = SAMPLERS[name]
        figures[name] = time_sampler(space, tables, name, objectives, min(most, options.candidates))
    table = Table(title=f"{space.name} under {', '.join(f'{k} {v}' for k, v in BUDGETS.items())}: ms a candidate")
    for heading in ("sampler", "objectives", "candidates", "mean", "median", "95 %", "first", "last", "CPU mean"):
        table.add_column(heading, justify="right")
    for name, f in figures.items():
        times = (f"{f[key]:.1f}" for key in ("mean_ms", "median_ms", "p95_ms", "first_ms", "last_ms", "cpu_mean_ms"))
        table.add_row(name, ", ".join(f["objectives"]), str(f["n"]), *times)
    Console(width=120).print(table)
    print(f"first, last: of {EDGE} candidates, or of a third of them where there are fewer than {3 * EDGE}")
    print(f"{costs['per_second']:,} architecture costs a second, each of {' and '.join(costs['metrics'])}")
    holds = costs["per_second"] >= BARS["costs_per_second"] and all(
        name in figures and figures[name]["mean_ms"] <= BARS["ms_per_candidate"] for name in JUDGED
    )
    setting = {"environment": describe_environment().plain(), "load_average": [load_before, os.getloadavg()]}
    print(
        json.dumps(
            {
                "benchmark": "optuna_overhead",
                **setting,
                "space": space.name,
                "budgets": BUDGETS,
                "figures": figures,
                "costs": costs,
                "judged": list(JUDGED),
                "bars": BARS,
                "holds": holds,
            }
        )
    )


if __name__ == "__main__":
    main()
