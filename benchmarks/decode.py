"""Claim: decodes stay exact and quick as choices grow. A decoder of 10 blocks of 2,250 configurations each is made,
what it counts included, within 0.5 s and 300 MB; of 500 random pairs of budgets on mbconv_cifar half are answered in
0.2 s and all in 2 s, with an architecture that keeps them or with the least that is reachable; a repair at 200 blocks
takes at most 1 s.

Decodes are timed on generated spaces of 10 to 200 blocks, whose stages share their depth, under budgets of MACs,
parameters and a made-up latency at quantiles of random networks. Of a tied space the latency has a term over the first
blocks of every two stages that follow one another, as widths of stages would have. Each space runs in a process of its
own, whose growth in memory is told. Times are seconds of CPU, which other work on the machine changes little. Run:
python benchmarks/decode.py [--repeats 20]. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable, CostTerm, count_tables
from se_nas.errors import InfeasibleBudgetError
from se_nas.hardware.environment import describe_environment
from se_nas.search.budgets.decode import Decoder, decode, greatest_cost, least_cost
from se_nas.search.budgets.repair import Repair
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space, parse_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar.yaml"
SPACES: dict[str, dict[str, Any]] = {
    "10 blocks": {"blocks": 10, "stages": 5},
    "50 blocks": {"blocks": 50, "stages": 5},
    "100 blocks": {"blocks": 100, "stages": 5},
    "200 blocks": {"blocks": 200, "stages": 5},
    "200 blocks, tied": {"blocks": 200, "stages": 20},
    "200 blocks, 20 fixed stages": {"blocks": 200, "stages": 20, "fixed": True},
    "10 blocks, 450 each": {"blocks": 10, "stages": 5, "kernels": 3, "expansions": 15, "ratios": 10},
    "10 blocks, 2,250 each": {"blocks": 10, "stages": 5, "kernels": 5, "expansions": 30, "ratios": 15},
    "10 blocks, 8,750 each": {"blocks": 10, "stages": 5, "kernels": 7, "expansions": 50, "ratios": 25},
}
"""The generated spaces; a block has 45 configurations where nothing else is said."""
LARGE, TIED, DEEP, PAIRS = "10 blocks, 2,250 each", "200 blocks, tied", 200, 500
QUANTILES = (0.5, 0.2, 0.01)
"""Of random networks' costs, at which the budgets are; and one more a tenth of the way from the least to the median."""
BARS = {
    "decoder_seconds": 0.5,
    "decoder_mb": 300.0,
    "pair_median_seconds": 0.2,
    "pair_slowest_seconds": 2.0,
    "repair_seconds": 1.0,
}


def generated(
    blocks: int,
    stages: int,
    kernels: int = 3,
    expansions: int = 3,
    ratios: int = 5,
    fixed: bool = False,
) -> SearchSpace:
    """A space of so many blocks, in which every block has so many options."""
    depth = blocks // stages
    step = 1.0 if expansions < 8 else 0.5
    values = {
        "name": "generated",
        "resolution": 32,
        "stem": {"width": 16},
        "stages": [
            {
                "width": 16 + 8 * min(stage, 24),
                "stride": 2 if stage in (1, 2) else 1,
                "depth": depth if fixed else [*range(1, depth + 1)],
                "kernel": [3 + 2 * i for i in range(kernels)],
                "expansion": [1 + step * (i + 1) for i in range(expansions)],
                "se": {"options": ["none", *(64 / (2 * i + 2) for i in range(ratios - 1))], "divisor": 1},
            }
            for stage in range(stages)
        ],
        "head": {"width": 128},
    }
    return parse_space(values, "generated")


def with_latency(space: SearchSpace, counted: Mapping[str, CostTable], tied: bool) -> dict[str, CostTable]:
    """Tables of MACs and parameters, and of a latency that is proportional to the MACs but for chance."""
    rng, tables = np.random.default_rng(0), {metric: counted[metric] for metric in ("macs", "params")}
    terms = [CostTerm(t.choices, t.values * rng.uniform(0.5, 1.5, t.values.shape)) for t in tables["macs"].terms]
    if tied:
        scale = float(np.mean([term.values.mean() for term in terms]))
        for stage in range(1, len(space.stages)):
            names = (f"stage{stage}.block1.expansion", f"stage{stage + 1}.block1.expansion")
            shape = [len(space.choice_by_name[name].options) for name in names]
            terms.append(CostTerm(names, scale * rng.uniform(0.0, 2.0, shape)))
    return {**tables, "latency_ms": CostTable(space, "latency_ms", 0.0, terms)}


