"""The table of SE placements: how it is made, what it answers, and how searches of it are judged."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import regret
import se_table
import se_table_answers as placements
import se_table_guides as guides
import se_table_regret as table_regret
import supernet_ranking as ranking

from se_nas.cost.counts import network_counts
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_train
from se_nas.records.files import read_json
from se_nas.records.models.network_table import NetworkTable
from se_nas.records.record import read_record, write_record
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.space.yaml.file import load_space


@pytest.fixture
def small_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script on a space of two networks of 8x8 pixels, one epoch each."""
    stage = {"width": 8, "stride": 2, "kernel": 3, "expansion": 4, "se": {"options": ["none", 4], "divisor": 1}}
    space = {"name": "small", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}
    (tmp_path / "space.yaml").write_text(json.dumps(space))
    monkeypatch.setattr(se_table, "SPACE", tmp_path / "space.yaml")
    monkeypatch.setattr(se_table, "DATA", "synthetic")
    monkeypatch.setattr(se_table, "CHANGES", {"epochs": 1, "batch_size": 500, "warmup_epochs": 0})
    monkeypatch.setattr(se_table, "VISITS", 2)
    monkeypatch.setattr(se_table, "ROUNDS", 1)
    return se_table


def test_a_table_of_placements_is_trained_once_timed_and_read_by_the_evaluator(
    small_table: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    options = argparse.Namespace(data_dir=None, seeds=[0], pilot=False, only=(), set=None, jobs=1)
    found = small_table.train(folder, options)
    assert (found["trainings"], found["networks"], found["sd_between_seeds"]) == (2, 2, None)
    plan = json.loads((folder / "plan.json").read_text())
    del plan["recipe"]["class_weights"]  # as a folder has it that was begun before there was this key
    (folder / "plan.json").write_text(json.dumps(plan))
    options.seeds = [0, 1]
    assert small_table.train(folder, options)["trainings"] == 4
    monkeypatch.setattr("se_nas.runs.evidence.trainings.train_network", None)  # for what is done is not trained again
    assert small_table.train(folder, options)["trainings"] == 4
    small_table.time_latencies(folder)
    merged = small_table.merge(folder, tmp_path / "table.json")
    assert (merged["networks"], merged["of"], merged["trainings"]) == (2, 2, 4)
    space = load_space(small_table.SPACE)
    table = TableEvaluator.load(
        tmp_path / "table.json", space, ["params", "latency_ms.eager", "latency_ms.onnxruntime"]
    )
    stored = read_record(NetworkTable, tmp_path / "table.json")
    for architecture, network in zip(space.enumerate(), stored.networks, strict=True):
        assert sorted(network.accuracies) == ["0", "1"]
        assert table(architecture) == pytest.approx(sum(network.accuracies.values()) / 2)
    with pytest.raises(SystemExit, match="its recipe has another epochs"):
        small_table.train(folder, argparse.Namespace(**{**vars(options), "set": ["epochs=2"]}))


def test_a_part_of_the_placements_can_be_named() -> None:
    space = load_space(se_table.SPACE)
    named = list(se_table.jobs(space, [0, 3], False, ["00000", "12001"]))
    assert [(se_table.key_of(space, network), seed) for network, seed in named] == [
        ("00000", 0),
        ("12001", 0),
        ("00000", 3),
        ("12001", 3),
    ]
    assert named[1][0]["stage3.block2.se"] == "r4"
    assert len(set(se_table.jobs(space, [0, 1], False, ()))) == 2 * 243
    with pytest.raises(SystemExit, match=r"--only: .* but got 90000"):
        list(se_table.jobs(space, [0], False, ["90000"]))


def test_noise_between_seeds_is_pooled_over_the_networks_that_have_several() -> None:
    noise = se_table.noise_of([[0.50, 0.52], [0.60, 0.60, 0.66], [0.70]])
    pooled = math.sqrt((2 * 0.01**2 + (2 * 0.02**2 + 0.04**2)) / 3)
    assert noise.between_seeds == pytest.approx(100 * pooled, abs=1e-3)
    assert noise.between_networks == pytest.approx(100 * statistics.stdev([0.51, 0.62, 0.70]), abs=1e-3)
    assert se_table.noise_of([[0.5], [0.7]]).between_seeds is None


def made_up_table(worth: Callable[[tuple[int, ...]], float], noise: float, seed: int = 2) -> NetworkTable:
    """All settings of three blocks, whose accuracies in points are given, and two trainings with noise of that sd."""
    rng, options = np.random.default_rng(seed), ("none", "r4", "r16")
    networks = [
        {
            "picks": {f"block{i}.se": options[option] for i, option in enumerate(row)},
            "accuracies": {str(s): 0.7 + worth(row) / 100 + rng.normal(0, noise) / 100 for s in range(2)},
            "costs": {"params": 100 + sum((0, 4, 1)[option] for option in row)},
            "cpu_seconds": 1.0,
        }
        for row in itertools.product(range(3), repeat=3)
    ]
    return NetworkTable.model_validate(
        {
            "space": {"name": "made up", "digest": "0"},
            "data": "none",
            "train_images": 1,
            "test_images": 1,
            "recipe": {},
            "noise": {"between_seeds": noise, "between_networks": 1.0},
            "cpu_seconds": 1.0,
            "latency": {},
            "environments": [],
            "networks": networks,
        }
    )


def test_effects_and_additivity_of_placements_are_found_again() -> None:
    def additive(row: tuple[int, ...]) -> float:
        return (0.0, 2.0, 1.0)[row[0]] + (0.0, 0.5, 0.4)[row[1]]

    found = placements.answers(placements.Placements(made_up_table(additive, 0.1)))
    for block, option, worth in (("block0.se", "r4", 2), ("block0.se", "r16", 1), ("block2.se", "r4", 0)):
        gain = found["effects"][block][option]
        assert gain["low"] - 0.05 < worth < gain["high"] + 0.05
        assert gain["high"] - gain["low"] < 0.3
    assert found["additive"]["p"] > 0.01
    assert found["any_effect"]["p"] < 0.001
    assert placements.answers(placements.Placements(made_up_table(lambda row: 0.0, 0.1)))["any_effect"]["p"] > 0.01
    assert found["everywhere"]["none"]["best_over_it"]["points"] == pytest.approx(2.5, abs=0.2)
    over_none = found["everywhere"]["r16"]["over_none"]
    sums = sum(gains["r16"]["points"] for gains in found["effects"].values())
    assert over_none["points"] == pytest.approx(sums, abs=1e-3)
    assert 1.3 < over_none["low"] < 1.4 + 0.1 < over_none["high"] < 1.7
    by_two = found["everywhere"]["r16"]["over_none_by_its_trainings"]
    assert by_two["points"] == pytest.approx(1.4, abs=0.3)
    assert by_two["high"] - by_two["low"] > over_none["high"] - over_none["low"]
    together = placements.answers(placements.Placements(made_up_table(lambda row: 2.0 * (0 not in row[:2]), 0.1)))
    assert together["additive"]["p"] < 0.001
    assert together["with_pairs"]["p"] > 0.01
    assert together["model"]["name"] == "with_pairs"
    assert together["with_pairs"]["r2"] > together["additive"]["r2"]


def test_one_ratio_everywhere_is_off_the_front_where_one_block_gains_all() -> None:
    table = placements.Placements(made_up_table(lambda row: 2.0 * (row[0] == 2), 0.01))
    costs = placements.answers(table)["costs"]["params"]
    assert not costs["r4 everywhere"]["on_the_front"]
    gain = costs["r4 everywhere"]["placing_at_no_more"]
    assert gain["picks"]["block0.se"] == "r16"
    assert gain["points"] == pytest.approx(2, abs=0.05)
    model = placements.Model.of(table, pairs=False)
    only_itself = model.best_of(table, placements.Noise.pooled(table, model), np.array([0]), 0)
    assert (only_itself["points"], only_itself["low"], only_itself["high"]) == (0, 0, 0)


def test_the_gain_of_a_placement_that_was_picked_by_its_trainings_is_told_without_its_luck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placements, "DRAWS", 500)
    worths = (0.0, 0.0, 0.3)
    known, noise, told, luck, covered = 0.0, 0.5, 0.0, 0.0, 0
    repeats = 120
    for seed in range(repeats):
        table = placements.Placements(made_up_table(lambda row: worths[row[0]], noise, seed))
        model, every = placements.Model.of(table, pairs=False), np.arange(27)
        found = model.best_of(table, placements.Noise.pooled(table, model), every, 0)
        true = worths[("none", "r4", "r16").index(found["picks"]["block0.se"])]
        known, told = known + true / repeats, told + found["points"] / repeats
        luck += float(model.fitted.max() - model.fitted[0]) / repeats
        covered += found["low"] <= true <= found["high"]
    assert luck - known > 0.15  # what the model alone would say too much
    assert abs(told - known) < 0.08
    assert covered >= 0.9 * repeats


