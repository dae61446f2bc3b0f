"""`se-nas evidence` as its user meets it: every part of a tiny run, true numbers, and nothing twice."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import kendalltau, spearmanr, ttest_rel

from se_nas.cost.counts import network_counts
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import Measurement
from se_nas.cost.table import count_tables
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import DATASETS, load_test, load_train
from se_nas.errors import ConfigError, DeviceError
from se_nas.evidence import controls as evidence_controls
from se_nas.evidence.controls import RandomFeasible
from se_nas.evidence.pilot.regime import regime
from se_nas.evidence.published_networks import fitted
from se_nas.records.files import write_json
from se_nas.records.models.evidence import TrainingRecord
from se_nas.records.record import write_record
from se_nas.report.pages.evidence.controls import Controls
from se_nas.report.pages.evidence.sections import evidence_sections
from se_nas.runs import search as whole
from se_nas.runs.evidence import gather as evidence
from se_nas.runs.evidence import parts as evidence_parts
from se_nas.runs.evidence import trainings
from se_nas.runs.evidence.gather import gather_evidence
from se_nas.runs.evidence.gathering import Conditions
from se_nas.runs.evidence.ledger import SpentAmount, training_entry
from se_nas.runs.evidence.registry import PARTS
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.runs.evidence_config import resolve_evidence
from se_nas.runs.prepare import open_setting
from se_nas.runs.run_file import load_run
from se_nas.runs.run_folder import RunFolder
from se_nas.runs.search import run_search
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.budgets.decode import least_cost
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space
from se_nas.training import train as training
from se_nas.training.evaluate import TopAccuracies, top_accuracies
from se_nas.training.in_memory import train_network
from se_nas.training.recipe_files import default_recipe
from tests.helpers.command_lines import Run, assert_refused, call
from tests.helpers.tiny_runs import RUN, SPACE, cache_latency, changed, contents, read_json, write_run, write_yaml
from tests.search.known_worth import write_table

# its answer is none of the random networks
TINY = changed(changed(changed(RUN, "seed", 0), "retrain.epochs", 2), "search.epochs", 3)
PUBLISHED = {
    "name": "plain",
    "resolution": 32,
    "stem": {"width": 16, "stride": 2},
    "stages": [{"width": 16, "stride": 2, "kernel": 3, "expansion": 2, "se": {"options": [4]}}],
}
SETTINGS = {
    "seeds": [0, 1],
    "random": 3,
    "best_of": 4,
    "ratios": [2, 4],
    "within": 8,
    "space": 8,
    "searches": [5],
    "contexts": 2,
    "stand_alone_se": True,
    "timed": 2,
}
FEW = 6  # random networks for the chance level, of which the tiny space has hardly a hundred
FILES = {part.file for part in PARTS.values()}


def words(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={yaml.safe_dump(value, None)}")]


def without_report(folder: Path, configuration: str = "") -> Path:
    """In place of the report, whose figures take longer than all the rest."""
    return folder / "report.html"


def refuse(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("something was trained or searched")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs, with a latency cache that already holds the tiny space."""
    home = tmp_path_factory.mktemp("evidence")
    write_run(home, TINY)
    cache_latency(home / "cache", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        yield home


@pytest.fixture(scope="module")
def finished(home: Path) -> Path:
    """A run without evidence; to be copied, not changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "write_report", without_report)
        run_file = home / "run.yaml"
        run_search(run_file, load_run(run_file), home / "finished", resume=False, progress=False, say=lambda line: None)
    return home / "finished"


@pytest.fixture(scope="module")
def done(home: Path, finished: Path) -> Path:
    """The run with every part of its evidence, gathered by the command; to be copied, not changed."""
    out = Path(shutil.copytree(finished, home / "done"))
    twin, other = (Path(shutil.copytree(finished, home / name)) for name in ("twin", "other"))
    space = load_space(other / "space.yaml")
    least = least_cost(space, count_tables(space), "macs").architecture
    save_architecture(other / "architecture.json", ArchitectureFile.of(space, least))
    published = write_yaml(home / "plain.yaml", PUBLISHED)
    settings = {**SETTINGS, "published": [str(published)], "others": [str(twin), str(other)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole, "write_report", without_report)  # of the further search
        patch.setattr(evidence_parts, "CHANCE", FEW)
        assert call("evidence", out, "--quiet", *words(settings)) == 0
    published.unlink()  # the run has copies of all that it was given
    for folder in (twin, other):
        shutil.rmtree(folder)
    return out


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


@pytest.fixture
def gather(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Gathers parts without a report; returns what was said."""
    for module in (evidence, whole):
        monkeypatch.setattr(module, "write_report", without_report)
    monkeypatch.setattr(evidence_parts, "CHANCE", FEW)

    def run(folder: Path, *parts: str, finished_only: bool = False, **changes: Any) -> list[str]:
        said: list[str] = []
        gather_evidence(folder, parts, changes, Conditions(1, finished_only, progress=False), said.append)
        return said

    return run


def found_in(folder: Path, *but: str) -> dict[str, Any]:
    """What each part wrote, by file."""
    there = {path.name for path in (folder / "evidence").glob("*.json")} & FILES
    return {name: read_json(folder / "evidence" / name) for name in sorted(there - set(but))}


def records(folder: Path) -> dict[str, bytes]:
    return contents(folder / "evidence" / "trainings")


def answer_of(folder: Path) -> NetworkSpec:
    space = load_space(folder / "space.yaml")
    return space.resolve(load_architecture(folder / "architecture.json").architecture)


def trainings_of(folder: Path) -> Trainings:
    recipe = default_recipe(**TINY["retrain"])
    options = DataOptions("synthetic", resolution=8, seed=0, size=200)
    return Trainings(folder / "evidence" / "trainings", recipe, options, "cpu")


def networks_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in read_json(folder / "evidence/controls.json")["networks"]}


