"""The study: what it proposes is canonical, new and within the budgets; what it is told is kept, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.errors import ArchitectureError, ConfigError, InfeasibleBudgetError, OutputError
from se_nas.search.black_box.architecture_sampler import distributions
from se_nas.search.black_box.candidate import SMALL, SpaceExhausted
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Pruned
from se_nas.search.black_box.importance import importances
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.conftest import TINY_SPACE
from tests.helpers.strategies import spaces
from tests.helpers.tiny_runs import changed
from tests.search.known_worth import binding, feasible, worth


def open_study(
    space: SearchSpace,
    budgets: list[Budget],
    file: Path | None = None,
    *,
    seed: int = 0,
    take_over: bool = True,
    **fields: Any,
) -> ArchitectureStudy:
    config = OptunaConfig(**{"population": 4, **fields})
    return ArchitectureStudy(
        "tiny", space, budgets, count_tables(space), config, seed, file=file, take_over=file is not None and take_over
    )


def exhaust(study: ArchitectureStudy, most: int = 1000) -> list[Architecture]:
    """Ask and tell until nothing new is left, or so many times."""
    found = []
    for _ in range(most):
        try:
            candidate = study.ask()
        except SpaceExhausted:
            break
        found.append(candidate.architecture)
        study.tell(candidate.number, worth(candidate.architecture))
    return found


def raw(study: ArchitectureStudy) -> list[optuna.trial.FrozenTrial]:
    """The trials, as Optuna has them."""
    return study._study.trials


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(spaces(most_picks=400), st.sampled_from(["nsga2", "tpe", "evolution", "random"]), st.data())
def test_in_every_space_proposals_are_canonical_new_and_within_the_budgets(
    space: SearchSpace, sampler: Any, data: st.DataObject
) -> None:
    every = list(space.enumerate())
    wanted = every[data.draw(st.integers(0, len(every) - 1))]
    budgets = [Budget(m, table.cost(wanted)) for m, table in count_tables(space).items()][
        data.draw(st.integers(0, 1)) :
    ]
    allowed = feasible(space, budgets)
    study = open_study(space, budgets, sampler=sampler)
    found = exhaust(study, 12)
    assert len(set(found)) == len(found) == min(12, len(allowed))
    assert set(found) <= set(allowed)
    assert all(space.architecture(a.as_dict()) == a for a in found)
    for entry in study.evaluations():
        assert entry.feasible
        assert entry.excess == {b.metric: (entry.costs[b.metric] - b.limit) / b.limit for b in budgets}


@pytest.mark.parametrize("proposals", ["feasible", "any"])
@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "random", "evolution"])
def test_a_small_space_is_proposed_whole_once_and_is_then_exhausted(
    tiny_space: SearchSpace, sampler: Any, proposals: Any
) -> None:
    budgets = binding(tiny_space)
    study = open_study(tiny_space, budgets, sampler=sampler, proposals=proposals)
    allowed = feasible(tiny_space, budgets if proposals == "feasible" else [])
    found = exhaust(study)
    assert len(found) == len(set(found)) == len(allowed)
    assert set(found) == set(allowed)
    assert [e.same_as for e in study.evaluations()] == [None] * len(found)
    with pytest.raises(SpaceExhausted):
        study.ask()


def large_space() -> SearchSpace:
    """Its first options are its cheapest."""
    blocks = {"width": 8, "depth": 1, "kernel": [3, 5, 7], "expansion": [2, 3, 4], "se": {"options": ["none", 2, 4]}}
    return parse_space(changed(TINY_SPACE, "stages", [{**blocks, "stride": 2} for _ in range(4)]), "large")


def test_the_one_network_that_a_budget_leaves_in_a_large_space_is_proposed_once() -> None:
    """Too large to be enumerated, so that only repeats tell that nothing is left; none of them is a candidate."""
    space = large_space()
    assert space.size > SMALL
    tables = count_tables(space)
    least = space.architecture({c.name: c.options[0] for c in space.choices})
    study = open_study(space, [Budget("params", tables["params"].cost(least))])
    assert exhaust(study) == [least]
    repeats = study.evaluations()[1:]
    assert {(e.architecture, e.accuracy, e.same_as, e.seconds) for e in repeats} == {(least, worth(least), 0, 0.0)}
    assert study.count() == 1


def test_a_repeat_of_a_pruned_proposal_is_pruned_as_that_was() -> None:
    space = large_space()
    least = count_tables(space)["params"].cost(space.architecture({c.name: c.options[0] for c in space.choices}))
    study = open_study(space, [Budget("params", least)], evaluator="stand_alone", pruner="successive_halving")
    study.tell(study.ask().number, None, state="pruned", curve=[(0, 0.25)])
    with pytest.raises(SpaceExhausted):
        study.ask()
    assert {(e.state, e.accuracy, e.curve[0]) for e in study.evaluations()} == {("pruned", 0.25, (0, 0.25))}
    assert study.count() == 1


def test_budgets_are_optuna_constraints_above_zero_where_they_are_broken(tiny_space: SearchSpace) -> None:
    budgets = binding(tiny_space)
    study = open_study(tiny_space, budgets, proposals="any", sampler="random")
    exhaust(study, 30)
    signs = set()
    for trial, entry in zip(raw(study), study.evaluations(), strict=True):
        assert trial.constraints == entry.excess
        assert set(entry.excess) == {"macs", "params"}
        for budget in budgets:
            signs.add(trial.constraints[budget.metric] > 0)
            assert (trial.constraints[budget.metric] > 0) == (not budget.holds(entry.costs[budget.metric]))
    assert signs == {True, False}
    best = study.best_accuracy()
    assert best == max(e.accuracy or 0 for e in study.evaluations() if e.feasible)
    assert best < max(e.accuracy or 0 for e in study.evaluations())


def in_use(space: SearchSpace, architecture: Architecture) -> set[str]:
    """Choices that another option of gives another network, or may with another canonical pick."""
    used = set()
    for slot in space.slots:
        used.add(slot.depth.choice)
        picks = architecture.as_dict()
        depth = picks[slot.depth.choice] if slot.depth.choice else slot.depth.options[0]
        if slot.index < int(depth):
            used.add(slot.op.choice)
            op = slot.ops[slot.op.options.index(picks[slot.op.choice])] if slot.op.choice else slot.ops[0]
            used |= {axis.choice for axis in op.axes}
    return used - {None}  # type: ignore[return-value]


def test_tpe_is_given_the_choices_in_use_alone_and_the_others_all(tiny_space: SearchSpace) -> None:
    every = {choice.name for choice in tiny_space.choices}
    for sampler in ("tpe", "nsga2", "evolution", "random"):
        study = open_study(tiny_space, [], sampler=sampler)
        exhaust(study, 12)
        sizes = set()
        for trial, entry in zip(raw(study), study.evaluations(), strict=True):
            wanted = in_use(tiny_space, entry.architecture) if sampler == "tpe" else every
            assert set(trial.params) == wanted
            assert trial.distributions.items() <= distributions(tiny_space).items()
            sizes.add(len(wanted))
        assert (len(sizes) > 1) == (sampler == "tpe")


def test_what_is_enqueued_comes_first_and_once(tiny_space: SearchSpace, tmp_path: Path) -> None:
    budgets = binding(tiny_space)
    outside = next(a for a in tiny_space.enumerate() if a not in feasible(tiny_space, budgets))
    first, second = feasible(tiny_space, budgets)[5:7]
    file = tmp_path / "study.journal"
    study = open_study(tiny_space, budgets, file)
    for architecture in (second, outside, second, first):
        study.enqueue(architecture)
    assert study.waiting == 3
    assert study.evaluations() == []
    assert exhaust(study, 2) == [second, outside]
    assert not study.evaluations()[1].feasible
    study.close()
    again = open_study(tiny_space, budgets, file)
    for architecture in (second, outside, second, first):
        again.enqueue(architecture)
    found = exhaust(again)
    assert found[0] == first
    assert len(found) == len(set(found)) == len(feasible(tiny_space, budgets)) - 1
    with pytest.raises(ArchitectureError, match="must be of this space"):
        again.enqueue(Architecture("another", first.picks))


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_what_is_enqueued_can_become_a_parent(tiny_space: SearchSpace, sampler: Any) -> None:
    study = open_study(tiny_space, [], sampler=sampler)
    best = max(tiny_space.enumerate(), key=worth)
    study.enqueue(best)
    exhaust(study, 5)
    attributes = study._storage.get_study_system_attrs(study._study._study_id)
    parents = next(value for key, value in attributes.items() if key.endswith(":parent:1"))
    assert raw(study)[0]._trial_id in parents


def test_a_study_of_before_memory_was_counted_goes_on_with_all_that_it_has(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    tables, config = count_tables(tiny_space), OptunaConfig(population=4)
    before = {metric: tables[metric] for metric in ("macs", "params")}
    study = ArchitectureStudy("tiny", tiny_space, [], before, config, 0, file=tmp_path / "study")
    for accuracy in (0.5, 0.6, 0.7):
        study.tell(study.ask().number, accuracy)
    old = study.evaluations()
    study.close()
    again = ArchitectureStudy("tiny", tiny_space, [], tables, config, 0, file=tmp_path / "study", take_over=True)
    assert [entry.accuracy for entry in again.evaluations()] == [entry.accuracy for entry in old] == [0.5, 0.6, 0.7]
    for entry in again.evaluations():
        assert entry.costs == {metric: table.cost(entry.architecture) for metric, table in tables.items()}


def test_telling_again_changes_nothing(tiny_space: SearchSpace, tmp_path: Path) -> None:
    study = open_study(tiny_space, [], tmp_path / "study.journal")
    a, b, c = study.ask(), study.ask(), study.ask()
    assert study.running() == [0, 1, 2]
    study.tell(b.number, 0.25, seconds=2.0, curve=[(0, 0.1)])
    study.tell(a.number, None, state="failed", seconds=1.0)
    study.tell(c.number, None, state="pruned", curve=[(0, 0.5), (1, 0.75)])
    before = study.evaluations()
    for candidate in (a, b, c):
        study.tell(candidate.number, 0.9, seconds=9.0)
        study.tell(candidate.number, None, state="failed")
        study.tell(candidate.number, None, state="pruned", curve=[(0, 0.0)])
    assert study.evaluations() == before
    assert [(e.state, e.accuracy, e.seconds) for e in before] == [
        ("failed", None, 1.0),
        ("complete", 0.25, 2.0),
        ("pruned", 0.75, 0.0),
    ]
    assert before[1].curve == [(0, 0.1)]
    assert (study.running(), study.count(), study.best_accuracy()) == ([], 2, 0.25)
    study.close()
    assert open_study(tiny_space, [], tmp_path / "study.journal").evaluations() == before


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_what_falls_behind_is_pruned_and_the_best_never(tiny_space: SearchSpace, pruner: Any) -> None:
    study = open_study(
        tiny_space, [], evaluator="stand_alone", pruner=pruner, stand_alone={"epochs": 5}, sampler="random"
    )
    best, ended = 0.0, {"pruned": 0, "complete": 0}
    for _ in range(40):
        candidate = study.ask()
        value, curve = worth(candidate.architecture), []
        try:
            for epoch in range(5):
                curve.append((epoch, value * (epoch + 1) / 5))
                study.tell_epoch(candidate.number, *curve[-1])
        except Pruned:
            assert value < best
            assert len(curve) < 5  # the last epoch saves nothing any more
            study.tell(candidate.number, None, state="pruned", curve=curve)
            ended["pruned"] += 1
        else:
            study.tell(candidate.number, value, curve=curve)
            ended["complete"] += 1
        best = max(best, value)
    assert min(ended.values()) >= 5
    entries = study.evaluations()
    assert max(e.accuracy or 0 for e in entries if e.complete) == best
    for entry in entries:
        assert entry.accuracy == (entry.curve[-1][1] if entry.state == "pruned" else worth(entry.architecture))
    assert study.count() == 40


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_epochs_reported_before_a_kill_are_reported_again_to_no_effect(
    tiny_space: SearchSpace, tmp_path: Path, value: float
) -> None:
    """Also where the verdict had fallen, but nobody was left to tell it."""
    file, fields = tmp_path / "study.journal", {"evaluator": "stand_alone", "pruner": "successive_halving"}

    def reported(study: ArchitectureStudy, number: int, accuracy: float) -> int | None:
        for epoch in range(4):
            try:
                study.tell_epoch(number, epoch, accuracy + epoch / 100)
            except Pruned:
                return epoch
        return None

    study = open_study(tiny_space, [], file, **fields)
    for accuracy in (0.5, 0.6):
        number = study.ask().number
        assert reported(study, number, accuracy) is None
        study.tell(number, accuracy)
    killed = study.ask()
    verdict = reported(study, killed.number, value)
    assert verdict == (0 if value < 0.5 else None)
    study.close()
    again = open_study(tiny_space, [], file, **fields)
    assert again.left == 1
    assert again.ask() == killed
    assert reported(again, killed.number, value) == verdict


def test_a_study_without_a_pruner_keeps_no_epochs(tiny_space: SearchSpace) -> None:
    study = open_study(tiny_space, [])
    candidate = study.ask()
    study.tell_epoch(candidate.number, 0, 0.0)
    assert raw(study)[0].intermediate_values == {}


def test_a_study_of_something_else_is_refused(tiny_space: SearchSpace, tmp_path: Path) -> None:
    file, budgets = tmp_path / "study.journal", binding(tiny_space)
    exhaust(open_study(tiny_space, budgets, file), 2)
    before = file.read_bytes()
    other = parse_space(changed(TINY_SPACE, "stages.0.kernel", [3, 7]), "other")
    faults: list[tuple[SearchSpace, list[Budget], dict[str, Any], str]] = [
        (other, budgets, {}, "space: must be that of this run"),
        (tiny_space, [], {}, "budgets: must be that of this run, {}, but it is {'macs': "),
        (tiny_space, budgets, {"seed": 1}, "seed: must be that of this run, 1, but it is 0"),
        (tiny_space, budgets, {"objectives": ("accuracy", "macs")}, "objectives: must be that of this run, "),
    ]
    for space, limits, fields, message in faults:
        with pytest.raises(ConfigError) as caught:
            open_study(space, limits, file, **fields)
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"study tiny in {file}: {message}")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"hello\nworld\n", b"hello\n", b"{}\n", b"[1, 2]\n", b'{"picks": {}, "accuracy": 0.5}\n', b"7\n", b"\x00\xff\n"],
)
def test_a_file_that_is_no_study_is_refused_and_kept(tiny_space: SearchSpace, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "study.journal"
    file.write_bytes(content)
    with pytest.raises(OutputError, match=r"study\.journal: must be a study that Optuna wrote, but it is damaged"):
        open_study(tiny_space, [], file)
    assert file.read_bytes() == content


def test_what_cannot_be_is_told_before_a_file_is_made(tiny_space: SearchSpace, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "study.journal"
    with pytest.raises(ConfigError, match=r"search\.objectives: latency_ms: needs a cost table"):
        open_study(tiny_space, [], file, objectives=("accuracy", "latency_ms"))
    for proposals in ("feasible", "any"):
        with pytest.raises(InfeasibleBudgetError, match="least reachable"):
            open_study(tiny_space, [Budget("macs", 1.0)], file, proposals=proposals)
        with pytest.raises(ConfigError, match="latency_ms: needs a cost table"):
            open_study(tiny_space, [Budget("latency_ms", 1.0)], file, proposals=proposals)
    assert not file.parent.exists()
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(OutputError, match="the study must be writable"):
        open_study(tiny_space, [], file)


def test_the_choice_that_decides_the_accuracy_is_the_important_one(tiny_space: SearchSpace) -> None:
    study = open_study(tiny_space, [], sampler="random")
    for _ in range(40):
        candidate = study.ask()
        study.tell(candidate.number, 0.9 if candidate.architecture["stage2.block1.block"] == "identity" else 0.1)
    found = importances(study.evaluations(), tiny_space, 0)
    assert set(found) == {choice.name for choice in tiny_space.choices}
    assert sum(found.values()) == pytest.approx(1.0)
    assert max(found, key=lambda name: found[name]) == "stage2.block1.block"
    assert found["stage2.block1.block"] > 0.8
    assert importances(study.evaluations()[:3], tiny_space, 0) == {}


HOLDS = """
import sys
from pathlib import Path
from se_nas.cost.table import count_tables
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.yaml.file import parse_space
from tests.conftest import TINY_SPACE

space, alone = parse_space(TINY_SPACE, "tiny_space"), sys.argv[2] == "alone"
study = ArchitectureStudy(
    "tiny", space, [], count_tables(space), OptunaConfig(population=4), 0,
    file=Path(sys.argv[1]), take_over=alone, parallel=not alone,
)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["alone", "beside others"])
def test_who_takes_over_has_the_file_for_itself_until_it_ends_or_is_killed(
    tiny_space: SearchSpace, tmp_path: Path, how: str
) -> None:
    file = tmp_path / "study.journal"
    root = Path(__file__).resolve().parents[3]
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(file), how],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        before = file.read_bytes()
        with pytest.raises(OutputError, match=r"study\.journal: no other process must be at work on the study, but"):
            open_study(tiny_space, [], file)
        assert file.read_bytes() == before
        if how == "alone":
            with pytest.raises(OutputError, match="no other process must be at work"):
                open_study(tiny_space, [], file, take_over=False)
        else:
            open_study(tiny_space, [], file, take_over=False).close()
    finally:
        other.kill()
        other.communicate()
    open_study(tiny_space, [], file).close()