def peak_mb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def limits(space: SearchSpace, tables: Mapping[str, CostTable]) -> dict[str, list[Budget]]:
    """Budgets at quantiles of random networks, and the tightest that a network close to the least ones keeps."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.integers(len(choice.options), size=2000) for choice in space.choices], axis=1)
    costs = {metric: table.costs(rows) for metric, table in tables.items()}
    found = {f"{q:g}": [Budget(m, float(np.quantile(c, q))) for m, c in costs.items()] for q in QUANTILES}
    small = least_cost(space, tables, "latency_ms").costs
    found["least"] = [Budget(m, small[m] + 0.1 * (float(np.median(c)) - small[m])) for m, c in costs.items()]
    return found


def timed_space(name: str, repeats: int) -> dict[str, Any]:
    """Seconds to make a decoder, to decode and to repair, and how many MB the process grows by."""
    space = generated(**SPACES[name])
    before, start = peak_mb(), time.process_time()
    counted = count_tables(space)
    counting = time.process_time() - start
    tables = with_latency(space, counted, tied=name == TIED)
    start = time.process_time()
    Decoder(space, tables, [Budget(metric, 1.0) for metric in tables])
    making, making_mb = counting + time.process_time() - start, peak_mb() - before
    budgets = limits(space, tables)
    decodes, repairs = [], []
    for held in budgets.values():
        rng, decoder, repair = np.random.default_rng(1), Decoder(space, tables, held), Repair(space, tables, held)
        for _ in range(repeats):
            scores = {c.name: rng.normal(size=len(c.options)) for c in space.choices}
            picks = space.sample(rng).as_dict()
            start = time.process_time()
            decoder.decode(scores)
            middle = time.process_time()
            repair.nearest(picks, rng)
            decodes.append(middle - start)
            repairs.append(time.process_time() - middle)
    return {
        "choices": len(space.choices),
        "n": len(decodes),
        "decoder_seconds": round(making, 4),
        "decoder_mb": round(making_mb, 1),
        "decode_median": round(statistics.median(decodes), 4),
        "decode_slowest": round(max(decodes), 4),
        "repair_median": round(statistics.median(repairs), 4),
        "repair_slowest": round(max(repairs), 4),
        "peak_mb": round(peak_mb() - before, 1),
    }


def timed_pairs() -> dict[str, Any]:
    """Seconds of decodes of the main space under random pairs of budgets, those included that cannot be kept."""
    space = load_space(SPACE)
    tables, rng = count_tables(space), np.random.default_rng(0)
    spans = {
        metric: (least_cost(space, tables, metric).costs[metric], greatest_cost(space, tables, metric).costs[metric])
        for metric in ("macs", "params")
    }
    seconds, kept, named = [], 0, 0
    for _ in range(PAIRS):
        budgets = [
            Budget(m, math.exp(rng.uniform(math.log(low / 1.5), math.log(high * 1.2))))
            for m, (low, high) in spans.items()
        ]
        scores = {c.name: rng.normal(size=len(c.options)) for c in space.choices}
        start = time.process_time()
        try:
            found = decode(space, tables, budgets, scores)
            kept += all(budget.holds(found.costs[budget.metric]) for budget in budgets)
        except InfeasibleBudgetError as error:
            named += "least reachable" in str(error)
        seconds.append(time.process_time() - start)
    return {
        "n": PAIRS,
        "kept": kept,
        "reachable_named": named,
        "median": round(statistics.median(seconds), 4),
        "slowest": round(max(seconds), 4),
    }


def holds(figures: Mapping[str, dict[str, Any]], pairs: Mapping[str, Any]) -> bool:
    """Whether every bar is kept."""
    large = figures[LARGE]
    deep = [figures[name] for name, made in SPACES.items() if made["blocks"] == DEEP]
    return (
        large["decoder_seconds"] <= BARS["decoder_seconds"]
        and large["decoder_mb"] <= BARS["decoder_mb"]
        and pairs["median"] <= BARS["pair_median_seconds"]
        and pairs["slowest"] <= BARS["pair_slowest_seconds"]
        and pairs["kept"] + pairs["reachable_named"] == pairs["n"]
        and all(figure["repair_slowest"] <= BARS["repair_seconds"] for figure in deep)
    )


def main() -> None:
    """Time the spaces and the pairs, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="decodes and repairs at each of four pairs of budgets")
    repeats = parser.parse_args().repeats
    load_before = os.getloadavg()
    figures = {}
    for name in SPACES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures[name] = pool.apply(timed_space, (name, repeats))
    pairs = timed_pairs()
    columns = {
        "decoder, s": "decoder_seconds",
        "decode, s": "decode_median",
        "slowest": "decode_slowest",
        "repair, s": "repair_median",
        "slowest repair": "repair_slowest",
        "peak MB": "peak_mb",
    }
    table = Table(title="generated spaces under three budgets, decodes and repairs at four tightnesses")
    for heading in ("space", "choices", *columns):
        table.add_column(heading, justify="right")
    for name, figure in figures.items():
        table.add_row(name, str(figure["choices"]), *(f"{figure[key]:g}" for key in columns.values()))
    Console(width=120).print(table)
    print(
        f"{pairs['n']} pairs of budgets on mbconv_cifar: median {pairs['median']} s, slowest {pairs['slowest']} s, "
        f"{pairs['kept']} kept, of {pairs['reachable_named']} the least reachable named"
    )
    setting = {"environment": describe_environment().plain(), "load_average": [load_before, os.getloadavg()]}
    outcome = {"figures": figures, "pairs": pairs, "bars": BARS, "holds": holds(figures, pairs)}
    print(json.dumps({"benchmark": "decode", **setting, "repeats": repeats, **outcome}))


if __name__ == "__main__":
    main()