def test_every_part_is_there_and_in_the_report(done: Path) -> None:
    assert found_in(done).keys() == FILES
    page = re.sub(r"<[^>]*>", "", (done / "report.html").read_text())  # each word of a command is an element
    for part in PARTS:
        if part != "ledger":
            assert f"--part {part}" in page
    stored = yaml.safe_load((done / "evidence/config.yaml").read_text())
    copied = {"published": ["published/plain.yaml"], "others": ["others/twin", "others/other"]}
    assert stored == {**SETTINGS, **copied, "primary": None, "of_size": 0}


def test_the_controls_keep_the_budgets_and_are_trained_with_every_seed(done: Path) -> None:
    found = read_json(done / "evidence/controls.json")
    assert (found["seeds"], found["test_images"], found["recipe"]["epochs"]) == ([0, 1], 40, 2)
    assert found["budgets"] == {"macs": 90e3, "params": 3e3}
    randoms = [list(one["accuracies"].values()) for one in found["networks"] if one["kind"] == "random"]
    assert found["regime"] == regime(randoms, 1 / 40).plain()
    kinds = {
        "answer": "answer",
        "other": "other_answer",  # and the twin's is the answer itself
        "best_of_random": "best_of_random",
        "no_se": "baseline",
        "se_r2": "baseline",
        "se_r4": "baseline",
        "answer_no_se": "baseline",
        "answer_se_r2": "baseline",
        "answer_se_r4": "baseline",
        "plain": "published",
        **{f"random_{i}": "random" for i in (1, 2, 3)},
    }
    assert {entry["name"]: entry["kind"] for entry in found["networks"]} == kinds
    assert found["networks"][0]["name"] == "answer"
    for entry in found["networks"]:
        assert 0 < entry["costs"]["macs"] <= 90e3
        assert 0 < entry["costs"]["params"] <= 3e3
        assert entry["accuracies"].keys() == {"0", "1"}
        assert all(0 <= accuracy <= 1 for accuracy in entry["accuracies"].values())
        published = entry["kind"] == "published"
        assert (entry["supernet_accuracy"] is None) == (entry["costs"]["latency_ms"] is None) == published
        assert entry["failed"] == {}
        assert entry["costs"]["latency_how"] == (None if published else "predicted")
    networks = networks_of(done)
    assert set(networks["no_se"]["se"]) == {"none"}
    assert networks["plain"]["se"] == ["r4"]
    counts = network_counts(answer_of(done))
    assert (networks["answer"]["costs"]["macs"], networks["answer"]["costs"]["params"]) == (counts.macs, counts.params)
    # as the search said of its own answer
    said = read_json(done / "result.json")["search"]["validation_accuracy"]
    assert networks["answer"]["supernet_accuracy"] == said


def test_the_best_of_random_networks_is_none_of_the_random_controls(done: Path) -> None:
    setting, networks = open_setting(done), networks_of(done)
    drawn = RandomFeasible(setting.space, setting.tables, setting.budgets, 0).distinct(3 + 4)
    for i, architecture in enumerate(drawn[:3], 1):
        counts = network_counts(setting.space.resolve(architecture))
        costs = networks[f"random_{i}"]["costs"]
        assert (costs["macs"], costs["params"]) == (counts.macs, counts.params)
    known = read_json(done / "evidence/supernet_scores.json")
    scores = [known[json.dumps(["own", a.space_digest, a.picks])] for a in drawn[3:]]
    best = setting.space.resolve(drawn[3 + int(np.argmax(scores))])
    assert networks["best_of_random"]["supernet_accuracy"] == max(scores)
    assert networks["best_of_random"]["accuracies"]["1"] == trainings_of(done).accuracy(Task(best, 1))


def test_the_comparisons_follow_from_the_accuracies(done: Path) -> None:
    found, networks = read_json(done / "evidence/controls.json"), networks_of(done)
    of = {name: np.array([entry["accuracies"][seed] for seed in "01"]) for name, entry in networks.items()}
    drawn, best, *others = found["comparisons"]
    assert (drawn["theirs"], drawn["networks"], drawn["n"]) == (["random_1", "random_2", "random_3"], 3, 2)
    assert drawn["value"] == pytest.approx(of["answer"].mean() - np.mean([of[name] for name in drawn["theirs"]]))
    assert drawn["low"] < drawn["value"] < drawn["high"]
    assert (best["theirs"], best["selected"], best["n"]) == (drawn["theirs"], True, 2)
    assert sorted(entry["theirs"][0] for entry in others) == sorted(
        name for name, entry in networks.items() if entry["kind"] not in ("answer", "random")
    )
    for entry in others:
        theirs = of[entry["theirs"][0]]
        assert entry["value"] == pytest.approx((of["answer"] - theirs).mean())
        if len(set(of["answer"] - theirs)) == 2:
            test = ttest_rel(of["answer"], theirs)
            low, high = test.confidence_interval()
            assert (entry["p"], entry["low"], entry["high"]) == pytest.approx((test.pvalue, low, high))
        assert entry["excludes_zero"] == (entry["low"] > 0 or entry["high"] < 0)
    ordered, least = sorted(found["comparisons"], key=lambda entry: entry["p"]), 0.0
    for i, entry in enumerate(ordered):
        least = min(1.0, max(least, (len(ordered) - i) * entry["p"]))
        assert entry["p_holm"] == pytest.approx(least)


