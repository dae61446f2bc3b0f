"""Rankings: scores that know the truth, its reverse, or the cost alone come out as what they are."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from se_nas.evidence.ranking import Ranked, rank
from se_nas.records.models.evidence import NetworkCosts

COUNT, SEEDS = 12, (0, 1)
RNG = np.random.default_rng(0)
TRUTH = RNG.permutation(np.linspace(0.6, 0.8, COUNT))
MACS = 1e6 * (TRUTH + 0.1 * RNG.random(COUNT))  # says something of the truth, but not all


def ranked(supernet: Any, uncalibrated: Any = MACS / 1e6, seeds: tuple[int, ...] = SEEDS) -> list[Ranked]:
    return [
        Ranked(
            f"random_{i}",
            NetworkCosts(macs=MACS[i], params=MACS[i] / 10, latency_ms=None),
            float(supernet[i]),
            float(uncalibrated[i]),
            {seed: TRUTH[i] + (0.01 if seed else -0.01) for seed in seeds},
        )
        for i in range(COUNT)
    ]


def with_latency(network: Ranked, latency_ms: float | None) -> Ranked:
    return dataclasses.replace(network, costs=network.costs.model_copy(update={"latency_ms": latency_ms}))


def test_scores_that_know_the_truth() -> None:
    found = rank("all", ranked(TRUTH), SEEDS)
    json.dumps(found.plain(), allow_nan=False)
    assert found.name == "all"
    assert len(found.networks) == COUNT
    both = found.correlations["supernet"]
    assert both.kendall.value == both.spearman.value == pytest.approx(1)
    assert both.kendall.excludes_zero
    assert found.correlations["macs"].kendall.value == pytest.approx(kendalltau(MACS, TRUTH).statistic)
    assert found.correlations["macs"].spearman.value == pytest.approx(spearmanr(MACS, TRUTH).statistic)
    assert found.gain_over_macs.value == pytest.approx(1 - kendalltau(MACS, TRUTH).statistic)
    assert found.gain_of_recalibration.value == found.gain_over_macs.value
    assert found.partial_kendall.value == pytest.approx(1)
    assert found.seed_ceiling.value == pytest.approx(1)  # the second seed adds the same to all
    assert [entry.k for entry in found.regret] == [1, 3, 5]
    for entry in found.regret:
        assert entry.supernet == pytest.approx(0)
        assert entry.random > 0
    assert found.regret[0].random == pytest.approx(TRUTH.max() - TRUTH.mean())
    assert found.regret[0].macs == pytest.approx(TRUTH.max() - TRUTH[MACS.argmax()])


def test_latency_ranks_too_where_every_network_has_one() -> None:
    networks = [with_latency(network, 1 - TRUTH[i]) for i, network in enumerate(ranked(MACS / 1e6))]
    found = rank("all", networks, SEEDS)
    assert found.correlations["latency_ms"].kendall.value == pytest.approx(-1)
    assert found.regret[0].latency_ms == pytest.approx(TRUTH.max() - TRUTH.min())
    networks[0] = with_latency(networks[0], None)
    assert "latency_ms" not in rank("all", networks, SEEDS).correlations


def test_scores_that_say_the_reverse() -> None:
    found = rank("all", ranked(1 - TRUTH), SEEDS)
    assert found.correlations["supernet"].kendall.value == pytest.approx(-1)
    assert found.gain_over_macs.value < -1
    assert found.partial_kendall.value == pytest.approx(-1)
    assert found.regret[0].supernet == pytest.approx(TRUTH.max() - TRUTH.min())


def test_scores_that_know_the_cost_alone_gain_nothing_over_it() -> None:
    found = rank("all", ranked(MACS / 1e6), SEEDS)
    json.dumps(found.plain(), allow_nan=False)
    assert found.gain_over_macs.value == 0
    assert not found.gain_over_macs.excludes_zero
    assert found.partial_kendall.value is None  # nothing is left to correlate
    assert found.correlations["supernet"] == found.correlations["macs"]
    assert all(entry.supernet == entry.macs for entry in found.regret)


def test_scores_that_are_all_one_rank_nothing() -> None:
    found = rank("all", ranked(np.full(COUNT, 0.1)), SEEDS)
    json.dumps(found.plain(), allow_nan=False)
    assert found.correlations["supernet"].kendall.value is None
    assert found.gain_over_macs.value is None


def test_too_few_networks_are_no_ranking() -> None:
    networks = ranked(TRUTH)
    assert rank("few", [], SEEDS).plain() == {"name": "few", "networks": []}
    found = rank("few", networks[:2], SEEDS)
    assert found.plain().keys() == {"name", "networks"}
    assert found.networks[0].plain() == {
        "name": "random_0",
        "macs": MACS[0],
        "params": MACS[0] / 10,
        "latency_ms": None,
        "supernet": TRUTH[0],
        "uncalibrated": MACS[0] / 1e6,
        "accuracies": {"0": TRUTH[0] - 0.01, "1": TRUTH[0] + 0.01},
    }
    found = rank("few", networks[:4], SEEDS)
    assert [entry.k for entry in found.regret] == [1, 3]
    assert found.correlations["supernet"].kendall.low is None


def test_networks_that_are_not_trained_are_left_out_and_one_seed_has_no_ceiling() -> None:
    waiting = Ranked("random_99", NetworkCosts(macs=1.0, params=1.0), 0.9, 0.9, {})
    found = rank("all", [*ranked(TRUTH, seeds=(0,)), waiting], SEEDS)
    assert [entry.name for entry in found.networks] == [f"random_{i}" for i in range(COUNT)]
    assert found.seed_ceiling is None
    assert found.correlations["supernet"].kendall.n == COUNT
    mixed = [*ranked(TRUTH)[:6], *ranked(TRUTH, seeds=(0,))[6:]]
    assert rank("all", mixed, SEEDS).seed_ceiling.n == 6
