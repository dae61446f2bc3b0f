"""The samplers: what is proposed is written down whole, and regularised evolution does what its paper says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from pydantic import ValidationError

from se_nas.cost.table import count_tables
from se_nas.records.yaml_input import validation_problems
from se_nas.search.black_box.architecture_sampler import PROPOSAL, ArchitectureSampler
from se_nas.search.black_box.candidate import Unseen
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.own_samplers.evolution import RegularizedEvolutionSampler
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.search.budgets.repair import Repair
from se_nas.space.search_space import SearchSpace
from tests.search.known_worth import binding, worth

AXES: dict[str, Any] = {name: CategoricalDistribution((0, 1, 2, 3)) for name in "abc"}


def test_the_configuration_takes_every_sampler_that_is_registered_and_says_which_was_meant() -> None:
    for name in ("auto", *SAMPLERS):
        assert OptunaConfig(sampler=name).sampler == name
    with pytest.raises(ValidationError) as error:
        OptunaConfig(sampler="nsga")
    (line,) = validation_problems(error.value, OptunaConfig)
    assert line.startswith(
        "sampler: must be one of auto, nsga2, nsga3, tpe, gp, random, evolution, predictor, but got 'nsga'; did you "
    )


def entry(value: float | None, constraint: float = -1.0, state: TrialState = TrialState.COMPLETE, **picks: int) -> Any:
    return create_trial(
        state=state,
        value=value,
        params={"a": 0, "b": 0, "c": 0, **picks},
        distributions=AXES,
        system_attrs={"constraints:macs": constraint},
    )


def child(study: optuna.Study, seed: int, population: int = 3, tournament: int = 3) -> dict[str, Any]:
    sampler = RegularizedEvolutionSampler(population, tournament, seed)
    return sampler.sample_relative(study, study.trials[-1], AXES)


def study_of(*entries: Any) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(entries)
    return study


def parents(study: optuna.Study, tournament: int = 3) -> set[int]:
    """Numbers of the trials from which children of many seeds differ in one pick; -1 where one has no such parent."""
    found = set()
    for seed in range(40):
        picks = child(study, seed, tournament=tournament)
        (number,) = [
            n for n, t in enumerate(study.trials) if sum(picks[name] != t.params[name] for name in AXES) == 1
        ] or [-1]
        found.add(number)
    return found


def test_evolution_mutates_one_pick_of_the_best_of_those_that_are_alive() -> None:
    study = study_of(
        entry(0.99, a=1, b=1),  # too old
        entry(0.5, a=2, b=2),
        entry(0.8, a=3, b=3, c=3),
        entry(None, a=1, b=1, c=1, state=TrialState.FAIL),
        entry(0.3),
    )
    assert parents(study) == {2}
    changed = {name for seed in range(40) for name in AXES if child(study, seed)[name] != 3}
    assert changed == set(AXES)
    assert {child(study, seed)["a"] for seed in range(60)} == {0, 1, 2, 3}


def test_in_evolution_a_feasible_parent_comes_before_a_better_one_and_the_smaller_excess_before_the_larger() -> None:
    assert parents(study_of(entry(0.9, 0.2, a=1, b=1, c=1), entry(0.1, 0.0, a=2, b=2, c=2), entry(0.8, 0.1))) == {1}
    assert parents(study_of(entry(0.9, 0.2, a=1, b=1, c=1), entry(0.1, 0.1, a=2, b=2, c=2), entry(0.95, 0.3))) == {1}


def test_a_tournament_of_one_draws_every_parent_alive() -> None:
    study = study_of(entry(0.1, a=1, b=1, c=1), entry(0.2, a=2, b=2, c=2), entry(0.3, a=3, b=3, c=3))
    assert parents(study, tournament=1) == {0, 1, 2}


def test_before_the_first_population_is_whole_evolution_leaves_all_to_chance() -> None:
    study = study_of(entry(0.1), entry(0.2))
    assert child(study, 0) == {}
    assert set(child(study, 0, population=2)) == set(AXES)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_is_written_down_before_its_picks_and_they_are_its(
    tiny_space: SearchSpace, tmp_path: Path, sampler: Any
) -> None:
    """So that a proposal that a kill cut short is never finished with the picks of another one."""
    file = tmp_path / "study.journal"
    config = OptunaConfig(sampler=sampler, population=4)
    study = ArchitectureStudy("tiny", tiny_space, [], count_tables(tiny_space), config, 0, file=file)
    for _ in range(12):
        candidate = study.ask()
        study.tell(candidate.number, worth(candidate.architecture))
    lines = file.read_text().splitlines()
    first: dict[int, tuple[int, int]] = {}
    for number, trial in enumerate(study._study.trials):
        here = [i for i, line in enumerate(lines) if f'"trial_id":{number},' in line]
        written = next(i for i in here if f'"{PROPOSAL}"' in lines[i])
        picks = [i for i in here if '"param_name"' in lines[i]]
        first[number] = (written, min(picks))
        assert trial.params.items() <= trial.system_attrs[PROPOSAL].items()
    assert all(written < pick for written, pick in first.values())
    assert len(first) == 12


def test_the_nearest_new_one_is_proposed_where_chance_finds_none(tiny_space: SearchSpace) -> None:
    """All but one are seen: the samplers' moves would have to be lucky."""
    budgets = binding(tiny_space)
    every = list(tiny_space.enumerate())
    tables = count_tables(tiny_space)
    last = next(a for a in every if all(b.holds(tables[b.metric].cost(a)) for b in budgets))
    repair = Repair(tiny_space, tables, budgets)
    sampler = ArchitectureSampler(
        tiny_space,
        OptunaConfig(sampler="random"),
        repair,
        seed=0,
        seen=set(every) - {last},
        unseen=Unseen(tiny_space, [last]),
        parallel=False,
    )
    study = optuna.create_study(sampler=sampler)
    for _ in range(5):
        trial = study.ask()
        assert trial.relative_params == last.as_dict()
