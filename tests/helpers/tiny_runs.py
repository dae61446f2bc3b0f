"""A whole run that takes seconds: a space of 8x8 images, a run file, and a cached latency table that no clock made."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from se_nas.cost.latency.cache import build_latency_table
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import Measurement, latency_key
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.run_log import read_log
from se_nas.search import certificate
from se_nas.space.specs import BlockSpec, NetworkSpec
from se_nas.space.yaml.file import load_space

SPACE: dict[str, Any] = {
    "name": "tiny",
    "resolution": 8,
    "stem": {"width": 8},
    "stages": [
        {"width": 8, "depth": [1, 2], "kernel": [3, 5], "expansion": 2, "se": {"options": ["none", 2]}},
        {"width": 16, "stride": 2, "kernel": [3, 5], "expansion": 2, "se": {"options": ["none", 2, 4], "divisor": 4}},
    ],
}

RUN: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "device": "cpu",
    "space": "space.yaml",
    "data": {"name": "synthetic", "size": 200},
    "budgets": {"macs": "90k", "params": "3k"},
    "latency": {"device": "cpu"},
    "search": {"pretrain_epochs": 1, "epochs": 2, "batch_size": 20, "calibration_images": 48},
    "retrain": {"epochs": 3, "batch_size": 20, "evaluate_every": 2},
}

#: What every finished search leaves, beside what its strategy and its retraining do.
SEARCHED = {
    "architecture.json",
    "certificate.json",
    "choices.json",
    "config.yaml",
    "decodes.json",
    "environment.json",
    "latency.json",
    "parts.json",
    "report.html",
    "result.json",
    "space.yaml",
}


def began_elsewhere(folder: Path) -> None:
    """Make a run's folder one that began with 77 threads."""
    path = folder / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threads": 77}))


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """A copy with one value, at a dotted path (numbers index lists), replaced or added."""
    value = copy.deepcopy(value)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at: Any = value
    for parent in parents:
        at = at[parent]
    at[last] = new
    return value


def write_yaml(path: Path, value: Any) -> Path:
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def write_run(folder: Path, run: dict[str, Any] = RUN, space: dict[str, Any] = SPACE) -> Path:
    """The two files in `folder`; returns the run file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / "space.yaml", space)
    return write_yaml(folder / "run.yaml", run)


def cache_latency(cache: Path, folder: Path) -> None:
    """Put a latency table of the space in `folder` into the cache, as if this machine had been timed.

    The space becomes as a run changes it: with the ten classes of the synthetic images.
    """
    build_latency_table(
        load_space(folder / "space.yaml"),
        latency_key(),
        cache_folder=cache / "latency",
        time_blocks=_time_blocks,
        time_networks=_time_networks,
    )
    later = time.time() + 86400
    for path in (cache / "latency").iterdir():
        os.utime(path, (later, later))  # as if of this very moment, however long the tests take


def no_clock(patch: pytest.MonkeyPatch) -> None:
    """Let certificates hold a latency that no clock has measured, which takes a second each."""
    patch.setattr(certificate, "measure_network", lambda network, key: Measurement(0.1, 0.1, (0.1, 0.1), 10))


def _time_blocks(blocks: Sequence[BlockSpec], key: LatencyKey, report: Callable[[int, int], None]) -> list[float]:
    return [_milliseconds(block) for block in blocks]


def _time_networks(
    networks: Sequence[NetworkSpec], key: LatencyKey, report: Callable[[int, int], None]
) -> list[Measurement]:
    times = [0.01 + 1.1 * sum(_milliseconds(block) for block in network.blocks) for network in networks]
    return [Measurement(time, time, (time, time), 10) for time in times]


def _milliseconds(block: BlockSpec) -> float:
    return 1e-3 * block.kernel * block.out_channels + 1e-4 * block.se_hidden


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def weights(checkpoint: Path, part: str) -> dict[str, Any]:
    return {name: value.tolist() for name, value in load_checkpoint(checkpoint)[part].items()}


def numbers(out: Path) -> dict[str, Any]:
    """All numbers of a finished run that no clock made."""
    result = read_json(out / "result.json")
    certificate = read_json(out / "certificate.json")
    files = ("search/scores.json", "search/history.json", "architecture.json", "retrain/history.json", "choices.json")
    return {
        **{name: read_json(out / name) for name in files},
        "parts": (out / "parts.json").read_text(),
        "budgets": certificate["budgets"],
        "decodes": [{k: v for k, v in d.items() if k != "measured_ms"} for d in read_json(out / "decodes.json")],
        "validation": result["search"]["validation_accuracy"],
        "test": result["retrain"]["test_accuracy"],
        "weights": weights(out / "retrain/network.pt", "network"),
        "logs": {
            part: [{k: v for k, v in line.items() if k != "time"} for line in read_log(out / part / "log.jsonl")]
            for part in ("search", "retrain")
        },
    }
