"""Successive halving and Hyperband: who goes on at a rung, and that asking again gives the same verdict."""

from __future__ import annotations

import optuna
import pytest

from se_nas.search.black_box.pruner import HalvingPruner


def study_of(curves: list[list[float]]) -> optuna.Study:
    """A study of running trials that reported so much each."""
    study = optuna.create_study(direction="maximize")
    for curve in curves:
        trial = study.ask()
        for epoch, accuracy in enumerate(curve):
            trial.report(accuracy, epoch)
    return study


def verdicts(pruner: HalvingPruner, curves: list[list[float]]) -> list[bool]:
    study = study_of(curves)
    trials = study.trials
    found = [pruner.prune(study, trial) for trial in trials]
    assert found == [pruner.prune(study, trial) for trial in trials]
    assert study.trials == trials  # nothing is remembered in the trials
    return found


@pytest.mark.parametrize(
    ("accuracies", "pruned"),
    [
        ([0.5], [False]),
        ([0.5, 0.4], [False, True]),
        ([0.5, 0.5], [False, False]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [True, True, True, True, False]),
        ([0.6, 0.1, 0.2, 0.5, 0.3, 0.4], [False, True, True, False, True, True]),
    ],
)
def test_the_best_third_goes_on_and_always_the_best(accuracies: list[float], pruned: list[bool]) -> None:
    assert verdicts(HalvingPruner(5, False), [[a] for a in accuracies]) == pruned


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(1, []), (2, [1]), (3, [1]), (4, [1, 3]), (9, [1, 3]), (10, [1, 3, 9]), (28, [1, 3, 9, 27])]
)
def test_rungs_are_after_1_3_9_epochs_and_never_after_the_last(epochs: int, rungs: list[int]) -> None:
    pruner = HalvingPruner(epochs, False)
    found = [n for n in range(1, epochs + 1) if verdicts(pruner, [[0.9] * n, [0.1] * n])[1]]
    assert found == rungs


def test_only_those_that_reached_the_rung_are_compared() -> None:
    assert verdicts(HalvingPruner(5, False), [[0.9, 0.9], [0.1, 0.1, 0.1], [0.3, 0.3]])[1] is False


def test_what_has_reported_nothing_is_not_pruned() -> None:
    assert verdicts(HalvingPruner(5, False), [[], [0.5]]) == [False, False]


def test_hyperband_prunes_each_bracket_by_itself_from_its_own_rung_on() -> None:
    """Of 4 epochs: 9 proposals with rungs after 1 and 3, 5 with one after 3, and 3 without."""
    pruner = HalvingPruner(4, True)
    early = verdicts(pruner, [[1.0 - number / 100] for number in range(18)])
    assert early == [number in range(3, 9) or number == 17 for number in range(18)]
    late = verdicts(pruner, [[1.0 - number / 100] * 3 for number in range(17)])
    assert late == [number in range(3, 9) or number in range(10, 14) for number in range(17)]
