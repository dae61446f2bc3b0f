"""The search of a run: what it evaluates first, what it leaves behind, and the answer that it hands back."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from se_nas.cost.budget import Budget
from se_nas.cost.latency.timing import latency_key
from se_nas.cost.metrics import LATENCY
from se_nas.errors import (
    ArchitectureError,
    CheckpointError,
    ConfigError,
    InfeasibleBudgetError,
    OutputError,
    StorageError,
    TrainingInterrupted,
)
from se_nas.records.models.run_result import LedgerEntry
from se_nas.search.black_box import strategy as optuna_strategy
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import evaluations_from
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator
from se_nas.search.black_box.strategy import await_prepared, open_evaluator, open_study, prepare, search_optuna
from se_nas.search.budgets.baselines import baseline, known_baselines
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SUPERNET, TABLE
from se_nas.search.strategies import answer_again
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.conftest import TINY_SPACE
from tests.helpers.tiny_runs import changed, contents, read_json
from tests.search.known_worth import feasible, worth, write_table
from tests.search.problems import make_problem


def config(**fields: Any) -> OptunaConfig:
    values = {"evaluator": "table", "table": TABLE, "max_evaluations": 10, "population": 4, **fields}
    return OptunaConfig.model_validate(values)


@pytest.fixture
def problem(tiny_space: SearchSpace, tmp_path: Path) -> SearchProblem:
    """A search folder in a run's folder, with the table of every network's worth."""
    folder = tmp_path / "run" / "search"
    folder.mkdir(parents=True)
    made = make_problem(tiny_space, folder, macs=0.5)
    write_table(folder / TABLE, made.space)
    return made


def rows(problem: SearchProblem) -> list[dict[str, Any]]:
    found = read_json(problem.folder / "evaluations.json")["evaluations"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def test_baselines_and_files_of_the_run_are_evaluated_first(problem: SearchProblem) -> None:
    space = problem.space
    chosen = feasible(space, problem.budgets)[7]
    file = ArchitectureFile.of(space, chosen)
    save_architecture(problem.folder / "enqueued" / "0.json", file)
    words = (*known_baselines(space), "search/enqueued/0.json")
    search_optuna(problem, config(enqueue=words))
    wanted = [baseline(word, space, problem.tables, problem.budgets) for word in known_baselines(space)]
    wanted = list(dict.fromkeys([*wanted, chosen]))
    assert [row["picks"] for row in rows(problem)][: len(wanted)] == [a.as_dict() for a in wanted]


def test_an_architecture_of_another_space_is_no_beginning(problem: SearchProblem) -> None:
    other = parse_space(changed(TINY_SPACE, "stages.0.kernel", [3, 7]), "other")
    architecture = next(other.enumerate())
    save_architecture(problem.folder / "0.json", ArchitectureFile.of(other, architecture))
    with pytest.raises(ArchitectureError, match="must be of this space"):
        search_optuna(problem, config(enqueue=["search/0.json"]))
    with pytest.raises(ArchitectureError, match="must be readable"):
        search_optuna(problem, config(enqueue=["se_r99"]))


def test_the_answer_is_the_best_evaluation_and_the_summary_counts(problem: SearchProblem) -> None:
    found = search_optuna(problem, config(sampler="nsga2", objectives=["accuracy", "params"], max_evaluations=200))
    allowed = feasible(problem.space, problem.budgets)
    best = max(allowed, key=worth)
    answer = found.answer({LATENCY: latency_key()})
    assert (answer.architecture, found.accuracy(best)) == (best, worth(best))
    assert len(rows(problem)) == len(allowed)
    assert found.summary.pop("evaluation_seconds") == found.seconds >= 0
    front = found.summary.pop("front")
    assert 1 <= front <= len(allowed)
    assert found.summary == {
        "sampler": "nsga2",
        "objectives": ["accuracy", "params"],
        "evaluator": "table",
        "evaluations": len(allowed),
        "distinct": len(allowed),
        "infeasible": 0,
        "pruned": 0,
        "failed": 0,
        "exhausted": True,
        "supernet_seconds": 0.0,
    }
    importance = read_json(problem.folder / "importance.json")
    assert set(importance) == {choice.name for choice in problem.space.choices}


def test_an_accuracy_that_is_not_known_is_asked_of_the_evaluator(problem: SearchProblem) -> None:
    found = search_optuna(problem, config(max_evaluations=2))
    known = [row["picks"] for row in rows(problem)]
    other = next(a for a in problem.space.enumerate() if a.as_dict() not in known)
    assert found.accuracy(other) == pytest.approx(worth(other))


def test_a_finished_search_done_again_leaves_its_files_alone(problem: SearchProblem) -> None:
    first = search_optuna(problem, config(objectives=["accuracy", "macs"]))
    before = contents(problem.folder)
    again = search_optuna(dataclasses.replace(problem, resume=True), config(objectives=["accuracy", "macs"]))
    assert contents(problem.folder) == before
    assert (again.summary, again.seconds, again.images) == (first.summary, first.seconds, first.images)


def test_a_folder_with_a_study_of_something_else_is_refused(problem: SearchProblem) -> None:
    search_optuna(problem, config())
    before = contents(problem.folder)
    with pytest.raises(ConfigError, match=r"study run-[0-9a-f]{8} in .*study\.journal: seed: must be that of this run"):
        search_optuna(dataclasses.replace(problem, seed=5), config())
    assert contents(problem.folder) == before


def _halved(content: bytes) -> bytes:
    """Without its second half, whole lines alone."""
    return content[: content.rfind(b"\n", 0, len(content) // 2) + 1]


def _other_digit(content: bytes) -> bytes:
    """One bit of one digit of an accuracy: still JSON, and still a study."""
    place = content.rindex(b"0.") + 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


_DAMAGES: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "gone": (lambda content: None, "it is gone or empty"),
    "empty": (lambda content: b"", "it is gone or empty"),
    "NULs": (lambda content: bytes(len(content)), "its content is altered"),
    "NULs and a line end": (lambda content: bytes(len(content) - 1) + b"\n", "its content is altered"),
    "NULs inside": (lambda content: content[:100] + bytes(50) + content[150:], "its content is altered"),
    "cut short": (_halved, "it is cut short"),
    "another digit": (_other_digit, "its content is altered"),
}


@pytest.mark.parametrize(
    ("name", "keeps_sum"),
    # a study of before there was a sum says nothing of the last two
    [(name, True) for name in _DAMAGES] + [(name, False) for name in list(_DAMAGES)[:-2]],
)
def test_a_damaged_study_is_one_error_and_never_begun_anew(problem: SearchProblem, name: str, keeps_sum: bool) -> None:
    search_optuna(problem, config())
    damage, fault = _DAMAGES[name]
    journal = problem.folder / "study.journal"
    damaged = damage(journal.read_bytes())
    if not keeps_sum:
        (problem.folder / "study.journal.sum").unlink()
    if damaged is None:
        journal.unlink()
    else:
        journal.write_bytes(damaged)
    with pytest.raises((OutputError, StorageError)) as error:
        search_optuna(dataclasses.replace(problem, resume=True), config(max_evaluations=12))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{journal}: must ")
    assert (f"with 10 evaluations, but {fault}: put a copy" in line) == keeps_sum
    assert journal.read_bytes() == (damaged or b"")


def test_what_follows_the_last_note_may_be_torn(problem: SearchProblem) -> None:
    search_optuna(problem, config())
    journal = problem.folder / "study.journal"
    whole = journal.read_bytes()
    for tail in (b'{"op_code":5,"wor', bytes(200)):  # a kill leaves the first, a crash of the machine the second
        journal.write_bytes(whole + tail)
        found = search_optuna(dataclasses.replace(problem, resume=True), config())
        assert found.summary["evaluations"] == 10
        assert journal.read_bytes() == whole


def test_a_search_that_has_forgotten_its_study_does_not_begin_another(problem: SearchProblem) -> None:
    search_optuna(problem, config())
    (problem.folder / "study.json").unlink()
    again = dataclasses.replace(problem, resume=True)
    with pytest.raises(ConfigError, match=r"study\.json: file: must be there, as evaluations\.json"):
        search_optuna(again, config())
    (problem.folder / "evaluations.json").unlink()
    with pytest.raises(OutputError, match=r"study\.journal: must hold the study of this run alone, but holds run-"):
        search_optuna(again, config())


@pytest.mark.parametrize("content", ["null", "[]", '{"study": 3, "shared": "?"}', '{"study": "a"}', "[" * 1000])
def test_a_damaged_name_of_the_study_is_told(problem: SearchProblem, content: str) -> None:
    search_optuna(problem, config())
    (problem.folder / "study.json").write_text(content)
    with pytest.raises(ConfigError, match=r"study\.json: "):
        search_optuna(dataclasses.replace(problem, resume=True), config())


def test_other_budgets_are_answered_by_the_best_that_was_evaluated(problem: SearchProblem) -> None:
    search_optuna(problem, config(max_evaluations=30))
    value = read_json(problem.folder / "evaluations.json")
    entries = evaluations_from(problem.space, value, "e")
    limit = sorted(e.costs["params"] for e in entries)[10]
    best = max((e for e in entries if e.costs["params"] <= limit), key=lambda e: e.accuracy or 0)
    found = answer_again(
        problem.folder, problem.space, problem.tables, {LATENCY: latency_key()}, [Budget("params", limit)]
    )
    assert found.architecture == best.architecture
    for budget, error in ((Budget("params", 1.0), InfeasibleBudgetError), (Budget("latency_ms", 1.0), ConfigError)):
        with pytest.raises(error):
            answer_again(problem.folder, problem.space, problem.tables, {LATENCY: latency_key()}, [budget])
    (problem.folder / "evaluations.json").write_text(json.dumps(value)[:-20])
    with pytest.raises(ConfigError, match="file: must be JSON"):
        answer_again(problem.folder, problem.space, problem.tables, {LATENCY: latency_key()}, [])


def test_a_supernet_is_trained_once_and_waited_for(problem: SearchProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a word now and then, until there is one or nobody needs it any more."""
    search = config(evaluator="supernet", table=None, supernet={"epochs": 1, "batch_size": 20})
    with pytest.raises(CheckpointError):
        open_evaluator(problem, search)
    waits, now = itertools.count(), 0.0
    said: list[str] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += 25
        if next(waits) == 3:
            prepare(problem, search)

    monkeypatch.setattr(optuna_strategy, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    study = open_study(problem, search)
    assert await_prepared(problem, search, study, said.append)
    assert next(waits) == 4
    assert len(said) == 2  # after 0 and 75 of 100 seconds
    assert all(line.startswith(f"waiting for {problem.folder / SUPERNET}: the run makes it") for line in said)
    evaluator = open_evaluator(problem, search)
    assert isinstance(evaluator, SupernetEvaluator)
    before = contents(problem.folder)[SUPERNET]
    assert prepare(dataclasses.replace(problem, resume=True), search).images
    assert contents(problem.folder)[SUPERNET] == before
    assert not (problem.folder / f"{SUPERNET}.previous").exists()
    accuracy = evaluator(next(problem.space.enumerate()))
    assert 0 <= accuracy <= 1

    (problem.folder / SUPERNET).unlink()
    done = search.model_copy(update={"max_evaluations": 0})
    assert not await_prepared(problem, done, study, said.append)

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna_strategy.time, "sleep", stop)
    with pytest.raises(TrainingInterrupted, match="stopped by SIGINT"):
        await_prepared(problem, search, study, said.append)


def test_short_trainings_need_no_preparation(problem: SearchProblem) -> None:
    search = config(evaluator="stand_alone", table=None)
    assert prepare(problem, search) == LedgerEntry(part="stand_alone", seconds=0.0, cpu_seconds=0.0, images=0)
    assert isinstance(open_evaluator(problem, search), StandAloneEvaluator)
