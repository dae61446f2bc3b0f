"""A study in a database: few statements a candidate, and the same trials as by Optuna's own way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from se_nas.cost.budget import parse_budgets
from se_nas.cost.table import count_tables
from se_nas.search.black_box import storage
from se_nas.search.black_box.candidate import EnoughProposed
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Pruned
from se_nas.search.black_box.search import work
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

SMALL = Path(__file__).resolve().parents[3] / "search_spaces" / "mbconv_cifar_small.yaml"
#: Looking, proposing, writing down and telling, whatever the number of choices.
MOST = 20


@pytest.fixture(autouse=True)
def _connections_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    create, engines = sqlalchemy.engine.create_engine, []

    def hurry(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # waits for no disk
        connection.execute("PRAGMA journal_mode=MEMORY")

    def remembered(*words: Any, **settings: Any) -> sqlalchemy.engine.Engine:
        engines.append(create(*words, **settings))
        sqlalchemy.event.listen(engines[-1], "connect", hurry)
        return engines[-1]

    monkeypatch.setattr(sqlalchemy.engine, "create_engine", remembered)
    yield
    for engine in engines:
        engine.dispose()


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """All that SQLAlchemy hands to a driver."""
    found: list[str] = []

    def executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", executed)
    yield found
    sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", executed)


def open_study(path: Path, space: SearchSpace, budgets: dict[str, Any] | None = None, **settings: Any) -> Any:
    config = OptunaConfig(max_evaluations=100, **settings)
    limits, url = parse_budgets(budgets or {}, "here"), f"sqlite:///{path}"
    return ArchitectureStudy("study", space, limits, count_tables(space), config, 0, url=url)


def test_a_candidate_takes_few_statements_however_many_choices_there_are(tmp_path: Path, statements: list[str]) -> None:
    space = load_space(SMALL)
    assert len(space.choices) > 30
    study = open_study(tmp_path / "a.db", space, {"macs": "6M"}, objectives=("accuracy", "macs"))
    before: list[int] = []

    def evaluate(architecture: Architecture) -> float:
        before.append(len(statements))
        return 0.5

    assert work(study, evaluate, 12, progress=True).evaluated == 12
    taken = [later - earlier for earlier, later in itertools.pairwise(before)]
    assert max(taken[1:]) <= MOST, statements[before[-2] :]


def played(study: ArchitectureStudy) -> list[FrozenTrial]:
    """A search with all that can become of a proposal; its trials."""
    for turn in range(10):
        if turn == 3:
            study.enqueue(study.evaluations()[0].architecture)  # is there already
            study.enqueue(next(iter(study.space.enumerate())))
        if turn == 5:
            study._study.enqueue_trial(study.evaluations()[0].architecture.as_dict())  # so that it has a twin
        candidate = study.ask()
        state: Any = {4: "failed", 8: "pruned"}.get(turn, "complete")
        try:
            for epoch in range(3):
                study.tell_epoch(candidate.number, epoch, 0.1 * epoch + turn / 100)
        except Pruned:
            state = "pruned"
        accuracy = turn / 20 if state == "complete" else None
        study.tell(candidate.number, accuracy, state=state, seconds=float(turn), curve=[(0, 0.25), (1, 0.5)])
    with pytest.raises(EnoughProposed):
        study.ask(at_most=3)
    return study._study.get_trials()


def plain(trial: FrozenTrial) -> dict[str, Any]:
    attributes = {key: value for key, value in trial.user_attrs.items() if key != "worker"}
    steps = trial.intermediate_values
    return {
        "state": trial.state,
        "values": trial.values,
        "params": trial.params,
        "user": attributes,
        "steps": steps,
    } | {
        "system": trial.system_attrs,
        "distributions": trial.distributions,
    }


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {"evaluator": "stand_alone", "pruner": "successive_halving", "sampler": "evolution", "population": 4},
            marks=pytest.mark.slow,
        ),
        pytest.param({"sampler": "nsga2", "objectives": ("accuracy", "macs"), "population": 4}, marks=pytest.mark.slow),
        pytest.param({"sampler": "tpe"}, marks=pytest.mark.slow),
        {"sampler": "random"},
    ],
    ids=["evolution", "nsga2", "tpe", "random"],
)
def test_a_study_is_the_same_as_by_optunas_own_way(
    tmp_path: Path, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    ours = played(open_study(tmp_path / "ours.db", tiny_space, **settings))
    read_again = open_study(tmp_path / "ours.db", tiny_space, **settings)
    monkeypatch.setattr(storage, "Database", lambda backend: backend)
    theirs = played(open_study(tmp_path / "theirs.db", tiny_space, **settings))
    assert [plain(trial) for trial in ours] == [plain(trial) for trial in theirs]
    assert [plain(trial) for trial in read_again._study.get_trials()] == [plain(trial) for trial in theirs]
    assert {TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED} <= {trial.state for trial in ours}


def test_a_worker_that_was_taken_for_dead_while_it_proposed_asks_for_another(
    tmp_path: Path, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep, other = (open_study(tmp_path / "a.db", tiny_space) for _ in range(2))
    write = asleep._database.write

    def slept(trial_id: int) -> bool:
        monkeypatch.setattr(asleep._database, "write", write)
        storage.hand_on(other._study, other._storage.get_trial(trial_id))
        return write(trial_id)

    monkeypatch.setattr(asleep._database, "write", slept)
    assert work(asleep, lambda architecture: 0.5, 3, progress=False).evaluated == 3
    assert [e.state for e in other.evaluations()].count("complete") == 3
