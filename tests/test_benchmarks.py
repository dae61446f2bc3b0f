"""What the benchmarks compute, as far as it can be checked without the published data."""

from __future__ import annotations

import argparse
import itertools
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import decode as decoding
import nas_bench_macro as macro
import numpy as np
import pytest
import regime
import regret
import supernet_options as options
import supernet_ranking as ranking
import supernet_step
import torch
import train_step

from se_nas.cost.table import count_tables
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.errors import ConfigError
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.inheritance import inherited_accuracy
from se_nas.search.one_shot.training import train_one_shot
from se_nas.space.blocks import BLOCKS
from se_nas.space.yaml.file import load_space, parse_space
from se_nas.training.evaluate import accuracy
from tests.helpers.tiny_imagenet import tiny_network
from tests.search.problems import make_problem

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """A table in the published form whose accuracies are made up."""
    space = load_space(ROOT / "search_spaces" / "nas_bench_macro.yaml")
    keys = list(itertools.product(range(3), repeat=8))
    costs = {name: table.costs(np.array(keys)) for name, table in count_tables(space).items()}
    return {
        "".join(map(str, key)): {
            "test_acc": [80.0 + sum(key) / 2 + k for k in range(3)],
            "flops": int(costs["macs"][i]),
            "params": int(costs["params"][i]),
        }
        for i, key in enumerate(keys)
    }


def test_the_published_table_becomes_one_that_a_run_file_can_name(published: dict[str, Any], tmp_path: Path) -> None:
    source, target = tmp_path / "table.json.xz", tmp_path / "table.jsonl"
    source.write_bytes(lzma.compress(json.dumps(published).encode(), preset=0))
    table = macro.load_table(source)
    target.write_text(table.json_lines())
    evaluator = TableEvaluator.load(target, table.space, ["macs", "params"])
    assert len(evaluator.metrics) == 6561
    largest = table.space.architecture({choice.name: choice.options[-1] for choice in table.space.choices})
    assert evaluator(largest) == pytest.approx(0.89)
    assert evaluator.metrics[largest]["macs"] == published["22222222"]["flops"]


@pytest.mark.parametrize(("key", "entry"), [("00000000", {"flops": 1}), ("12012012", {"params": 2}), ("3", {})])
def test_a_table_of_other_networks_is_refused(published: dict[str, Any], key: str, entry: dict[str, int]) -> None:
    changed = {**published, key: {**published["00000000"], **entry}}
    with pytest.raises(SystemExit, match="the table"):
        macro.MacroTable(load_space(macro.SPACE), changed)


def test_uniform_random_search_has_the_distribution_of_all_orders() -> None:
    accuracies = np.array([3.0, 9.0, 4.0, 7.0, 8.5])
    orders = np.array(list(itertools.permutations(accuracies)))
    regrets, probabilities = regret.uniform_distribution(accuracies, 6)
    for n in range(1, 7):
        best = 9.0 - orders[:, :n].max(axis=1)
        expected = [(best == regret).mean() for regret in regrets]
        np.testing.assert_allclose(probabilities[n - 1], expected, atol=1e-12)
        told = regret.weighted_summary(regrets, probabilities[n - 1])
        assert told["mean"] == pytest.approx(best.mean(), abs=1e-4)
        assert told["median"] == np.quantile(best, 0.5, method="inverted_cdf")


def test_a_regret_is_that_of_what_looked_best() -> None:
    seen, true = np.array([1.0, 3.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 5.0, 4.0, 3.0])
    np.testing.assert_array_equal(regret.regrets_over(seen, true, 5.0), [3.0, 4.0, 4.0, 4.0, 2.0])


def test_a_search_of_the_table_falls_to_no_regret(published: dict[str, Any]) -> None:
    table = macro.MacroTable(load_space(macro.SPACE), published)
    regrets = regret.search_regrets(table, macro.DEFAULT, macro.BUDGETS[0], 0, max_evaluations=60)
    assert regrets.shape == (60,)
    assert (np.diff(regrets) <= 0).all()
    assert regrets[-1] < 0.5 * regrets[0]


