"""Claim: in every runtime a table predicts held-out networks to 5 % on average and ranks them (Spearman 0.98 or more).

For each space and each runtime a latency table is timed, with 30 networks that its fit has not seen; a line on
multiply-accumulates (MACs) alone, fitted on the same networks as the table, stands beside it. Then, over the networks
that were timed in both, it is said how alike two runtimes rank networks, and where they disagree on what SE takes.

The tables lie in the folder --out, from which a call goes on: what is there is not timed again, so that runtimes and
spaces can be timed by several calls, and what a call that was ended has timed is not timed again either:
python benchmarks/runtimes.py [--space mbconv_cifar mbconv_imagenet] [--runtime eager compiled onnxruntime openvino].
They take about three minutes a table, compiled ones half an hour to an hour. On a machine that is not quiet, give it
one core of its own: chrt -f 10 taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/runtimes.py.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from se_nas.cost.latency.building import time_latency_table
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyTable, read_latency_table
from se_nas.cost.latency.timing import clock_name, latency_key
from se_nas.evidence.se_by_runtime import se_by_runtime, share_ranks
from se_nas.hardware.allocator import tune_allocator
from se_nas.records.files import read_json, write_json
from se_nas.records.record import write_record
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

SPACES = ("mbconv_cifar", "mbconv_imagenet")
TIMED = ("eager", "compiled", "onnxruntime", "openvino")
BARS = {"mape": 0.05, "spearman": 0.98}
"""Most mean absolute relative error and least rank correlation for the claim to hold."""


def conditions() -> dict[str, object]:
    """What else wanted a core, and whether this process goes before it."""
    found: dict[str, object] = {}
    if hasattr(os, "getloadavg"):
        found["load_average"] = [round(x, 2) for x in os.getloadavg()]
    if hasattr(os, "sched_getscheduler"):
        found["real_time"] = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
        found["cores"] = len(os.sched_getaffinity(0))
    return found


def table_of(space: SearchSpace, runtime: str, out: Path, options: argparse.Namespace) -> LatencyTable | None:
    """The table in the folder, else one that is timed now; None where it is only to be reported and is not there."""
    path = out / f"{space.name}.{runtime}.json"
    if path.exists() and not options.fresh:
        return read_latency_table(path, space)
    if options.report:
        return None
    before = conditions()
    started = time.perf_counter()
    key = latency_key("cpu", runtime)
    table = time_latency_table(
        space,
        key,
        progress=True,
        say=print,
        calibrate_on=options.calibrate_on,
        held_out=options.held_out,
        visits=options.visits,
        keep=path.with_suffix(".measured.jsonl"),
    )
    seconds = round(time.perf_counter() - started, 1)
    write_record(path, table.record())
    kept = out / "conditions.json"
    known = read_json(kept) if kept.exists() else {}
    known[path.stem] = {"seconds": seconds, "clock": clock_name(key), "before": before, "after": conditions()}
    write_json(kept, known)
    return table


def measured(table: LatencyTable) -> dict[object, float]:
    """The milliseconds of every network that was timed."""
    return dict((*table.calibration, *table.held_out))


def figures_of(table: LatencyTable) -> dict[str, object]:
    """What a table is worth, as the last line has it."""
    ms = [value for _, value in table.held_out]
    assert table.fit.macs is not None
    rounded = {
        name: {key: round(value, 4) for key, value in asdict(found).items()}
        for name, found in (("table", table.fit.held_out), ("line on MACs", table.fit.macs))
    }
    return {
        **rounded,
        "fitted_on": table.fit.calibrated_on,
        "method": table.fit.method,
        "held_out_ms": [round(min(ms), 4), round(max(ms), 4)],
        "versions": table.fit.environment,
        "holds": table.fit.held_out.mape <= BARS["mape"] and table.fit.held_out.spearman >= BARS["spearman"],
    }


def between(one: LatencyTable, other: LatencyTable) -> dict[str, float]:
    """How alike two runtimes rank the networks that were timed in both."""
    ours, theirs = measured(one), measured(other)
    both = [architecture for architecture in ours if architecture in theirs]
    pairs = np.array([[ours[architecture], theirs[architecture]] for architecture in both])
    low, middle, high = np.quantile(pairs[:, 0] / pairs[:, 1], (0, 0.5, 1))
    return {
        "n": len(both),
        "spearman": round(float(spearmanr(pairs).statistic), 4),
        "times": [round(float(x), 3) for x in (low, middle, high)],
    }


def se_of(tables: dict[str, LatencyTable]) -> dict[str, object]:
    """What SE takes in each runtime, and where they disagree."""
    blocks = se_by_runtime(tables)
    furthest = max(blocks, key=lambda block: block.spread)
    shares = {name: [block.shares[name] for block in blocks] for name in tables}
    return {
        "blocks": len(blocks),
        "share_least_median_greatest": {
            name: [round(float(x), 3) for x in np.quantile(values, (0, 0.5, 1))] for name, values in shares.items()
        },
        "spearman_of_shares": {
            f"{one}, {other}": round(share_ranks(blocks, one, other), 3)
            for one, other in itertools.combinations(tables, 2)
        },
        "furthest": {
            "block": " ".join(furthest.places),
            "shares": {name: round(x, 3) for name, x in furthest.shares.items()},
        },
        "blocks_with_options_that_swap": sum(bool(block.swapped) for block in blocks),
    }


def main() -> None:
    """Time the tables that are not there, print tables for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", nargs="+", default=SPACES, help="names of spaces, or files")
    parser.add_argument("--runtime", nargs="+", default=TIMED, choices=[n for n, r in RUNTIMES.items() if not r.of])
    parser.add_argument("--out", type=Path, default=Path("runs/runtimes"), help="the folder of the tables")
    parser.add_argument("--held-out", type=int, default=30, help="networks to predict, at least 2")
    parser.add_argument("--calibrate-on", type=int, help="networks to fit to, where not as many as by default")
    parser.add_argument("--visits", type=int, help="how often everything is timed, where not as often as by default")
    parser.add_argument("--fresh", action="store_true", help="time tables anew that are there")
    parser.add_argument("--report", action="store_true", help="time nothing: report what is there")
    options = parser.parse_args()
    tune_allocator()
    figures: dict[str, object] = {}
    ranks: dict[str, object] = {}
    se: dict[str, object] = {}
    holds: list[bool] = []
    hardware: set[str] = set()
    shown = Table("space", "runtime", "n", "mean abs. error", "Spearman", "MACs alone", "Spearman", "held-out ms")
    for name in options.space:
        space = load_space(name)
        found = {runtime: table_of(space, runtime, options.out, options) for runtime in options.runtime}
        tables = {runtime: table for runtime, table in found.items() if table is not None}
        for runtime, table in tables.items():
            ours, macs = table.fit.held_out, table.fit.macs
            assert macs is not None
            ms = [value for _, value in table.held_out]
            shown.add_row(
                space.name,
                runtime,
                *(str(ours.n), f"{ours.mape:.1%}", f"{ours.spearman:.3f}", f"{macs.mape:.1%}", f"{macs.spearman:.3f}"),
                f"{min(ms):.3g} to {max(ms):.3g}",
            )
            entry = figures_of(table)
            figures[f"{space.name}, {runtime}"] = entry
            holds.append(bool(entry["holds"]))
            hardware.add(table.key.device)
        for one, other in itertools.combinations(tables, 2):
            ranks[f"{space.name}: {one}, {other}"] = between(tables[one], tables[other])
        if len(tables) > 1:
            se[space.name] = se_of(tables)
    Console(width=120).print(shown)
    for pair, figure in ranks.items():
        print(pair, figure)
    kept = options.out / "conditions.json"
    print(
        json.dumps(
            {
                "benchmark": "runtimes",
                "hardware": sorted(hardware),
                "dtype": "float32",
                "batch_size": 1,
                "threads": 1,
                "conditions": read_json(kept) if kept.exists() else {},
                "figures": figures,
                "ranks": ranks,
                "se": se,
                "bars": BARS,
                "holds": bool(holds) and all(holds),
            }
        )
    )


if __name__ == "__main__":
    main()
