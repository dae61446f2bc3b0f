"""Searches with several seeds each, told apart by what another seed gives."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
import search_seeds
from scipy.stats import f_oneway, ttest_ind

from se_nas.errors import ConfigError
from se_nas.records.files import read_json, write_json

RESULTS = Path(__file__).resolve().parents[1] / "runs" / "results"
NAMES = ("cifar10_tiny_evidence", "cifar10_tiny_evidence_evolution", "cifar10_tiny_evidence_random")


def accuracies(rng: np.random.Generator, shape: tuple[int, int], mean: float, between: float) -> search_seeds.Numbers:
    worth = mean + between * rng.standard_normal((shape[0], 1))
    return np.asarray(worth + 0.005 * rng.standard_normal(shape))


def test_two_searches_are_told_apart_as_students_t_test_does_it() -> None:
    rng = np.random.default_rng(0)
    searches = {"a": accuracies(rng, (4, 5), 0.77, 0.01), "b": accuracies(rng, (3, 5), 0.76, 0.01)}
    found = search_seeds.told_apart(searches, accuracies(rng, (10, 5), 0.74, 0.02))
    means = [rows.mean(axis=1) for rows in searches.values()]
    expected = ttest_ind(*means)
    pair = found["pairs"]["a over b"]
    assert pair["p"] == pytest.approx(expected.pvalue)
    assert (pair["low"], pair["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    assert found["any_difference"]["p"] == pytest.approx(f_oneway(*means).pvalue)


def test_the_mean_of_random_networks_is_in_the_interval_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        searches = {name: accuracies(rng, (3, 5), 0.76, 0.008) for name in "abc"}
        one = search_seeds.told_apart(searches, accuracies(rng, (10, 5), 0.74, 0.02))["over_the_random_mean"]["b"]
        inside += one["low"] <= 0.02 <= one["high"]
    assert 0.92 < inside / 400 < 0.98


def test_runs_that_have_not_changed_but_their_seed_are_told_apart_by_no_more_than_noise() -> None:
    rng = np.random.default_rng(2)
    alone = accuracies(rng, (6, 5), 0.76, 0.0)
    found = search_seeds.told_apart({"a": alone[:3], "b": alone[3:]}, accuracies(rng, (10, 5), 0.76, 0.0))
    assert found["between_runs"]["p"] > 0.05
    assert found["noise"]["sd"] == pytest.approx(0.005, rel=0.3)


def test_published_runs_are_read_without_any_training(tmp_path: Path) -> None:
    options = argparse.Namespace(runs=[RESULTS / name for name in NAMES], data_dir=None, out=tmp_path, jobs=1)
    found = search_seeds.compare(options)
    known = read_json(RESULTS / NAMES[0] / "evidence" / "controls.json")
    answer = next(network for network in known["networks"] if network["kind"] == "answer")
    assert found["runs"][0]["accuracies"] == list(answer["accuracies"].values())
    assert found["noise"]["degrees_of_freedom"] == 13 * 4
    assert "pairs" not in found, "one run each does not tell what another would give"
    assert (tmp_path / "search_seeds.png").stat().st_size > 10_000
    assert not list(tmp_path.glob("trainings/*.json"))


def test_runs_that_are_not_alike_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(RESULTS / NAMES[0], folder)
    options = argparse.Namespace(runs=[first, second], data_dir=None, out=tmp_path, jobs=1)
    with pytest.raises(ConfigError, match="seed: must be another for each run, but 1 comes twice"):
        search_seeds.compare(options)
    config = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(config.replace("macs: 1.5M", "macs: 2M"))
    with pytest.raises(ConfigError, match="budgets: must be that of cifar10_tiny_evidence"):
        search_seeds.compare(options)
    path = first / "evidence" / "controls.json"
    write_json(path, {**read_json(path), "networks": read_json(path)["networks"][:1], "comparisons": []})
    options.runs = [first]
    with pytest.raises(ConfigError, match="one run at least must have random networks"):
        search_seeds.compare(options)
