"""Searches with several seeds each, told apart by what another seed gives, and from random networks."""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import search_seeds
from scipy.stats import f_oneway, linregress, ttest_ind
from search_seeds_told import Networks, best_of_by_one_training, told_apart

from se_nas.cost.counts import network_counts
from se_nas.errors import ConfigError
from se_nas.records.files import read_json, write_json
from se_nas.space.yaml.file import load_space

RESULTS = Path(__file__).resolve().parents[1] / "runs" / "results"
NAMES = ("cifar10_tiny_evidence", "cifar10_tiny_evidence_evolution", "cifar10_tiny_evidence_random")


def networks(rng: np.random.Generator, count: int, mean: float, between: float, slope: float = 0.0) -> Networks:
    """Of 16 to 64 thousand parameters, which are worth `slope` a doubling."""
    sizes = 2.0 ** rng.uniform(14, 16, count)
    worth = mean + slope * (np.log2(sizes) - 15) + between * rng.standard_normal(count)
    return Networks(worth[:, None] + 0.005 * rng.standard_normal((count, 5)), sizes)


def test_two_searches_are_told_apart_as_students_t_test_does_it() -> None:
    rng = np.random.default_rng(0)
    searches = {"a": networks(rng, 4, 0.77, 0.01), "b": networks(rng, 3, 0.76, 0.01)}
    found = told_apart(searches, {"all": networks(rng, 10, 0.74, 0.02)})
    means = [one.worth for one in searches.values()]
    expected = ttest_ind(*means)
    pair = found["pairs"]["a over b"]
    assert pair["p"] == pair["p_holm"] == pytest.approx(expected.pvalue)
    assert (pair["low"], pair["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    assert found["any_difference"]["p"] == pytest.approx(f_oneway(*means).pvalue)


@pytest.mark.parametrize("slope", [0.0, 0.04])
def test_intervals_hold_what_they_are_of_as_often_as_they_say(slope: float) -> None:
    """Answers are 0.02 better than random networks of their size."""
    rng = np.random.default_rng(1)
    mean, size = [], []
    for _ in range(300):
        searches = {name: networks(rng, 3, 0.76, 0.008, slope) for name in "abc"}
        found = told_apart(searches, {"all": networks(rng, 12, 0.74, 0.008, slope)})
        mean.append(found["random"]["all"]["answers_over_their_mean"]["b"])
        size.append(found["by_size"]["answers_over_it"]["b"])
    assert 0.92 < np.mean([one["low"] <= 0.02 <= one["high"] for one in size]) < 0.99
    if not slope:
        assert 0.92 < np.mean([one["low"] <= 0.02 <= one["high"] for one in mean]) < 0.99
        assert np.mean([one["high"] - one["low"] for one in mean]) < 0.03


def test_the_best_of_some_by_one_training_is_judged_by_the_others() -> None:
    rng = np.random.default_rng(4)
    random = Networks(rng.normal(0.7, 0.02, (5, 3)), np.ones(5))
    gains = [
        np.delete(row, seed).mean() - np.delete(random.accuracies, seed, axis=1).mean()
        for seed in range(3)
        for drawn in itertools.combinations(range(5), 2)
        for row in [max((random.accuracies[i] for i in drawn), key=lambda row: row[seed])]
    ]
    assert best_of_by_one_training(random, 2) == pytest.approx(np.mean(gains))
    assert best_of_by_one_training(random, 1) == pytest.approx(0)


def test_answers_that_differ_by_noise_alone_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(2)
    small = []
    for _ in range(200):
        found = told_apart({name: networks(rng, 3, 0.76, 0.0) for name in "ab"}, {"all": networks(rng, 10, 0.7, 0.02)})
        small.append(found["between_runs"]["p"] < 0.05)
    assert np.mean(small) < 0.1


def test_one_search_whose_answers_are_all_the_same_network_has_the_noise_of_trainings() -> None:
    same = Networks(np.array([[0.75, 0.76, 0.77]] * 2), np.array([30e3, 30e3]))
    found = told_apart({"a": same}, {"all": networks(np.random.default_rng(3), 10, 0.7, 0.02)})
    assert found["pairs"] == {}
    assert "any_difference" not in found
    assert found["between_runs"]["sd"] == 0.0
    json.dumps(found, allow_nan=False)


def options(runs: list[Path], out: Path, **more: Any) -> argparse.Namespace:
    given = {"data_dir": None, "jobs": 1, "seeds": 5, "full": 0, "space": search_seeds.SPACE, **more}
    return argparse.Namespace(runs=runs, out=out, **given)


def test_published_runs_are_read_without_any_training(tmp_path: Path) -> None:
    found = search_seeds.compare(options([RESULTS / name for name in NAMES], tmp_path))
    known = read_json(RESULTS / NAMES[0] / "evidence" / "controls.json")["networks"]
    answer = next(network for network in known if network["kind"] == "answer")
    assert found["runs"][0]["accuracies"] == list(answer["accuracies"].values())
    random = [network for network in known if network["kind"] == "random"]
    line = linregress(
        [np.log2(network["costs"]["params"]) for network in random],
        [np.mean(list(network["accuracies"].values())) for network in random],
    )
    assert found["by_size"]["of_a_doubling"]["value"] == pytest.approx(line.slope)
    assert found["by_size"]["of_a_doubling"]["p"] == pytest.approx(line.pvalue)
    assert "pairs" not in found, "one run each does not tell what another would give"
    assert (tmp_path / "search_seeds.png").stat().st_size > 10_000
    assert not list(tmp_path.glob("trainings/*.json"))


def test_the_published_figures_follow_from_the_published_files(tmp_path: Path) -> None:
    published = RESULTS / "cifar10_tiny_seeds"
    shutil.copytree(published / "trainings", tmp_path / "trainings")
    runs = [*(RESULTS / name for name in NAMES), *sorted(published.glob("*_2"))]
    found = search_seeds.compare(options(runs, tmp_path, seeds=2, full=8))
    stored = read_json(published / "search_seeds.json")
    differing = {"environment"}
    assert {key for key in stored if key not in differing} == {key for key in found if key not in differing}
    for key in ("runs", "networks"):
        assert found[key] == stored[key]
    for group in ("full", "of the evidence"):
        ours, theirs = (one["random"][group]["answers_over_their_mean"] for one in (found, stored))
        assert ours == {name: pytest.approx(one) for name, one in theirs.items()}
    assert found["pairs"] == {name: pytest.approx(one) for name, one in stored["pairs"].items()}


def test_full_networks_use_up_every_budget() -> None:
    config = search_seeds.Run.load(RESULTS / NAMES[0]).config
    found = search_seeds.full_networks(config, load_space(search_seeds.SPACE), 2)
    assert len(set(found)) == 2
    for counts in map(network_counts, found):
        assert 0.9 * 1.5e6 <= counts.macs <= 1.5e6
        assert 0.9 * 40e3 <= counts.params <= 40e3


def test_runs_that_are_not_alike_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(RESULTS / NAMES[0], folder)
    with pytest.raises(ConfigError, match=r"second: seed: must be another for each run of \w+, but 1 comes twice"):
        search_seeds.compare(options([first, second], tmp_path))
    config = (second / "config.yaml").read_text()
    changed = config.replace("seed: 1", "seed: 2").replace("macs: 1.5M", "macs: 2M").replace("count: 8", "count: 4")
    (second / "config.yaml").write_text(changed)
    with pytest.raises(ConfigError, match=r"(?s)budgets: must be that of cifar10_tiny_evidence.*finalists: must be"):
        search_seeds.compare(options([first, second], tmp_path))
    path = first / "evidence" / "controls.json"
    write_json(path, {**read_json(path), "networks": read_json(path)["networks"][:1], "comparisons": []})
    with pytest.raises(ConfigError, match="one run must have two random networks"):
        search_seeds.compare(options([first], tmp_path))
