"""The plan of a run's evidence: written before its first training, and kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from se_nas.errors import ConfigError
from se_nas.evidence.pilot.power import power_against_mean
from se_nas.records.models.plan import EvidencePlan
from se_nas.runs.evidence.plan import plan_evidence
from se_nas.runs.run_file import EvidenceConfig
from se_nas.runs.run_folder import RunFolder

PRIMARY = {"against": "random_mean", "difference": 0.01, "noise": 0.005, "spread": 0.006}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "evidence").mkdir()
    return RunFolder(tmp_path)


def plan(
    run: RunFolder, networks: int = 10, trained: int = 0, elsewhere: int = 0, **values: Any
) -> EvidencePlan | None:
    return plan_evidence(run, EvidenceConfig.model_validate(values), networks, trained, elsewhere)


def test_nothing_is_planned_where_nothing_is_the_claim(run: RunFolder) -> None:
    assert plan(run) is None
    assert not (run / "evidence/plan.json").exists()


def test_it_takes_as_many_seeds_as_reach_the_power_and_says_when_it_was_written(run: RunFolder) -> None:
    found = plan(run, primary=PRIMARY)
    assert found is not None
    assert found.needed == len(found.seeds)
    assert found.power >= 0.8
    assert power_against_mean(0.01, 0.005, 0.006, 10, len(found.seeds) - 1) < 0.8
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\+00:00", found.written)


def test_seeds_that_are_given_are_taken_and_their_power_is_told(run: RunFolder) -> None:
    found = plan(run, primary=PRIMARY, seeds=[3, 5])
    assert found is not None
    assert found.needed is not None
    assert (found.seeds, found.power < 0.8, found.needed > 2) == ((3, 5), True, True)


def test_a_plan_says_how_much_of_other_runs_was_known(run: RunFolder) -> None:
    found = plan(run, primary=PRIMARY, elsewhere=3)
    assert found is not None
    assert found.before == "before any training of the answer, while 3 trainings of other runs were known"


def test_a_second_call_has_the_plan_of_the_first(run: RunFolder) -> None:
    first = plan(run, primary=PRIMARY)
    assert plan(run, primary=PRIMARY, trained=7) == first


@pytest.mark.parametrize(
    ("then", "named"),
    [
        ({"primary": {**PRIMARY, "against": "random_best", "spread": None}}, "primary: "),
        ({}, "primary: "),
        ({"primary": PRIMARY, "seeds": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}, "seeds: "),
        ({"primary": PRIMARY, "networks": 11}, "random: "),
        ({"primary": {**PRIMARY, "against": "of_size_mean"}}, "primary: "),
    ],
)
def test_what_was_planned_stays(run: RunFolder, then: dict[str, Any], named: str) -> None:
    plan(run, primary=PRIMARY)
    with pytest.raises(ConfigError, match=rf"{named}must be as planned on 20\d\d-"):
        plan(run, **then)


def test_a_claim_that_comes_after_results_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"primary: must be planned before the first training, but .* of 3 already"):
        plan(run, primary=PRIMARY, trained=3)
    assert not (run / "evidence/plan.json").exists()


def test_a_power_that_no_number_of_seeds_reaches_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"primary.power: must be 0\.\d\d at most, or `random` more than 5 networks"):
        plan(run, networks=5, primary={**PRIMARY, "spread": 0.03})


@pytest.mark.parametrize("asked", [{"networks": 1}, {"networks": 8, "seeds": [3]}])
@pytest.mark.parametrize("rival", [{}, {"against": "random_best", "spread": None}])
def test_against_one_network_or_by_one_seed_there_is_no_claim(
    run: RunFolder, asked: dict[str, Any], rival: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"primary: a claim needs 2 or more random networks and 2 or more seeds, "):
        plan(run, primary={**PRIMARY, **rival}, **asked)
    assert not (run / "evidence/plan.json").exists()


def test_more_networks_are_no_help_against_the_best_of_them(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"primary.power: must be 0\.\d\d at most, as no number of seeds reaches it"):
        plan(run, primary={**PRIMARY, "against": "random_best", "spread": None, "difference": 1e-4, "noise": 0.1})


@pytest.mark.parametrize(
    "wrong", [{"against": "se_r4"}, {"difference": 0}, {"noise": -1}, {"power": 1}, {"power": 0.2}, {"spread": 2}]
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=rf"primary\.{next(iter(wrong))}"):
        EvidenceConfig.model_validate({"primary": {**PRIMARY, **wrong}})


def test_a_claim_against_networks_of_the_answers_size_is_planned_by_their_number(run: RunFolder) -> None:
    claim = {**PRIMARY, "against": "of_size_mean"}
    with pytest.raises(ConfigError, match=r"2 or more random networks of the answer's size \(of_size\) and 2 or more"):
        plan(run, networks=0, primary=claim)
    with pytest.raises(ConfigError, match=r"primary.power: must be 0\.\d\d at most, or `of_size` more than 5 networks"):
        plan(run, networks=5, primary={**claim, "spread": 0.03})
    alike = plan(run, primary=claim)
    assert alike is not None
    assert alike.power == power_against_mean(0.01, 0.005, 0.006, 10, len(alike.seeds))
    with pytest.raises(ConfigError, match=r"of_size: must be as planned on 20\d\d-"):
        plan(run, networks=11, primary=claim)


@pytest.mark.parametrize("wrong", [{"spread": None}, {"against": "random_best"}])
def test_the_spread_of_networks_is_of_their_mean_alone(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="spread must be given with against random_mean or of_size_mean, and"):
        EvidenceConfig.model_validate({"primary": {**PRIMARY, **wrong}})
