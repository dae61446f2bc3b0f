"""Claim: the latency table predicts networks it has not seen to 5 % on average and ranks them (Spearman 0.98 or more).

It is compared with measurements of random networks that the table was not calibrated on, spread over the space's sizes,
and beside it a straight line on multiply-accumulates (MACs) fitted on the same calibration networks. A shared machine's
speed drifts by some per cent within minutes, which no prediction can know: the calibration networks are timed again,
in turn with the held-out ones, and the median of now over then scales the predictions. The figures without that scale
stand beside them, and "holds" asks for both. Run:
python benchmarks/latency_table.py [--space search_spaces/mbconv_cifar.yaml] [--device cpu] [--held-out 30] [--fresh]
[--max-seconds 60]. It takes about two minutes where the table is not in the cache yet. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.choosing import spread_architectures
from se_nas.cost.latency.fit import fit_relative, prediction_accuracy
from se_nas.cost.latency.table import latency_lines
from se_nas.cost.latency.timing import latency_key, measure_networks
from se_nas.cost.table import count_tables
from se_nas.hardware.allocator import tune_allocator
from se_nas.space.yaml.file import load_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar.yaml"
SEED = 1
"""Draws the held-out networks; the table draws its own from seed 0."""
BARS = {"mape": 0.05, "spearman": 0.98}
"""Most mean absolute relative error and least rank correlation for the claim to hold."""


def load_average() -> list[float] | None:
    """How many processes want a core, over 1, 5 and 15 minutes, where the system says."""
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def main() -> None:
    """Measure held-out networks, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--held-out", type=int, default=30, help="networks to predict, at least 2")
    parser.add_argument("--fresh", action="store_true", help="time every block now, whatever the cache holds")
    parser.add_argument("--max-seconds", type=float, help="of timing: some blocks are timed, the others predicted")
    options = parser.parse_args()
    tuned = tune_allocator()
    space, key, load_before = load_space(options.space), latency_key(options.device), load_average()
    start = time.perf_counter()
    latency = build_latency_table(space, key, progress=True, fresh=options.fresh, max_seconds=options.max_seconds)
    table_seconds = time.perf_counter() - start
    fitted_on, fitted_ms = [a for a, _ in latency.calibration], np.array([ms for _, ms in latency.calibration])
    drawn = spread_architectures(space, options.held_out + len(fitted_on), np.random.default_rng(SEED))
    held_out = [a for a in drawn if a not in set(fitted_on)][: options.held_out]
    networks = [space.resolve(x) for x in (*fitted_on, *held_out)]
    medians = np.array([m.median_ms for m in measure_networks(networks, key, rounds=60)])
    measured = medians[len(fitted_on) :]
    speed = float(np.median(medians[: len(fitted_on)] / fitted_ms))

    macs = count_tables(space)["macs"]
    a, b = fit_relative(np.array([macs.cost(x) for x in fitted_on]), fitted_ms)
    by_table = np.array([latency.table.cost(x) for x in held_out])
    by_macs = np.array([a + b * macs.cost(x) for x in held_out])
    predictions = {
        "latency table": speed * by_table,
        "line on MACs": speed * by_macs,
        "latency table, drift left in": by_table,
        "line on MACs, drift left in": by_macs,
    }
    found = {name: prediction_accuracy(predicted, measured) for name, predicted in predictions.items()}
    table = Table(
        title=f"{len(held_out)} held-out networks of {space.name}, {measured.min():.2f} to {measured.max():.2f} ms"
    )
    for heading in ("prediction", "mean abs. error", "within 5 %", "within 10 %", "Spearman"):
        table.add_column(heading, justify="right")
    for name, f in found.items():
        shares = (f"{x:.1%}" for x in (f.mape, f.within_5, f.within_10))
        table.add_row(name, *shares, f"{f.spearman:.3f}")
    Console(width=120).print(table)
    print("\n".join(latency_lines(latency)))
    ours = found["latency table"]
    by_table_alone = (ours, found["latency table, drift left in"])
    print(
        json.dumps(
            {
                "benchmark": "latency_table",
                "space": space.name,
                "hardware": key.device,
                "runtime": key.runtime,
                "dtype": key.dtype,
                "batch_size": key.batch_size,
                "threads": key.threads,
                "torch": torch.__version__,
                "allocator_tuned": tuned,
                "load_average": [load_before, load_average()],
                "blocks_predicted": len(latency.predicted),
                "blocks": len(latency.block_ms),
                "table_seconds": round(table_seconds, 1),
                "speed_drift": round(speed, 4),
                "n": ours.n,
                "figures": {name: {k: round(v, 4) for k, v in asdict(f).items()} for name, f in found.items()},
                "bars": BARS,
                "holds": all(f.mape <= BARS["mape"] and f.spearman >= BARS["spearman"] for f in by_table_alone),
            }
        )
    )


if __name__ == "__main__":
    main()