def test_networks_judged_on_a_tree_are_as_accurate_as_each_judged_alone(tmp_path: Path) -> None:
    layer = [{"kind": "identity"}, {"kind": "mbconv", "kernel": 3, "expansion": 2}]
    stages = [{"width": 8, "stride": 2, "depth": 2, "blocks": layer}, {"width": 12, "depth": 2, "blocks": layer}]
    values = {"name": "layers", "resolution": 8, "stem": {"width": 8}, "stages": stages, "head": {"width": 16}}
    problem = make_problem(parse_space(values, "here"), tmp_path)
    training = OneShotConfig(sampling="uniform", epochs=3, batch_size=10, calibration_images=64)
    supernet = train_one_shot(problem, training).supernet
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    architectures = list(problem.space.enumerate())
    rows = np.array([[choice.index(a[choice.name]) for choice in problem.space.choices] for a in architectures])
    found = ranking.supernet_accuracies(supernet, problem, 64, 1000, {"recalibrated": rows, "running": rows[5:]})
    images = DeviceImages(problem.info, problem.train, problem.device)
    recalibrated = [inherited_accuracy(supernet, a, images, problem, 64) for a in architectures]
    running = [accuracy(supernet.export(a), images, problem.parts["validation"]) for a in architectures[5:]]
    assert len(set(recalibrated)) > 3
    np.testing.assert_array_equal(found["recalibrated"][0], recalibrated)
    np.testing.assert_array_equal(found["running"][0], running)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_judging_goes_on_from_what_a_kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, path = np.array([[0, 1], [1, 0], [1, 1], [2, 1]]), tmp_path / "accuracies.json"

    class Tree:
        asked: list[list[int]]

        def judge(self, rows: Any, note: Any) -> None:
            self.asked = rows.tolist()
            for number, row in reversed(list(enumerate(self.asked))):
                note(number, row[0] / 10 + row[1] / 100)
                if row == [1, 1]:
                    raise KeyboardInterrupt

    monkeypatch.setattr(ranking, "SAVE_EVERY", -1.0)
    with pytest.raises(KeyboardInterrupt):
        ranking.judged(path, "one", Tree(), rows)
    tree = Tree()
    accuracies, _ = ranking.judged(path, "one", tree, rows)
    assert tree.asked == [[0, 1], [1, 0]]
    np.testing.assert_allclose(accuracies, [0.01, 0.1, 0.11, 0.21])
    tree = Tree()
    with pytest.raises(KeyboardInterrupt):
        ranking.judged(path, "another supernet", tree, rows)
    assert tree.asked == rows.tolist()


@pytest.mark.slow
def test_a_supernet_that_knew_the_truth_would_meet_the_bars(published: dict[str, Any]) -> None:
    table = ranking.MacroTable(load_space(ranking.SPACE), published)
    sets = {ranking.RANDOM: np.arange(0, 6561, 41), ranking.WITHIN: table.within(ranking.BUDGET)[::9]}
    other = np.full(len(table.means), 0.3)
    supernets = {}
    for name, known in (("sandwich", table.means / 100), ("uniform", 1 - table.means / 100)):
        supernets[name] = {
            "correlations": ranking.correlations(table, sets, known, other + known / 9),
            "regret": ranking.regrets(table, table.within(ranking.BUDGET), known),
        }
    right, wrong = supernets.values()
    assert right["correlations"][ranking.WITHIN]["kendall"]["value"] == pytest.approx(1)
    assert right["correlations"][ranking.WITHIN]["gain_of_recalibration"]["value"] == pytest.approx(0)
    assert right["correlations"][ranking.RANDOM]["gain_over_macs"]["value"] > 0
    assert wrong["correlations"][ranking.RANDOM]["kendall"]["value"] == pytest.approx(-1)
    assert right["regret"]["best of 1"]["supernet"] == 0 < wrong["regret"]["best of 1"]["supernet"]
    assert right["regret"]["search"]["mean"] < right["regret"]["best of 1"]["random"]
    assert ranking.meets_bars(right)
    assert not ranking.meets_bars(wrong)
    outcome = {"supernets": supernets, "reference": ranking.reference(table, sets)}
    assert "| sandwich | 1.000 " in "\n".join(ranking.markdown(outcome))
    figure = ranking.plot(outcome, table, sets, dict.fromkeys(supernets, table.means / 100))
    titles = [axes.get_title(loc="left") for part in figure.subfigs for axes in part.axes]
    assert {"sandwich", "uniform", "200 random networks"} <= set(titles)