def test_what_another_run_has_trained_with_the_same_settings_is_taken_over(
    done: Path, finished: Path, tmp_path: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Path(shutil.copytree(finished, tmp_path / "second"))
    monkeypatch.setattr(trainings, "train_network", refuse)
    kept = {name: SETTINGS[name] for name in ("seeds", "random", "best_of", "ratios")}
    said = gather(second, "controls", **kept, others=[str(done)])
    mine, theirs = networks_of(second), networks_of(done)
    assert mine.keys() == theirs.keys() - {"plain", "other"}
    assert all(mine[name]["accuracies"] == theirs[name]["accuracies"] for name in mine)
    taken = len(records(second)) - 1  # its own retraining is its own
    assert f"{taken} trainings with the same settings taken from those of `others`" in said
    assert not any("with the same settings" in line for line in gather(second, "controls"))
    gather(second, "ledger")
    lines = [entry["part"] for entry in read_json(second / "evidence/ledger.json")["parts"]]
    assert {"0 stand-alone trainings, summed", f"{taken} stand-alone trainings of other runs, summed"} <= set(lines)


def test_no_plan_is_made_of_an_answer_that_another_run_has_trained(
    done: Path, finished: Path, tmp_path: Path, gather: Callable[..., list[str]]
) -> None:
    second = Path(shutil.copytree(finished, tmp_path / "second"))
    primary = {"against": "random_mean", "difference": 0.1, "noise": 0.01, "spread": 0.01}
    with pytest.raises(ConfigError, match=r"planned before the first training, but the evidence has results of 1 "):
        gather(second, "controls", primary=primary, seeds=[0, 1], random=3, others=[str(done)])


def test_nothing_is_taken_over_where_the_datas_name_does_not_say_which_images_it_has(
    done: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Path(shutil.copytree(finished, tmp_path / "second"))
    monkeypatch.setitem(DATASETS, "synthetic", replace(DATASETS["synthetic"], fixed=False))
    copies = resolve_evidence(RunFolder(second), {"others": [str(done)]}).copies
    assert set(copies) == {"others/done/architecture.json", "others/done/result.json"}


def test_the_runs_own_retraining_is_adopted_and_the_others_are_trainings_like_any(done: Path, tmp_path: Path) -> None:
    own = trainings_of(done).record(Task(answer_of(done), 0))
    assert own is not None
    assert own.cpu_seconds is None
    networks, retrained = networks_of(done), read_json(done / "result.json")["retrain"]
    assert networks["answer"]["accuracies"]["0"] == own.test_accuracy == retrained["test_accuracy"]
    info, train = load_train(trainings_of(done).options)
    budgets = open_setting(done).budgets
    plain = fitted(done / "evidence/published/plain.yaml", resolution=8, classes=10, channels=3, budgets=budgets)
    for name, spec, seed in (("answer", answer_of(done), 0), ("answer", answer_of(done), 1), ("plain", plain, 1)):
        alone = train_network(
            spec,
            trainings_of(done).recipe,
            info,
            train,
            load_test(trainings_of(done).options),
            device=torch.device("cpu"),
            seed=seed,
            folder=tmp_path / f"{name}{seed}",
            resume=False,
            progress=False,
        )
        assert networks[name]["accuracies"][str(seed)] == alone.test_accuracy


def test_the_rankings_follow_from_their_networks(done: Path) -> None:
    found, controls = read_json(done / "evidence/ranking.json"), networks_of(done)
    assert [entries["name"] for entries in found["sets"]] == ["within the budgets", "whole space"]
    assert len(found["sets"][0]["networks"]) == 8
    assert 3 <= len(found["sets"][1]["networks"]) <= 8
    for entry in found["sets"][0]["networks"]:
        drawn = entry["name"] in controls
        # these have been trained with all seeds, and so has the same network under another control's name
        again = any(all(one["costs"][of] == entry[of] for of in ("macs", "params")) for one in controls.values())
        assert {"0"} <= entry["accuracies"].keys() <= ({"0", "1"} if drawn or again else {"0"})
        assert entry["macs"] <= 90e3
        if drawn:
            assert entry["accuracies"].keys() == {"0", "1"}
            assert entry["accuracies"] == controls[entry["name"]]["accuracies"]
            assert entry["supernet"] == controls[entry["name"]]["supernet_accuracy"]
    for entries in found["sets"]:
        networks = entries["networks"]
        shared = set.intersection(*(set(network["accuracies"]) for network in networks))
        truth = [np.mean([network["accuracies"][seed] for seed in shared]) for network in networks]
        for key, both in entries["correlations"].items():
            score = [network[key] for network in networks]
            for kind, of in (("kendall", kendalltau), ("spearman", spearmanr)):
                if len(set(score)) == 1:
                    assert both[kind]["value"] is None
                else:
                    assert both[kind]["value"] == pytest.approx(of(score, truth).statistic)
        assert entries["regret"][0]["random"] == pytest.approx(max(truth) - np.mean(truth))


def test_where_se_pays_and_what_it_is_worth_alone(done: Path) -> None:
    found, networks = read_json(done / "evidence/where_se_pays.json"), networks_of(done)
    assert (found["images"], found["contexts"]) == (20, 2)
    answer = load_architecture(done / "architecture.json").architecture
    chosen = {block["block"]: block["chosen"] for block in found["blocks"] if block["chosen"] is not None}
    assert all(answer[f"{block}.se"] == option for block, option in chosen.items())
    with_se = {block: option for block, option in chosen.items() if option != "none"}
    assert {entry["block"]: entry["option"] for entry in found["stand_alone"]} == with_se
    space = load_space(done / "space.yaml")
    for entry in found["stand_alone"]:
        bare = space.resolve(space.architecture({**answer.as_dict(), f"{entry['block']}.se": "none"}))
        theirs = [trainings_of(done).accuracy(Task(bare, seed)) or math.nan for seed in (0, 1)]
        mine = [networks["answer"]["accuracies"][seed] for seed in "01"]
        assert entry["value"] == pytest.approx(np.mean(mine) - np.mean(theirs))
        assert entry["n"] == 2


def test_another_search_is_compared(done: Path) -> None:
    found = read_json(done / "evidence/stability.json")
    assert [(entry["name"], entry["seed"]) for entry in found["answers"]] == [("answer", 0), ("search_5", 5)]
    other = done / "evidence/searches/seed_5"
    spec = answer_of(other)
    assert found["answers"][1]["costs"]["macs"] == network_counts(spec).macs <= 90e3
    for seed in (0, 1):
        accuracy = found["answers"][1]["accuracies"][str(seed)]
        assert accuracy == trainings_of(done).accuracy(Task(spec, seed))
    assert read_json(other / "result.json")["seed"] == 5
    assert read_json(other / "result.json")["retrain"] is None
    assert not (other / "evidence").exists()
    assert 0 <= found["distance"]["value"] <= 1
    means = [np.mean(list(entry["accuracies"].values())) for entry in found["answers"]]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(means))


def test_predicted_latencies_are_checked_by_the_clock(done: Path) -> None:
    found = read_json(done / "evidence/latency_check.json")
    assert [entry["name"] for entry in found["sets"]] == ["the best by the supernet", "random at the budgets"]
    for entry in found["sets"]:
        predicted, measured = np.array([(n["predicted_ms"], n["measured_ms"]) for n in entry["networks"]]).T
        assert len(predicted) == 2
        assert entry["mape"] == pytest.approx(np.mean(np.abs(predicted / measured - 1)))
        assert entry["bias"] == pytest.approx(np.mean(predicted / measured - 1))
        assert all(0 < n["low"] <= n["measured_ms"] <= n["high"] for n in entry["networks"])


def test_the_ledger_adds_up(done: Path) -> None:
    found, result = read_json(done / "evidence/ledger.json"), read_json(done / "result.json")
    lines = {entry["part"]: entry for entry in found["parts"]}
    assert len(lines) == len(found["parts"])
    for entry in result["cost_ledger"]:
        assert lines[entry["part"]]["seconds"] == entry["seconds"]
    (search,) = (e for e in read_json(done / "evidence/searches/seed_5/result.json")["cost_ledger"] if "images" in e)
    assert lines["search 5: search"]["seconds"] == search["seconds"]
    assert lines["search 5: search"]["images"] == search["images"]
    # the run's own retraining is a line of the run, and not among these again
    own = [record for record in trainings_of(done).records() if record.cpu_seconds is not None]
    assert len(own) == len(records(done)) - 1
    line = lines[f"{len(own)} stand-alone trainings, summed"]
    assert line["images"] == sum(record.images for record in own) == len(own) * 2 * 200
    assert line["seconds"] == pytest.approx(sum(record.seconds for record in own))
    assert line["device_seconds"] == pytest.approx(sum(record.cpu_seconds for record in own))
    spent = read_json(done / "evidence/spent.json")
    assert spent["trainings"]["seconds"] >= line["seconds"]
    for part in ("latency", "where-se-pays", "controls", "ranking"):
        assert lines[f"evidence: {part}"]["seconds"] == spent[part]["seconds"] >= 0


def test_a_second_call_trains_nothing_and_says_the_same(
    copy: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, trained = found_in(copy, "latency_check.json", "ledger.json"), records(copy)
    for module, name in ((trainings, "train_network"), (evidence_parts, "run_search")):
        monkeypatch.setattr(module, name, refuse)
    said = gather(copy)
    assert said.count("left out: twin: its answer is the same network as this run's") == 1
    assert found_in(copy, "latency_check.json", "ledger.json") == before
    assert records(copy) == trained
    assert len(read_json(copy / "evidence/ledger.json")["parts"]) >= len(PARTS)


def test_a_training_whose_record_is_gone_is_done_again_alone(
    copy: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, trained, started = read_json(copy / "evidence/controls.json"), records(copy), []
    task = Task(answer_of(copy), 1)
    path = f"{trainings_of(copy).key(task)}.json"
    old = trainings_of(copy).record(task)
    (copy / "evidence/trainings" / path).unlink()

    def train(*arguments: Any, **options: Any) -> Any:
        started.append(options["seed"])
        return train_network(*arguments, **options)

    monkeypatch.setattr(trainings, "train_network", train)
    gather(copy, "controls")
    assert started == [1]
    now = trainings_of(copy).record(task)
    assert old is not None
    assert now is not None
    assert now.model_copy(update={"seconds": old.seconds, "cpu_seconds": old.cpu_seconds}) == old
    assert {name: value for name, value in records(copy).items() if name != path} == {
        name: value for name, value in trained.items() if name != path
    }
    assert read_json(copy / "evidence/controls.json") == before


def test_a_call_that_is_stopped_says_how_to_go_on_and_is_finished_by_itself(
    copy: Path, se_nas: Run, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, kept = found_in(copy, "latency_check.json", "ledger.json"), trainings_of(copy)
    keys = [kept.key(Task(answer_of(folder), 1)) for folder in (copy, copy / "evidence/searches/seed_5")]
    for key in keys:
        (copy / "evidence/trainings" / f"{key}.json").unlink()
    shutil.rmtree(copy / "evidence/guesses")

    def stop(*arguments: Any) -> TopAccuracies:
        os.kill(os.getpid(), signal.SIGTERM)
        return top_accuracies(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "top_accuracies", stop)
        code, errors, _ = se_nas("evidence", copy, "--quiet")
    assert code == 128 + signal.SIGTERM
    assert len(errors) == 1
    assert errors[0].endswith("(run the same command again)")
    assert (copy / "evidence/trainings" / keys[0] / "checkpoint.pt").exists()
    gather(copy)
    assert found_in(copy, "latency_check.json", "ledger.json") == before
    assert not list((copy / "evidence/trainings").glob("*/"))


def test_a_run_file_asks_for_evidence(
    home: Path, tmp_path: Path, se_nas: Run, gather: Callable[..., list[str]]
) -> None:
    few = {"seeds": [0], "random": 1, "best_of": 1, "ratios": [], "within": 0, "space": 0, "contexts": 1, "timed": 2}
    write_run(tmp_path / "files", {**TINY, "evidence": {**few, "published": ["plain.yaml"]}})
    write_yaml(tmp_path / "files/plain.yaml", PUBLISHED)
    code, _, said = se_nas("search", "files/run.yaml", "--out", "out", "--quiet")
    assert code == 0
    assert "evidence: controls" in said
    assert re.search(r"\d trainings? to do; that of the answer took \S+ s", " ".join(said.split()))
    assert {"answer", "plain", "random_1"} <= networks_of(tmp_path / "out").keys()
    assert (tmp_path / "out/evidence/published/plain.yaml").exists()
    before = found_in(tmp_path / "out", "latency_check.json", "ledger.json")
    shutil.rmtree(tmp_path / "files")
    gather(tmp_path / "out")  # from its folder alone
    assert found_in(tmp_path / "out", "latency_check.json", "ledger.json") == before


def test_what_is_finished_is_shown_with_its_number(
    finished: Path, tmp_path: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    for module, name in ((trainings, "train_network"), (evidence_parts, "run_search")):
        monkeypatch.setattr(module, name, refuse)
    gather(copy, "controls", "ranking", "stability", finished_only=True, **SETTINGS)
    assert found_in(copy).keys() == {"controls.json", "ranking.json", "ledger.json"}  # no other search is there
    assert list(records(copy)) == [f"{trainings_of(copy).key(Task(answer_of(copy), 0))}.json"]
    networks = networks_of(copy)
    own = read_json(copy / "result.json")["retrain"]["test_accuracy"]
    assert {name: entry["accuracies"] for name, entry in networks.items() if entry["accuracies"]} == {
        "answer": {"0": own}
    }
    for entry in read_json(copy / "evidence/controls.json")["comparisons"]:
        assert (entry["n"], entry["value"], entry["low"], entry["p_holm"]) == (0, None, None, None)
    for entries in read_json(copy / "evidence/ranking.json")["sets"]:
        assert len(entries["networks"]) <= 1
        assert "correlations" not in entries


def test_a_claim_is_planned_before_anything_is_trained_and_cannot_be_chosen_later(
    finished: Path, done: Path, tmp_path: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    primary = {"against": "random_mean", "difference": 0.05, "noise": 0.02, "spread": 0.01}
    settings = {name: value for name, value in SETTINGS.items() if name != "seeds"}
    monkeypatch.setattr(trainings, "train_network", refuse)
    gather(copy, "controls", finished_only=True, primary=primary, **settings)
    plan, part = read_json(copy / "evidence/plan.json"), read_json(copy / "evidence/controls.json")
    assert part["plan"] == plan
    assert (plan["primary"]["against"], plan["networks"], plan["seeds"]) == ("random_mean", 3, part["seeds"])
    assert [entry["label"] for entry in part["comparisons"] if entry.get("primary")] == [
        "the mean of 3 random networks"
    ]
    (section,) = (part for part in evidence_sections(copy, "copy").sections if part.name == "controls")
    assert isinstance(section.values, Controls)
    shown = "\n".join(claim.strong + claim.rest for claim in section.values.claims)
    assert f"One comparison was planned on {plan['written']}" in shown
    assert "It came out: no pair of trainings yet." in shown
    with pytest.raises(ConfigError, match="primary: must be as planned on "):
        gather(copy, "controls", primary={**primary, "against": "random_best", "spread": None})
    gather(copy, "controls", finished_only=True)  # what was refused left nothing behind
    later = Path(shutil.copytree(done, tmp_path / "later"))
    with pytest.raises(ConfigError, match="primary: must be planned before the first training"):
        gather(later, "controls", primary=primary)


def test_a_claim_may_be_against_random_networks_of_the_answers_size(
    finished: Path, tmp_path: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    primary = {"against": "of_size_mean", "difference": 0.05, "noise": 0.02, "spread": 0.01}
    monkeypatch.setattr(trainings, "train_network", refuse)
    monkeypatch.setattr(evidence_controls, "IN_VAIN", 20)
    said = "".join(gather(copy, "controls", finished_only=True, primary=primary, of_size=1000, **SETTINGS))
    part, networks = read_json(copy / "evidence/controls.json"), networks_of(copy)
    alike = [entry for entry in networks.values() if entry["kind"] == "of_size"]
    for metric, limit in (("macs", 90e3), ("params", 3e3)):
        ours = networks["answer"]["costs"][metric]
        assert all(0.9 * ours <= entry["costs"][metric] <= min(limit, 1.1 * ours) for entry in alike)
    assert 2 <= len(alike) == part["plan"]["networks"] < 1000
    assert f"1000 random networks of the answer's size were asked for, but only {len(alike)} were drawn" in said
    (claim,) = (entry for entry in part["comparisons"] if entry.get("primary"))
    assert claim["label"] == f"the mean of {len(alike)} random networks of its size"


def test_the_search_can_be_resumed_after_its_evidence(home: Path, copy: Path, gather: Callable[..., list[str]]) -> None:
    """All that the run file asks for must be as it was."""
    before = contents(copy / "evidence")
    result = read_json(copy / "result.json")
    config = load_run(home / "run.yaml")
    run_search(home / "run.yaml", config, copy, resume=True, progress=False, say=lambda line: None)
    assert contents(copy / "evidence") == before
    assert read_json(copy / "result.json")["retrain"]["test_accuracy"] == result["retrain"]["test_accuracy"]
    config = load_run(home / "run.yaml", {"retrain.epochs": 4})
    with pytest.raises(ConfigError, match=r"retrain\.epochs: must be as in the run"):
        run_search(home / "run.yaml", config, copy, resume=True, progress=False, say=lambda line: None)
    config = load_run(home / "run.yaml", {"evidence": {"seeds": [7]}})
    with pytest.raises(ConfigError, match=r"evidence: must be as in .* `se-nas evidence .* --set KEY=VALUE`") as caught:
        run_search(home / "run.yaml", config, copy, resume=True, progress=False, say=lambda line: None)
    assert "\n" not in str(caught.value)


def test_a_training_that_diverged_is_said_so_of_its_network(copy: Path, gather: Callable[..., list[str]]) -> None:
    kept, setting = trainings_of(copy), open_setting(copy)
    drawn = RandomFeasible(setting.space, setting.tables, setting.budgets, 0).distinct(2)
    task = Task(setting.space.resolve(drawn[1]), 1)
    path = copy / "evidence/trainings" / f"{kept.key(task)}.json"
    write_record(path, TrainingRecord(seed=1, failed="it was lost", seconds=10.0, cpu_seconds=20.0))
    before = read_json(copy / "evidence/ledger.json")["parts"]
    gather(copy, "controls", finished_only=True)
    networks = networks_of(copy)
    assert networks["random_2"]["failed"] == {"1": "it was lost"}
    assert networks["random_2"]["accuracies"].keys() == {"0"}
    lines = [next(e for e in parts if "stand-alone" in e["part"]) for parts in (before, ledger_of(copy))]
    assert lines[1]["part"] == lines[0]["part"]  # it counts
    assert lines[1]["images"] == lines[0]["images"] - 2 * 200
    assert lines[1]["device_seconds"] == pytest.approx(sum(record.cpu_seconds or 0 for record in kept.records()))


def ledger_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(folder / "evidence/ledger.json")["parts"]
    return found


def test_trainings_at_a_time_share_a_device_that_is_no_cpu() -> None:
    records = [
        TrainingRecord(seed=0, test_accuracy=0.5, seconds=5.0, cpu_seconds=4.0, images=10),
        TrainingRecord(seed=1, failed="it diverged", seconds=6.0, cpu_seconds=2.0),
        TrainingRecord(seed=2, test_accuracy=0.5, seconds=9.0, cpu_seconds=None, images=10),  # adopted
    ]
    spent = SpentAmount(seconds=7.0, device_seconds=7.0)
    entries = [training_entry(records, spent, on_cpu) for on_cpu in (True, False)]
    assert [(e.seconds, e.device_seconds, e.images) for e in entries] == [(11, 6, 10), (11, 7, 10)]


def test_a_part_whose_device_is_not_here_is_left_out_unless_it_is_asked_for(
    copy: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*arguments: Any, **options: Any) -> Any:
        raise DeviceError("latency must be measured elsewhere")

    monkeypatch.setattr(evidence_parts, "measure_networks", elsewhere)
    before = found_in(copy, "ledger.json")
    (copy / "evidence/controls.json").unlink()
    assert "left out: latency: latency must be measured elsewhere" in gather(copy)
    assert found_in(copy, "ledger.json") == before
    with pytest.raises(DeviceError, match="elsewhere"):
        gather(copy, "latency")


def test_a_part_with_nothing_to_show_leaves_no_old_file(copy: Path, gather: Callable[..., list[str]]) -> None:
    before = found_in(copy).keys()
    gather(copy, "stability", searches=[])
    assert found_in(copy).keys() == before - {"stability.json"}


def test_a_published_network_keeps_a_budget_on_latency_by_the_clock(
    finished: Path, tmp_path: Path, gather: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    timed: list[NetworkSpec] = []
    config = yaml.safe_load((copy / "config.yaml").read_text())
    write_yaml(copy / "config.yaml", changed(config, "budgets.latency_ms", 50))
    published = write_yaml(tmp_path / "se_resnet.yaml", PUBLISHED)  # no name of the evidence's own

    def clock(network: NetworkSpec, key: LatencyKey) -> Measurement:
        timed.append(network)
        ms = network_counts(network).macs / 400
        return Measurement(ms, ms, (0.9 * ms, 1.1 * ms), 9)

    monkeypatch.setattr("se_nas.cost.latencies.measure_network", clock)
    few = {"seeds": [0], "random": 1, "best_of": 1, "ratios": [], "published": [str(published)]}
    gather(copy, "controls", finished_only=True, **few)
    found = read_json(copy / "evidence/controls.json")
    costs = networks_of(copy)["se_resnet"]["costs"]
    assert (costs["latency_ms"], costs["latency_how"]) == (costs["macs"] / 400, "measured")
    assert costs["latency_ms"] * 1.1 <= 50 < network_counts(timed[0]).macs / 400 * 1.1
    before = len(timed)
    gather(copy, "controls", finished_only=True)
    assert len(timed) == before  # it is another network only where the file is another
    assert read_json(copy / "evidence/controls.json") == found
    assert networks_of(copy)["answer"]["costs"]["latency_how"] == "predicted"

    def never(network: NetworkSpec, key: LatencyKey) -> Measurement:
        return Measurement(60, 60, (59, 61), 9)

    monkeypatch.setattr("se_nas.cost.latencies.measure_network", never)
    write_yaml(published, changed(PUBLISHED, "stages.0.expansion", 3))
    said = gather(copy, "controls", finished_only=True, published=[str(published)])
    assert any(line.startswith("left out: se_resnet: must keep latency_ms <= 50 ms at some width") for line in said)
    assert "se_resnet" not in networks_of(copy)


SEARCHES: dict[str, dict[str, Any]] = {
    "stand_alone": {
        "strategy": "optuna",
        "max_evaluations": 3,
        "population": 2,
        "evaluator": "stand_alone",
        "stand_alone": {"epochs": 1, "batch_size": 40},
    },
    "table": {
        "strategy": "optuna",
        "sampler": "tpe",
        "max_evaluations": 6,
        "evaluator": "table",
        "table": "known.jsonl",
    },
    "supernet": {
        "strategy": "optuna",
        "max_evaluations": 4,
        "population": 2,
        "supernet": {"epochs": 1, "batch_size": 20, "calibration_images": 32},
    },
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_without_a_supernet_leaves_out_what_needs_one(
    home: Path, tmp_path: Path, gather: Callable[..., list[str]], name: str
) -> None:
    run = {**changed(changed(TINY, "retrain.epochs", 1), "latency", {"table": False}), "search": SEARCHES[name]}
    run_file = write_run(tmp_path, run)
    write_table(tmp_path / "known.jsonl", load_space(tmp_path / "space.yaml"))
    config = load_run(run_file)
    assert isinstance(config.search, OptunaConfig)
    run_search(run_file, config, tmp_path / "out", resume=False, progress=False, say=lambda line: None)
    few = {"seeds": [0], "random": 1, "best_of": 2, "ratios": [], "within": 3, "space": 0, "contexts": 1}
    said = gather(tmp_path / "out", **few, searches=[5] if name == "table" else [])
    more = {"supernet": {"ranking.json", "where_se_pays.json"}, "table": {"stability.json"}}
    files = {"controls.json", "ledger.json", *more.get(name, ())}  # and no latency table
    assert found_in(tmp_path / "out").keys() == files
    without = "the search left no supernet: what needs one is left out"
    assert said.count(without) == (name != "supernet")
    networks = networks_of(tmp_path / "out")
    assert networks.keys() - {"best_of_random", "answer_no_se"} == {"answer", "no_se", "random_1"}
    for entry in networks.values():
        assert (entry["supernet_accuracy"] is None) == (name != "supernet")
        assert entry["costs"]["latency_ms"] is None
        assert math.isfinite(entry["accuracies"]["0"])
    assert ("best_of_random" in networks) == (name == "supernet")


# ---- what a user may get wrong


FAULTS: list[tuple[list[str], str]] = [
    (["--part", "control"], "--part: must be one of latency, where-se-pays, controls, "),
    (["--set", "seed=[0]"], "--set: seed: unknown key"),
    (["--set", "seeds"], "--set: a change must be PATH=VALUE"),
    (["--set", "seeds=[0"], "--set: seeds: the value must be YAML"),
    (["--set", "seeds=3"], "--set: seeds: must be a list, but got 3"),
    (["--set", "seeds=[]"], "--set: seeds: must not be empty"),
    (["--set", "seeds=[1, 1]"], "--set: seeds: must hold no value twice"),
    (["--set", "seeds=[0, -1]"], "--set: seeds[1]: must be greater than or equal to 0, but got -1"),
    (["--set", "ratios=[0.5]"], "--set: ratios[0]: must be greater than or equal to 1, but got 0.5"),
    (["--set", "random=0"], "--set: random: must be greater than or equal to 1, but got 0"),
    (["--set", "searches=[1, 0]"], "--set: searches: must be seeds other than 0, which is the run's own"),
    (["--set", "published=[none.yaml]"], "none.yaml: "),
    (["--set", "published=[space.yaml]"], "space.yaml: must be a space of one architecture"),
    (["--set", "published=[plain.yaml, plain.yaml]"], "--set: published, others: names must differ"),
    (["--set", "published=[se_r4.yaml]"], "--set: published, others: names must not be those of the networks that"),
    (["--set", "others=[nowhere]"], "nowhere/result.json: file: must be readable"),
    (["--set", "others=[other_space]"], "other_space: must be a run of the same space, but it is of another"),
    (["--set", "others=[other_budget]"], "other_budget: budgets: must be "),
    (["--set", "others=[retraining]"], "retraining: must be the folder of a finished search"),
]


@pytest.mark.parametrize(("arguments", "expected"), FAULTS, ids=[" ".join(fault[0]) for fault in FAULTS])
def test_a_fault_is_told_in_one_line_and_nothing_is_written(
    se_nas: Run, finished: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    write_yaml(tmp_path / "space.yaml", SPACE)
    for name in ("plain", "se_r4"):
        write_yaml(tmp_path / f"{name}.yaml", PUBLISHED)
    for name in ("other_space", "other_budget", "retraining"):
        (tmp_path / name).mkdir()
        for file in ("result.json", "architecture.json"):
            shutil.copy(run / file, tmp_path / name)
    result, architecture = read_json(run / "result.json"), read_json(run / "architecture.json")
    write_json(tmp_path / "other_budget/result.json", changed(result, "budgets.macs", 80e3))
    del result["budgets"]
    write_json(tmp_path / "retraining/result.json", result)
    write_json(tmp_path / "other_space/architecture.json", changed(architecture, "space.digest", "0" * 64))
    before = contents(tmp_path)
    assert_refused(se_nas("evidence", "run", "--quiet", *arguments), expected)
    assert contents(tmp_path) == before


def test_a_folder_without_a_finished_run_that_was_retrained_is_refused(
    se_nas: Run, finished: Path, tmp_path: Path
) -> None:
    assert_refused(se_nas("evidence", "nowhere"), "nowhere: must be the folder of a finished run, but it has no config")
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    write_yaml(run / "config.yaml", {**config, "retrain": None})
    assert_refused(se_nas("evidence", "run"), "run/config.yaml: retrain: must hold a recipe, by which the controls are")
    (run / "result.json").unlink()
    assert_refused(se_nas("evidence", "run"), "run: must be the folder of a finished run, but it has no result.json")
    assert not (run / "evidence").exists()


FAINT = {"against": "random_mean", "difference": 0.001, "noise": 0.02, "spread": 0.05}
ASKED: list[tuple[dict[str, Any], str]] = [
    ({"evidence": {"searches": [1, 0]}}, "run.yaml: evidence.searches: must be seeds other than 0"),
    ({"evidence": {}, "retrain": None}, "run.yaml: retrain: must hold a recipe, by which the controls of `evidence`"),
    ({"evidence": {"published": ["none.yaml"]}}, "HERE/none.yaml: "),
    ({"evidence": {"published": ["space.yaml"]}}, "HERE/space.yaml: must be a space of one architecture"),
    ({"evidence": {"published": ["se_r4.yaml"]}}, "run.yaml: evidence.published, evidence.others: names must not be"),
    ({"evidence": {"others": ["nowhere"]}}, "HERE/nowhere/result.json: file: must be readable"),
    ({"evidence": {"others": ["other"]}}, "HERE/other: budgets: must be "),
    ({"evidence": {"random": 3, "primary": FAINT}}, "run.yaml: evidence.primary.power: must be 0.0"),
]


@pytest.mark.parametrize(("asked", "expected"), ASKED, ids=[str(fault[0]) for fault in ASKED])
def test_a_run_whose_evidence_could_not_be_gathered_is_not_begun(
    se_nas: Run, finished: Path, home: Path, tmp_path: Path, asked: dict[str, Any], expected: str
) -> None:
    write_run(tmp_path, {**TINY, **asked})
    write_yaml(tmp_path / "se_r4.yaml", PUBLISHED)
    (tmp_path / "other").mkdir()
    for file in ("result.json", "architecture.json"):
        shutil.copy(finished / file, tmp_path / "other")
    write_json(tmp_path / "other/result.json", changed(read_json(finished / "result.json"), "budgets.macs", 80e3))
    before = contents(tmp_path)
    assert_refused(se_nas("search", "run.yaml", "--quiet"), expected.replace("HERE", str(tmp_path)))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ['{"seed": 1, "te', "[1, 2]"])
@pytest.mark.parametrize("name", ["trainings", "spent.json", "supernet_scores.json", "config.yaml"])
def test_a_damaged_file_is_named(se_nas: Run, copy: Path, name: str, text: str) -> None:
    path = copy / "evidence" / name
    if path.is_dir():
        path = path / f"{trainings_of(copy).key(Task(answer_of(copy), 1))}.json"
    path.write_text(text)
    before = records(copy), found_in(copy)
    assert_refused(se_nas("evidence", copy, "--quiet", "--part", "controls"), f"{path}: ")
    assert (records(copy), found_in(copy)) == before