def shifted(table: NetworkTable, points: float) -> NetworkTable:
    """The same, where the second seed is better by so many points for every network."""
    networks = [
        network.model_copy(
            update={"accuracies": {**network.accuracies, "1": network.accuracies["1"] + points / 100}},
        )
        for network in table.networks
    ]
    return table.model_copy(update={"networks": tuple(networks)})


def test_what_a_seed_does_to_all_networks_is_no_noise_of_their_differences() -> None:
    table = made_up_table(lambda row: 1.0 * row[0], 0.3)
    found = [placements.answers(placements.Placements(one)) for one in (table, shifted(table, 2.0))]
    assert found[0]["effects"] == found[1]["effects"]
    assert found[0]["sd_between_seeds"] == found[1]["sd_between_seeds"]
    assert found[0]["sd_between_seeds"]["points"] == pytest.approx(0.3, abs=0.1)


def test_an_interval_is_wider_where_networks_differ_from_the_model() -> None:
    def rugged(row: tuple[int, ...]) -> float:
        return row[0] + 3.0 * math.sin(17 * row[0] * row[1] * row[2])

    for worth, wide in ((lambda row: float(row[0]), False), (rugged, True)):
        found = placements.answers(placements.Placements(made_up_table(worth, 0.1)))
        assert found["model"] == {"name": "with_pairs" if wide else "additive", "explains": not wide}
        over = found["everywhere"]["none"]["best_over_it"]
        assert (over["high"] - over["low"] > 2) == wide


