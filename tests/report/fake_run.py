"""A plausible finished run, written as a run writes it, without training anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.table import count_tables
from se_nas.records.files import write_atomic, write_json
from se_nas.search.black_box.evaluation import Evaluation, excess_of, save_evaluations
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import dump_space, load_space

SPACES = Path(__file__).parents[2] / "search_spaces"
LIMITS = {
    "mbconv_digits": {"macs": 0.4e6, "params": 30e3, "latency_ms": 0.6},
    "mbconv_cifar": {"macs": 20e6, "params": 600e3, "latency_ms": 3.0},
    "mbconv_imagenet": {"macs": 400e6, "params": 6e6, "latency_ms": 18.0},
}
ENVIRONMENT = {
    "se_nas": "0.1.0",
    "commit": {"hash": "6430c1e0f0a1b2c3d4e5f60718293a4b5c6d7e8f", "dirty": False},
    "python": "3.11.9",
    "platform": "Linux-6.1-x86_64-with-glibc2.36",
    "cpu": "AMD EPYC 9654",
    "cores": 16,
    "threads": 8,
    "gpu": "NVIDIA H200",
    "packages": {"torch": "2.13.0", "numpy": "2.3.1", "scipy": "1.17.0", "onnx": None},
    "time": "2026-01-05T12:00:00+00:00",
}

KEY = {"device": "cuda NVIDIA H200", "runtime": "eager", "dtype": "float32", "batch_size": 1, "threads": 1}


def latency_of(costs: Mapping[str, float], limits: Mapping[str, float]) -> float:
    return limits["latency_ms"] * (0.15 + 0.78 * costs["macs"] / limits["macs"])


def pick_within(space: SearchSpace, limits: Mapping[str, float], rng: np.random.Generator) -> Architecture:
    """Of some samples that keep the budgets, the largest."""
    sampled = [space.sample(rng) for _ in range(400)]
    counts = {a: network_counts(space.resolve(a)) for a in sampled}
    kept = [a for a, c in counts.items() if c.macs <= limits["macs"] and c.params <= limits["params"]]
    return max(kept or [min(sampled, key=lambda a: counts[a].macs)], key=lambda a: counts[a].macs)


def probabilities(space: SearchSpace, picks: Mapping[str, Any], progress: float, seed: int) -> dict[str, list[float]]:
    """Softmaxes that move from uniform towards the picks, each at its own pace and with detours."""
    found = {}
    for number, choice in enumerate(space.choices):
        own = np.random.default_rng([seed, number])
        rival, pace = own.integers(len(choice.options)), own.uniform(0.6, 1.6)
        logits = 0.25 * own.normal(size=len(choice.options)) * min(1.0, 4 * progress)
        logits[rival] += 2.2 * np.exp(-(((progress - 0.35) / 0.22) ** 2)) * (progress > 0)
        logits[choice.index(picks[choice.name])] += 6 * max(progress - 0.15, 0) ** 1.4 * pace
        share = np.exp(logits - logits.max())
        found[choice.name] = [float(p) for p in share / share.sum()]
    return found


def search_history(
    space: SearchSpace, picks: Mapping[str, Any], limits: Mapping[str, float], epochs: int, seed: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    tables, warmup = count_tables(space), epochs // 6
    rows = []
    for epoch in range(epochs):
        warm = epoch < warmup
        progress = 0.0 if warm else (epoch + 1 - warmup) / (epochs - warmup)
        shares = probabilities(space, picks, progress, seed)
        tensors = {name: torch.tensor(p, dtype=torch.float64) for name, p in shares.items()}
        expected = {metric: float(table.expected_cost(tensors)) for metric, table in tables.items()}
        expected["latency_ms"] = latency_of(expected, limits)
        entropy = np.mean([-sum(p * np.log(p) for p in row) / np.log(len(row)) for row in shares.values()])
        over = max(expected["macs"] / limits["macs"] - 1, 0)
        rows.append(
            {
                "epoch": epoch,
                "searching": not warm,
                "accuracy": float(0.85 - 0.55 * np.exp(-4 * (epoch + 1) / epochs)),
                "loss": 0.55 + 1.7 * float(np.exp(-epoch / (0.28 * epochs))) + 0.02 * float(rng.normal()),
                **({} if warm else {"choice_loss": 0.5 + 0.8 * float(np.exp(-3 * progress))}),
                "validation_accuracy": None
                if warm or epoch % 5 != 4
                else float(0.90 - 0.45 * np.exp(-2.5 * progress) + 0.006 * rng.normal()),
                "temperature": None if warm else float(5 * 0.04**progress),
                "entropy": float(entropy),
                "expected": expected,
                "multipliers": {} if warm else {"macs": 0.4 + over, "params": 0.1 + 0.3 * progress, "latency_ms": 0.0},
                "probabilities": shares,
                "lr": 0.05 * (1 - epoch / epochs),
                "warnings": ["stage4.block2.se: SE-off collapse, entropy below 0.05"] if epoch in (29, 30, 31) else [],
            }
        )
    return rows


def retrain_history(epochs: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(epochs):
        gain = 1 - float(np.exp(-4 * (epoch + 1) / epochs))
        rows.append(
            {
                "epoch": epoch,
                "loss": 2.2 - 2.1 * gain + 0.02 * float(rng.normal()),
                "accuracy": min(0.30 + 0.69 * gain, 0.995),
                "test_accuracy": 0.35 + 0.59 * gain + 0.006 * float(rng.normal()) if epoch % 5 == 4 else None,
                "lr": 0.1 * (1 - epoch / epochs),
            }
        )
    return rows


def cost_entries(costs: Mapping[str, float]) -> list[dict[str, Any]]:
    units = {"macs": "MACs", "params": "parameters", "latency_ms": "ms"}
    return [
        {
            "metric": metric,
            "unit": units[metric],
            "value": value,
            "how": "measured" if metric == "latency_ms" else "counted",
            "n": 50 if metric == "latency_ms" else 1,
            "ci95": [0.985 * value, 1.017 * value] if metric == "latency_ms" else None,
        }
        for metric, value in costs.items()
    ]


def make_fake_run(
    folder: Path, space_name: str = "mbconv_cifar", *, epochs: int = 60, seed: int = 0, complete: bool = True
) -> Path:
    """Write a run folder; with `complete` false only what every run has, under a MACs budget alone."""
    rng = np.random.default_rng(seed)
    space = load_space(SPACES / f"{space_name}.yaml")
    limits = LIMITS[space_name]
    architecture = pick_within(space, limits, rng)
    network = space.resolve(architecture)
    counts = network_counts(network)
    costs: dict[str, float] = {"macs": counts.macs, "params": counts.params}
    if complete:
        costs["latency_ms"] = latency_of(costs, limits)
    kept = {metric: limit for metric, limit in limits.items() if complete or metric == "macs"}
    entries = cost_entries(costs)
    budgets = [
        {**entry, "limit": kept[entry["metric"]], "holds": entry["value"] <= kept[entry["metric"]]}
        for entry in entries
        if entry["metric"] in kept
    ]
    predicted = [
        {**entry, "how": "predicted", "value": 0.98 * entry["value"], "ci95": None}
        for entry in entries
        if entry["metric"] == "latency_ms"
    ]
    images = 10_000 if complete else 297
    result = {
        "name": space_name.removeprefix("mbconv_"),
        "seed": seed,
        "data": {
            "name": space_name.removeprefix("mbconv_") + "10" * (space_name == "mbconv_cifar"),
            "classes": space.classes,
            "parts": {"weights": 30_000, "choices": 15_000, "validation": 5_000},
        },
        "space": {
            "name": space.name,
            "digest": space.digest,
            "size": str(space.size),
            "choices": len(space.choices),
        },
        "budgets": kept,
        "search": {
            "strategy": "differentiable",
            "epochs": epochs,
            "pretrain_epochs": epochs // 6,
            "seconds": 4210.0,
            "images": 45_000 * epochs,
            "validation_accuracy": 0.8874,
            "decodes": [
                {"limits": kept, "costs": costs, "score": 0.912, "measured_ms": 1.04 * limits["latency_ms"]},
                {"limits": kept, "costs": costs, "score": 0.884, "measured_ms": 0.93 * limits["latency_ms"]},
            ],
        },
        "retrain": {
            "epochs": 90,
            "seconds": 6123.0,
            "images": 4_000_000,
            "test_accuracy": 0.9342,
            "test_images": images,
            "train_accuracy": 0.9921,
            "ema_test_accuracy": 0.9351,
        }
        if complete
        else None,
        "environment": ENVIRONMENT,
        "cost_ledger": [
            {"part": "latency table", "seconds": 312.4},
            {"part": "search", "seconds": 4210.0},
            {"part": "retraining", "seconds": 6123.0},
        ],
    }
    write_json(folder / "result.json", result)
    save_architecture(folder / "architecture.json", ArchitectureFile(architecture, space.name, network))
    write_json(
        folder / "certificate.json",
        {
            "version": 1,
            "budgets": budgets,
            "costs": [*entries, *predicted],
            "cross_check": {
                "macs": counts.macs,
                "params": counts.params,
                "counter": "torch.utils.flop_counter, half of its operations",
                "built_macs": counts.macs,
                "built_params": counts.params,
                "agree": True,
                "note": "Neither counts activations.",
            },
            "latency_conditions": KEY,
            "environment": ENVIRONMENT,
        },
    )
    write_json(folder / "choices.json", {choice.name: list(choice.options) for choice in space.choices})
    history = search_history(space, architecture.as_dict(), limits, epochs, seed)
    if not complete:
        for row in history:
            row["expected"] = {"macs": row["expected"]["macs"]}
    write_json(folder / "search" / "history.json", history)
    if complete:
        write_atomic(folder / "config.yaml", f"name: {result['name']}\nseed: {seed}\nbudgets: {{macs: 20M}}\n")
        write_json(folder / "retrain" / "history.json", retrain_history(90, seed))
        measured = limits["latency_ms"] * rng.uniform(0.35, 1.6, 40)
        guessed = measured * (1 + 0.035 * rng.normal(size=40))
        error = np.abs(guessed / measured - 1)
        write_json(
            folder / "latency.json",
            {
                "format": "se_nas latency table",
                "version": 1,
                "space": {"name": space.name, "digest": space.digest},
                "key": KEY,
                "blocks": [],
                "calibration": [],
                "report": {
                    "seconds": 312.4,
                    "environment": {"torch": "2.13.0"},
                    "held_out": {
                        "n": 40,
                        "mape": float(error.mean()),
                        "within_5": float((error <= 0.05).mean()),
                        "within_10": float((error <= 0.10).mean()),
                        "spearman": 0.991,
                        "residual_std": float(error.std()),
                    },
                    "calibrated_on": 24,
                    "intercept_ms": 0.11,
                    "factor": 0.87,
                },
                "held_out": [
                    {"picks": {}, "ms": ms, "predicted_ms": guess}
                    for ms, guess in zip(measured.tolist(), guessed.tolist(), strict=True)
                ],
            },
        )
    return folder


def fake_evaluations(
    space: SearchSpace, budgets: Sequence[Budget], count: int, seed: int = 0, epochs: int = 0
) -> list[Evaluation]:
    """Random architectures whose accuracy grows with their MACs; with `epochs`, curves, every third one pruned."""
    rng = np.random.default_rng(seed)
    found: list[Evaluation] = []
    known: dict[Architecture, Evaluation] = {}
    for number in range(count):
        architecture = space.sample(rng)
        counts = network_counts(space.resolve(architecture))
        costs = {"macs": float(counts.macs), "params": float(counts.params)}
        accuracy = min(0.5 + 0.1 * np.log10(counts.macs / 1e4) + 0.03 * float(rng.normal()), 0.99)
        curve = [(epoch, accuracy * (1 - 0.5 ** (epoch + 1))) for epoch in range(epochs)]
        pruned = bool(epochs) and number % 3 == 2
        same = known.get(architecture)
        entry = Evaluation(
            number=number,
            architecture=architecture,
            state="pruned" if pruned else "complete",
            accuracy=same.accuracy if same else curve[1][1] if pruned else accuracy,
            costs=costs,
            excess=excess_of(costs, budgets),
            seconds=1.5,
            same_as=same.number if same else None,
            curve=curve[:2] if pruned else curve,
        )
        known.setdefault(architecture, entry)
        found.append(entry)
    return found


def make_fake_study(
    folder: Path,
    budgets: Sequence[Budget],
    evaluations: Sequence[Evaluation],
    *,
    objectives: Sequence[str] = ("accuracy", "macs"),
    evaluator: str = "table",
    chosen: Architecture | None = None,
) -> Path:
    """Make a run folder that of a black-box search, with no training of a supernet and no latency."""
    make_fake_run(folder, "mbconv_digits", epochs=4, complete=False)
    space = load_space(SPACES / "mbconv_digits.yaml")
    (folder / "search" / "history.json").unlink()
    write_atomic(folder / "space.yaml", dump_space(space))
    if chosen is not None:
        file = ArchitectureFile(chosen, space.name, space.resolve(chosen))
        save_architecture(folder / "architecture.json", file)
    result = json.loads((folder / "result.json").read_text())
    result["search"] = {"strategy": "optuna", "sampler": "nsga2", "evaluator": evaluator, "seconds": 30.0, "images": 0}
    write_json(folder / "result.json", result)
    save_evaluations(
        folder / "search" / "evaluations.json", evaluations, objectives=objectives, sampler="nsga2", budgets=budgets
    )
    shares = {choice.name: (place + 1.0) for place, choice in enumerate(space.choices)}
    total = sum(shares.values())
    write_json(folder / "search" / "importance.json", {name: share / total for name, share in shares.items()})
    return folder
