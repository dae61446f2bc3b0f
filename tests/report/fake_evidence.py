"""A plausible evidence folder, written as `se-nas evidence` writes it, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from se_nas.evidence.comparisons import compare
from se_nas.evidence.controls import Control
from se_nas.evidence.pilot.regime import regime
from se_nas.evidence.ranking import Ranked, rank
from se_nas.evidence.statistics import spearman
from se_nas.records.files import write_json
from se_nas.records.models.evidence import NetworkCosts
from se_nas.records.models.plan import Rival
from se_nas.space.yaml.file import parse_space
from tests.helpers.tiny_runs import SPACE

BLOCKS = [
    f"stage{stage}.block{block}" for stage, blocks in ((1, 2), (2, 3), (3, 4), (4, 2)) for block in range(1, blocks + 1)
]
RATIOS = ("none", "r16", "r8", "r4")
TEST_IMAGES = 10_000
_TINY = parse_space(SPACE, "tiny")
SPEC = _TINY.resolve(_TINY.sample(np.random.default_rng(0)))  # of every network: pages show their names

Json = dict[str, Any]


def accuracies(rng: np.random.Generator, mean: float, noise: np.ndarray) -> dict[str, float]:
    """One accuracy a seed: seeds shift every network alike, and each training has its own noise."""
    return {str(seed): float(mean + shift + 0.0015 * rng.normal()) for seed, shift in enumerate(noise)}


def control_networks(rng: np.random.Generator, seeds: int = 3, randoms: int = 8) -> list[Json]:
    shifts = 0.003 * rng.normal(size=seeds)
    named = [
        ("answer", "answer", "the search's answer", 0.712),
        ("no_se", "baseline", "no SE anywhere", 0.701),
        ("se_r4", "baseline", "SE everywhere, r = 4", 0.711),
        ("se_r16", "baseline", "SE everywhere, r = 16", 0.7105),
        ("mobilenet_v2", "published", "MobileNetV2 scaled to the budgets", 0.684),
        ("best_of_random", "best_of_random", "best of 200 random networks by the supernet", 0.7095),
        ("optuna", "other_answer", "answer of the search in cifar10_optuna", 0.713),
        *((f"random{i}", "random", f"random network {i}", 0.702 + 0.004 * rng.normal()) for i in range(randoms)),
        *((f"seed{i}", "search_seed", f"answer of seed {i}", 0.711 + 0.001 * rng.normal()) for i in (1, 2)),
    ]
    return [
        {
            "name": name,
            "kind": kind,
            "label": label,
            "costs": {
                "macs": float(rng.uniform(5.4e6, 6e6)),
                "params": float(rng.uniform(9e4, 1.2e5)),
                "latency_ms": None if kind == "published" else float(rng.uniform(1.1, 1.3)),
            },
            "supernet_accuracy": None if kind == "published" else mean - 0.1,
            "se": [str(option) for option in rng.choice(RATIOS, 9)],
            "accuracies": accuracies(rng, mean, shifts),
            "failed": {},
        }
        for name, kind, label, mean in named
    ]


def comparisons(networks: list[Json], seeds: int, claim: Rival | None = None) -> list[Json]:
    found = {n["name"]: {int(seed): value for seed, value in n["accuracies"].items()} for n in networks}
    compared = [Control(n["name"], n["kind"], n["label"], None, SPEC) for n in networks if n["kind"] != "search_seed"]
    return [entry.plain() for entry in compare(compared, found, range(seeds), TEST_IMAGES, claim)]


def controls(seed: int = 0, seeds: int = 3) -> Json:
    networks = control_networks(np.random.default_rng(seed), seeds)
    return {
        "seeds": list(range(seeds)),
        "test_images": TEST_IMAGES,
        "recipe": {"epochs": 8, "batch_size": 128, "lr": 0.1},
        "budgets": {"macs": 6e6, "params": 1.2e5},
        "networks": networks,
        "comparisons": comparisons(networks, seeds),
    }


def planned(lead: float, spread: float = 0.01, claim: Rival = "random_mean", seeds: int = 5, done: int = 5) -> Json:
    """Controls with a plan, whose answer leads the mean of the random networks by so much.

    Args:
        spread: of the random networks, where a training has a noise of 0.0015.
        done: seeds that are trained.
    """
    found, places = controls(seeds=seeds), np.linspace(-1.4, 1.4, 8)
    random = [network for network in found["networks"] if network["kind"] == "random"]
    rng, shifts = np.random.default_rng(7), np.zeros(done)
    found["networks"][0]["accuracies"] = accuracies(rng, 0.7 + lead, shifts)
    for network, place in zip(random, places, strict=True):
        network["accuracies"] = accuracies(rng, 0.7 + spread * place, shifts)
        if claim == "of_size_mean":
            network["kind"] = "of_size"
    primary = {"against": claim, "difference": 0.01, "noise": 0.0015}
    plan = {
        "written": "2026-11-28T09:10:11+00:00",
        "commit": None,
        "primary": {**primary, **({} if claim == "random_best" else {"spread": 0.01})},
        "networks": len(random),
        "seeds": found["seeds"],
        "power": 0.84,
        "needed": seeds,
    }
    known = [list(network["accuracies"].values()) for network in random]
    entries = comparisons(found["networks"], seeds, claim)
    return {**found, "comparisons": entries, "plan": plan, "regime": regime(known, 1 / TEST_IMAGES).plain()}


def estimate(value: float, low: float | None, high: float | None, n: int) -> Json:
    return {"value": value, "low": low, "high": high, "n": n, "method": "made up", "p": None}


def ranking_set(rng: np.random.Generator, name: str, count: int, seeds: int = 2) -> Json:
    macs = rng.uniform(3e6, 9e6, count)
    true = 0.5 + 0.02 * np.log(macs / 3e6) + 0.008 * rng.normal(size=count)
    supernet = true - 0.1 + 0.006 * rng.normal(size=count)
    worse = true - 0.3 + 0.03 * rng.normal(size=count)
    params = macs / 50 * rng.uniform(0.8, 1.3, count)
    networks = [
        Ranked(
            f"{name} {i}",
            NetworkCosts(macs=float(macs[i]), params=float(params[i]), latency_ms=None),
            float(supernet[i]),
            float(worse[i]),
            {int(seed): value for seed, value in accuracies(rng, float(true[i]), np.zeros(seeds)).items()},
        )
        for i in range(count)
    ]
    return {
        **rank(name, networks, range(seeds)).plain(),
        "partial_kendall": estimate(0.44, 0.2, 0.63, count),
        "gain_over_macs": estimate(0.21, 0.03, 0.39, count),
        "gain_of_recalibration": estimate(0.05, -0.06, 0.16, count),
        "seed_ceiling": estimate(0.86, 0.78, 0.91, count),
        "regret": [
            {"k": 1, "supernet": 0.004, "macs": 0.009, "random": 0.031},
            {"k": 3, "supernet": 0.0, "macs": 0.004, "random": 0.016},
            {"k": 5, "supernet": 0.0, "macs": 0.0, "random": 0.011},
        ],
    }


def ranking(seed: int = 1) -> Json:
    rng = np.random.default_rng(seed)
    sets = [ranking_set(rng, "within the budgets", 30), ranking_set(rng, "whole space", 200)]
    return {"seeds": [0, 1], "test_images": TEST_IMAGES, "sets": sets}


def stability(seed: int = 2, searches: int = 3) -> Json:
    rng = np.random.default_rng(seed)
    leaning = {block: rng.dirichlet(0.6 * np.ones(4)) for block in BLOCKS}
    answers = [
        {
            "name": "answer" if i == 0 else f"seed{i}",
            "seed": i,
            "costs": {"macs": 5.9e6, "params": 1.1e5, "latency_ms": 1.2},
            "se": {
                block: None if block == "stage3.block4" and i else str(rng.choice(RATIOS, p=leaning[block]))
                for block in BLOCKS
            },
            "accuracies": accuracies(rng, 0.71, np.zeros(3)),
        }
        for i in range(searches)
    ]
    pairs = [(i, j) for i in range(searches) for j in range(i)]

    def agreed(block: str, ratio: bool) -> float | None:
        def state(i: int) -> Any:
            option = answers[i]["se"][block]
            return option if ratio or option in (None, "none") else "on"

        return float(np.mean([state(i) == state(j) for i, j in pairs])) if pairs else None

    blocks = [
        {
            "block": block,
            "options": [answer["se"][block] for answer in answers],
            "on_off": agreed(block, False),
            "ratio": agreed(block, True),
            "random_on_off": 0.62,
            "random_ratio": 0.25,
        }
        for block in BLOCKS
    ]
    whole = {
        key: {
            "value": float(np.mean([block[key] for block in blocks])) if pairs else None,
            "random": blocks[0][f"random_{key}"],
        }
        for key in ("on_off", "ratio")
    }
    return {
        "seeds": list(range(searches)),
        "answers": answers,
        "distance": {"value": 0.34 if pairs else None, "random": 0.61},
        "blocks": blocks,
        **whole,
        "accuracy": {
            "mean": 0.7104,
            "between_searches": 0.0009 if pairs else None,
            "between_trainings": 0.0017,
        },
    }


def where_se_pays(seed: int = 3) -> Json:
    rng = np.random.default_rng(seed)
    blocks = []
    for depth, block in enumerate(BLOCKS):
        channels = (32, 64, 96, 192)[int(block[5]) - 1]
        options = []
        for name in RATIOS[1:]:
            hidden = max(channels // int(name[1:]), 1)
            gain = float(0.012 * (depth / 10) ** 2 * (1 - 0.02 * int(name[1:])) + 0.0015 * rng.normal())
            half = float(rng.uniform(0.001, 0.004))
            options.append(
                {
                    "option": name,
                    "hidden": hidden,
                    "gain": gain,
                    "low": gain - half,
                    "high": gain + half,
                    "params": 2 * channels * hidden + channels + hidden,
                    "macs": 2 * channels * hidden + channels * (32 >> int(block[5])) ** 2,
                    "latency_ms": 0.02 + 0.0004 * channels / 10,
                }
            )
        chosen = None if block == "stage3.block4" else RATIOS[(depth * 7) % 4]
        blocks.append({"block": block, "resolution": 32 >> int(block[5]), "channels": channels, "chosen": chosen,
                "reference": "none",
                       "options": options})  # fmt: skip
    alone = [{"block": BLOCKS[4], "option": "r4", "value": 0.002, "low": -0.004, "high": 0.008, "n": 3}]
    return {"images": 5000, "contexts": 4, "blocks": blocks, "stand_alone": alone}


def latency_check(seed: int = 4) -> Json:
    rng = np.random.default_rng(seed)
    sets = []
    for name, (low, high) in (("best by the supernet", (1.12, 1.22)), ("random", (0.6, 1.6))):
        measured = rng.uniform(low, high, 12)
        predicted = measured * (1 + 0.03 * rng.normal(size=12))
        error = np.abs(predicted / measured - 1)
        sets.append(
            {
                "name": name,
                "networks": [
                    {
                        "name": f"{name} {i}",
                        "predicted_ms": float(predicted[i]),
                        "measured_ms": float(measured[i]),
                        "low": float(0.985 * measured[i]),
                        "high": float(1.02 * measured[i]),
                    }
                    for i in range(12)
                ],
                "mape": float(error.mean()),
                "bias": float((predicted / measured - 1).mean()),
                "within_5": float((error <= 0.05).mean()),
                "within_10": float((error <= 0.10).mean()),
                "spearman": spearman(predicted, measured).entry.plain(),
            }
        )
    return {
        "conditions": {"device": "cpu", "runtime": "eager", "dtype": "float32", "threads": 1, "batch_size": 1},
        "sets": sets,
    }


def ledger() -> Json:
    return {
        "parts": [
            {"part": "search", "seconds": 5210.0, "device_seconds": None, "images": 2_700_000, "joules": 312_000.0},
            {"part": "controls", "seconds": 15_210.0, "device_seconds": None, "images": 9_600_000, "joules": None},
            {"part": "latency", "seconds": 61.0, "device_seconds": None, "images": None, "joules": 3_300.0},
        ],
        "energy_source": "RAPL",
    }


def whole_evidence() -> dict[str, Json]:
    """Each part by the name of its file."""
    return {
        "controls": controls(),
        "ranking": ranking(),
        "stability": stability(),
        "where_se_pays": where_se_pays(),
        "latency_check": latency_check(),
        "ledger": ledger(),
    }


def make_fake_evidence(run: Path, **changed: Json) -> Path:
    """Write `evidence/` into a run's folder, some parts replaced."""
    for name, part in {**whole_evidence(), **changed}.items():
        write_json(run / "evidence" / f"{name}.json", part)
    return run