@pytest.mark.parametrize("worth", [0.0, 1.0])
def test_a_table_without_noise_has_answers(worth: float) -> None:
    found = placements.answers(placements.Placements(made_up_table(lambda row: worth * row[0], 0.0)))
    assert found["model"] == {"name": "additive", "explains": True}
    assert found["everywhere"]["none"]["best_over_it"]["points"] == pytest.approx(2 * worth)
    json.dumps(found, allow_nan=False)


def test_answers_and_their_figure_are_written_where_one_seed_is_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = made_up_table(lambda row: 0.3 * row[0], 0.1)
    first, *others = whole.networks
    once = [n.model_copy(update={"accuracies": {"0": n.accuracies["0"]}}) for n in others]
    write_record(tmp_path / "table.json", whole.model_copy(update={"networks": (first, *once)}))
    monkeypatch.setattr("sys.argv", ["se_table_answers.py", str(tmp_path / "table.json"), "--results", str(tmp_path)])
    placements.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["seeds"], told["sd_between_seeds"]["degrees_of_freedom"]) == (1, 1)
    assert told["sd_pooled"]["degrees_of_freedom"] == 1 + 27 - 7
    assert told["sd_pooled"]["points"] == pytest.approx(0.1, abs=0.05)
    assert {"benchmark": "se_table_answers", **read_json(tmp_path / "answers.json")} == told
    assert (tmp_path / "placements.png").stat().st_size > 0
    write_record(tmp_path / "table.json", whole.model_copy(update={"networks": tuple(once)}))
    with pytest.raises(SystemExit, match="has 26 of 27, 1 seeds that all have, and 0 with several"):
        placements.main()


def whole_table(space_file: Path, seeds: int) -> NetworkTable:
    """All networks of the space, of which the one with most SE in its last block and none elsewhere is best."""
    space = load_space(space_file)
    networks = []
    for architecture in space.enumerate():
        counts = network_counts(space.resolve(architecture))
        *others, last = (choice.options.index(architecture[choice.name]) for choice in space.choices)
        accuracies = {str(seed): 0.7 + 0.002 * last - 0.001 * sum(others) for seed in range(seeds)}
        costs = {"macs": counts.macs, "params": counts.params}
        networks.append({"picks": architecture.as_dict(), "accuracies": accuracies, "costs": costs, "cpu_seconds": 1.0})
    whole = made_up_table(lambda row: 0.0, 0.0).plain()
    return NetworkTable.model_validate(
        {**whole, "space": {"name": space.name, "digest": space.digest}, "networks": networks}
    )


