"""Tells an Optuna study what became of NNI's trials: each once, and none of another's result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from se_nas.errors import ArchitectureError
from se_nas.nni_bridge.experiment.manager_client import UNFINISHED, TrialJob
from se_nas.nni_bridge.experiment.nni_json import number as as_number
from se_nas.nni_bridge.page_values import PROPOSAL

if TYPE_CHECKING:
    from se_nas.search.black_box.study import ArchitectureStudy

_log = logging.getLogger(__name__)


def reconcile(study: ArchitectureStudy, jobs: Sequence[TrialJob]) -> list[int]:
    """Finish in Optuna what NNI has finished or never started; for when the experiment is done.

    NNI asks its tuner for more trials than it submits, ignores the end of a trial that was run again after a resume,
    and loses what a killed tuner was not told. Proposals whose job is still waiting or running are left as they are.

    Args:
        jobs: all of the experiment.

    Returns:
        The proposals that are told as failed here.
    """
    tell_results(study, [(job.parameters, job.final) for job in jobs if job.status == "SUCCEEDED" and job.final])
    live = {proposal_of(job.parameters, None) for job in jobs if job.status in UNFINISHED}
    failed = [number for number in study.running() if number not in live]
    for number in failed:
        study.tell(number, None, state="failed")
    return failed


def tell_results(study: ArchitectureStudy, results: Sequence[tuple[Mapping[str, Any], Any]]) -> None:
    """Tell the study final results, of those proposals that are still running in it.

    Args:
        results: a trial's parameters with its final result. One that a user made up on the page is passed over: its
            picks are not those of the proposal whose number it carries.
    """
    running = {e.number: e.architecture for e in study.evaluations() if e.state == "running"} if results else {}
    for parameters, final in results:
        number = proposal_of(parameters, final)
        if number is None or number not in running:
            continue
        picks = {name: option for name, option in parameters.items() if name != PROPOSAL}
        own_number = parameters.get(PROPOSAL) == number  # else the result alone says whose it is
        try:
            if own_number and study.space.architecture(picks) != running[number]:
                _log.warning("a trial has the number of proposal %d and other picks: its result is left out", number)
                continue
        except ArchitectureError as error:
            _log.warning("the result of a trial with the number of proposal %d is left out: %s", number, error)
            continue
        tell(study, number, final)
        del running[number]


def tell(study: ArchitectureStudy, number: int, final: Any, curve: Sequence[tuple[int, float]] = ()) -> None:
    """Tell one final result, as failed where it holds no accuracy.

    Args:
        curve: epochs, counted from 0, with the accuracies on the way.
    """
    metrics = final if isinstance(final, Mapping) else {"default": final}
    accuracy, seconds = as_number(metrics.get("default")), as_number(metrics.get("seconds")) or 0.0
    if accuracy is not None:
        worth = study.config.measure.worth
        study.tell(number, worth(accuracy), seconds=seconds, curve=[(epoch, worth(value)) for epoch, value in curve])
    else:
        _log.warning("the result of proposal %d has no accuracy, so it counts as failed: %.200s", number, final)
        study.tell(number, None, state="failed", seconds=seconds)


def proposal_of(parameters: Mapping[str, Any], final: Any) -> int | None:
    """The proposal that a result is of: the one that it names itself, else the one that the parameters name."""
    named = final.get(PROPOSAL) if isinstance(final, Mapping) else None
    number = parameters.get(PROPOSAL) if named is None else named
    return number if isinstance(number, int) and not isinstance(number, bool) else None