def test_samplings_are_compared_over_as_many_subnets() -> None:
    assert {name: ranking.epochs_of(name, 9) * subnets for name, subnets in ranking.SUBNETS.items()} == {
        "uniform": 9,
        "strict_fairness": 9,
        "sandwich": 9,
    }
    with pytest.raises(SystemExit, match="multiple of 3"):
        ranking.epochs_of("sandwich", 4)


def test_options_are_compared_at_equal_work() -> None:
    """A subnet that is trained counts 1, a candidate that is looked at a third, in as many passes over the images."""
    for changes, work in options.WAYS.values():
        config = OneShotConfig(**changes, random_subnets=1)
        trained = 1 if config.sampling == "uniform" else 3
        looked_at = 3 if config.sampling in ("best_up", "worst_up") else 0
        assert work == trained + (looked_at + (config.teacher is not None)) / 3
        assert round(options.WORK / work) * work == pytest.approx(options.WORK)


def test_an_option_gains_what_its_way_has_over_its_baseline() -> None:
    true, rng = np.arange(30.0), np.random.default_rng(0)
    known = {"uniform": 0.0, "sandwich, labels": 30.0, "sandwich, kl": 3.0}  # the noise of their accuracies
    supernets = {
        name: {
            seed: {"accuracies": {kind: (true + noise * rng.normal(size=30)).tolist() for kind in ("last", "average")}}
            for seed in ("0", "1")
        }
        for name, noise in known.items()
    }
    outcome = options.told(supernets, true, -true)
    assert outcome["macs_alone"]["value"] == pytest.approx(-1)
    assert outcome["ways"]["uniform last"]["mean_tau"] == pytest.approx(1)
    gains = outcome["gains"]
    assert set(gains) == {
        *("sandwich", "in-place distillation, kl", "average of uniform", "average of sandwich, kl"),
    }
    assert gains["sandwich"]["over_seeds"]["value"] < 0 < gains["in-place distillation, kl"]["over_seeds"]["value"]
    assert gains["sandwich"]["each"]["1"]["value"] < 0
    assert "| sandwich | -" in "\n".join(options.markdown(outcome))