def test_searches_of_the_placements_find_the_best_within_each_budget(tmp_path: Path) -> None:
    write_record(tmp_path / "table.json", whole_table(table_regret.SPACE, 2))
    table = table_regret.load_table(tmp_path / "table.json")
    study = table_regret.study_of(table)
    small, whole = study.budgets
    assert len(table.within(whole)) == 243 > len(table.within(small)) > 1
    for budget in study.budgets:
        found = regret.search_regrets(table, study.setups[0], budget, 0)
        assert found.shape == (100,)
        assert (np.diff(found) <= 0).all()
        assert found[-1] == pytest.approx(0, abs=1e-9)


def test_a_table_of_other_placements_or_without_repeated_trainings_is_not_searched(tmp_path: Path) -> None:
    write_record(tmp_path / "once.json", whole_table(table_regret.SPACE, 1))
    with pytest.raises(SystemExit, match=r"must have every placement .*, but it has 243 of 243, .* and 0 with several"):
        table_regret.load_table(tmp_path / "once.json")
    whole = whole_table(table_regret.SPACE, 2)
    write_record(tmp_path / "part.json", whole.model_copy(update={"networks": whole.networks[1:]}))
    with pytest.raises(SystemExit, match="must have every placement of se_table, but it has 242 of 243"):
        table_regret.load_table(tmp_path / "part.json")
    other = whole.model_copy(update={"space": whole.space.model_copy(update={"digest": "0"})})
    write_record(tmp_path / "other.json", other)
    with pytest.raises(SystemExit, match="must be of the space se_table"):
        table_regret.load_table(tmp_path / "other.json")


def test_both_tables_of_regrets_and_their_figure_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "table.json", whole_table(table_regret.SPACE, 2))
    words = ["se_table_regret.py", str(tmp_path / "table.json"), "--results", str(tmp_path), "--seeds", "2"]
    monkeypatch.setattr("sys.argv", [*words, "--samplers", "evolution"])
    table_regret.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    stored = json.loads((tmp_path / "regrets.json").read_text())
    assert (told["trainings"], told["noise"]["between_seeds"]) == (2, 0)
    for rows in (stored["searches"], stored["searches_seeing_one_training"]):
        assert rows.keys() == {"uniform random", "evolution"}
        regrets = [at["100"]["mean"] for at in rows["evolution"]["regret"].values()]
        assert regrets == [0, 0]
    assert (tmp_path / "regrets.png").stat().st_size > 0
    monkeypatch.setattr("sys.argv", [*words, "--samplers", "evolutoin"])
    with pytest.raises(SystemExit, match=r"--samplers: must be of evolution, .* but got 'evolutoin'"):
        table_regret.main()


@pytest.mark.slow
def test_guides_are_judged_on_a_whole_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = DataOptions("synthetic", None, 32, size=400)
    monkeypatch.setattr(ranking, "load_train", lambda _: load_train(images))
    for name in ("SUPERNET", "DIFFERENTIABLE"):
        short = {"epochs": 1, "validate_every": 1, "batch_size": 50, "calibration_images": 50}
        monkeypatch.setattr(guides, name, getattr(guides, name).model_copy(update=short))
    write_record(tmp_path / "table.json", whole_table(table_regret.SPACE, 2))
    words = ["se_table_guides.py", str(tmp_path / "table.json"), "--data-dir", ".", "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*words, "--results", str(tmp_path), "--seeds", "1"])
    guides.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told == read_json(tmp_path / "guides.json")
    assert told["guides"].keys() == {"parameters", "supernet", "naswot"}
    small, whole = told["regret_of_random"]
    for budget in (small, whole):
        answer = told["answers_of_the_differentiable_search"][budget]["0"]
        assert answer["regret"] >= 0
        assert (answer["regret"] == 0) == (answer["better"] == 0)
    parameters = told["guides"]["parameters"]["alone"]
    # the most parameters has ratio 4 everywhere: 0.2 points for the last block, and four times -0.1
    assert parameters["regret_of_the_first"][whole]["1"] == pytest.approx(0.4 - (0.2 - 0.4))