@pytest.mark.parametrize("recipe", ["mobile-150", "mobile-600"])
def test_our_loop_and_timms_train_alike_and_are_timed_over_the_same_steps(
    monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(train_step, "ROUND", 4)
    without_chance = {"dropout": 0.0, "drop_path": 0.0, "random_erasing": 0.0}
    stream, losses = train_step.measure(
        tiny_network(),
        train_step.one_epoch(recipe, 8, "float32", **without_chance),
        torch.device("cpu"),
        turn=2,
        rounds=2,
    )
    assert losses["ours"] == pytest.approx(losses["timm"], rel=1e-5)
    for times in (stream.wall, stream.cpu):
        assert {name: len(turns) for name, turns in times.items()} == {"timm": 6, "ours": 6}
    assert min(*stream.wall["timm"], *stream.wall["ours"]) > 0
    assert train_step.by_round([9.0, 9.0, 1.0, 2.0, 3.0, 4.0], 2) == [3.0, 7.0]


def test_a_recipe_that_timms_loader_would_mix_is_not_timed() -> None:
    with pytest.raises(SystemExit, match="without mixing"):
        train_step.one_epoch("a2", 8, "float32")


def test_every_kind_of_block_is_in_a_family_whose_two_steps_are_compared() -> None:
    assert {family["kind"] for family in supernet_step.FAMILIES.values()} == set(BLOCKS) - {"identity"}


def test_a_family_is_mixed_over_every_part_that_it_has() -> None:
    for family, block in supernet_step.FAMILIES.items():
        parts = {choice.name.rpartition(".")[2] for choice in supernet_step.family_space(family).choices}
        # the channels of ShuffleNet's groups are no prefix of more of them
        has_expansion = "expansion" in BLOCKS[block["kind"]].options and family != "shuffle"
        assert parts == {"depth", "se", "kernel", *(["expansion"] if has_expansion else [])}, family


def test_the_two_steps_of_a_family_are_timed_in_turn() -> None:
    space = replace(supernet_step.family_space("separable"), resolution=8)
    x, y = supernet_step.images(space, 2, torch.device("cpu"))
    times = supernet_step.in_turn(
        {"mixture": supernet_step.differentiable_step(space, x, y), "largest": supernet_step.largest_step(space, x, y)},
        torch.device("cpu"),
        2,
    )
    assert {name: len(values) for name, values in times.items()} == {"mixture": 2, "largest": 2}
    assert supernet_step.ratio({"a": [2.0, 6.0, 4.0], "b": [1.0, 2.0, 4.0]}, "a", "b") == (2.0, [1.0, 3.0])


def test_a_decode_is_timed_where_blocks_are_tied_and_every_bar_counts() -> None:
    space = decoding.generated(blocks=4, stages=2)
    tables = decoding.with_latency(space, count_tables(space), tied=True)
    ties = {term.choices for term in tables["latency_ms"].terms} - {term.choices for term in tables["macs"].terms}
    assert ties == {("stage1.block1.expansion", "stage2.block1.expansion")}
    figures = {name: {"decoder_seconds": 0.5, "decoder_mb": 300.0, "repair_slowest": 1.0} for name in decoding.SPACES}
    pairs = {"median": 0.2, "slowest": 2.0, "n": 500, "kept": 300, "reachable_named": 200}
    assert decoding.holds(figures, pairs)
    for broken in ({"slowest": 2.1}, {"median": 0.3}, {"kept": 299}):
        assert not decoding.holds(figures, pairs | broken)
    for part in ("decoder_seconds", "decoder_mb"):
        assert not decoding.holds(figures | {decoding.LARGE: figures[decoding.LARGE] | {part: 301.0}}, pairs)
    assert not decoding.holds(figures | {"200 blocks": {"repair_slowest": 1.1}}, pairs)


def test_the_regime_is_measured_once_and_by_the_recipe_that_it_began_with(tmp_path: Path) -> None:
    stage = {"width": 8, "stride": 2, "kernel": 3, "expansion": 4, "se": {"options": ["none", 2, 4], "divisor": 1}}
    space = {"name": "small", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}
    (tmp_path / "space.yaml").write_text(json.dumps(space))
    recipe, data = {"epochs": 1, "batch_size": 50, "warmup_epochs": 0}, {"name": "synthetic", "size": 100}
    run = {"name": "small", "device": "cpu", "space": "space.yaml", "data": data, "retrain": recipe}
    (tmp_path / "run.yaml").write_text(json.dumps(run))
    options = argparse.Namespace(
        run_file=tmp_path / "run.yaml",
        data_dir=None,
        out=tmp_path / "out",
        networks=3,
        repeated=2,
        seeds=2,
        jobs=1,
        set=None,
    )
    found = regime.measure(argparse.Namespace(**vars(options), finished_only=False))
    assert [sorted(row["accuracies"]) for row in found["rows"]] == [[0, 1], [0, 1], [0]]
    assert (found["of"], found["trainings"], found["noise"]["n"]) == (5, 5, 2)
    assert found["ratio"]["low"] <= found["ratio"]["value"] <= found["ratio"]["high"]
    again = regime.measure(argparse.Namespace(**vars(options), finished_only=True))
    assert again == found
    assert json.loads((tmp_path / "out/regime.json").read_text())["holds"] == found["holds"]
    options.set = ["retrain.epochs=2"]
    with pytest.raises(ConfigError, match=r"must be the recipe that the folder began with; .* another epochs"):
        regime.measure(argparse.Namespace(**vars(options), finished_only=True))
