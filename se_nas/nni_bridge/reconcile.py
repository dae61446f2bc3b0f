"""Tells an Optuna study what became of NNI's trials: each once, and none of another's result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from se_nas.errors import ArchitectureError
from se_nas.nni_bridge.experiment.manager_client import UNFINISHED, TrialJob
from se_nas.nni_bridge.experiment.nni_json import number as as_number
from se_nas.nni_bridge.page_values import PROPOSAL

if TYPE_CHECKING:
    from se_nas.search.black_box.study import ArchitectureStudy

#: What a trial reported on the way, by the id of its job: epochs, counted from 0, with accuracies.
CurveOf = Callable[[str], Sequence[tuple[int, float]]]

_log = logging.getLogger(__name__)


def reconcile(study: ArchitectureStudy, jobs: Sequence[TrialJob]) -> tuple[list[int], list[str]]:
    """Finish in Optuna what NNI has finished or never started; for when the experiment is done.

    NNI asks its tuner for more trials than it submits, ignores the end of a trial that was run again after a resume,
    and loses what a killed tuner was not told. Proposals whose job is still waiting or running are left as they are.

    Args:
        jobs: all of the experiment.

    Returns:
        The proposals that are told as failed here, and a line for each trial that was added by hand and refused.
    """
    tell_results(study, [(job.parameters, job.final) for job in jobs if job.status == "SUCCEEDED" and job.final])
    live = {proposal_of(job.parameters, None) for job in jobs if job.status in UNFINISHED}
    failed = [number for number in study.running() if number not in live]
    for number in failed:
        study.tell(number, None, state="failed")
    return failed, tell_added(study, jobs)


def tell_results(study: ArchitectureStudy, results: Sequence[tuple[Mapping[str, Any], Any]]) -> None:
    """Tell the study final results, of those proposals that are still running in it.

    Args:
        results: a trial's parameters with its final result. One that a user added by hand is passed over: its
            picks are not those of the proposal whose number it carries; see `tell_added`.
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


def tell_added(study: ArchitectureStudy, jobs: Sequence[TrialJob], curve_of: CurveOf = lambda job: ()) -> list[str]:
    """Note in the study the trials that a user added by hand on NNI's page, once each and once they have ended.

    One of an architecture that is at work elsewhere waits until that has ended. Those that have no result, or that were
    taken off the page's list, count as failed.

    Args:
        curve_of: what a job reported on the way.

    Returns:
        What was refused, a line each: trials whose parameters are no architecture of the space.
    """
    known, refused = study.added(), []
    at_work = [e.architecture for e in study.evaluations() if e.state == "running"]
    for job in jobs:
        if not job.by_hand or job.status in UNFINISHED or job.id in known:
            continue
        try:
            picks: dict[str, Any] = {name: option for name, option in job.parameters.items() if name != PROPOSAL}
            architecture = study.space.architecture(picks)
        except ArchitectureError as error:
            refused.append(f"trial {job.id}, which was added by hand, is left out: {error}")
            continue
        if architecture in at_work:
            continue
        worth, seconds = _result(study, job.final if job.status == "SUCCEEDED" else None)
        curve = _worths(study, curve_of(job.id))
        study.add(architecture, worth, job=job.id, seconds=seconds, curve=curve)
        _log.info("trial %s, which was added by hand, is in the study", job.id)
    return refused


def tell(study: ArchitectureStudy, number: int, final: Any, curve: Sequence[tuple[int, float]] = ()) -> None:
    """Tell one final result, as failed where it holds no accuracy.

    Args:
        curve: epochs, counted from 0, with the accuracies on the way.
    """
    worth, seconds = _result(study, final)
    if worth is not None:
        study.tell(number, worth, seconds=seconds, curve=_worths(study, curve))
    else:
        _log.warning("the result of proposal %d has no accuracy, so it counts as failed: %.200s", number, final)
        study.tell(number, None, state="failed", seconds=seconds)


def _result(study: ArchitectureStudy, final: Any) -> tuple[float | None, float]:
    """What a final result is worth, None where it holds no accuracy, and the seconds that it took."""
    metrics = final if isinstance(final, Mapping) else {"default": final}
    accuracy, seconds = as_number(metrics.get("default")), as_number(metrics.get("seconds")) or 0.0
    return None if accuracy is None else study.config.measure.worth(accuracy), seconds


def _worths(study: ArchitectureStudy, curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(epoch, study.config.measure.worth(value)) for epoch, value in curve]


def proposal_of(parameters: Mapping[str, Any], final: Any) -> int | None:
    """The proposal that a result is of: the one that it names itself, else the one that the parameters name."""
    named = final.get(PROPOSAL) if isinstance(final, Mapping) else None
    number = parameters.get(PROPOSAL) if named is None else named
    return number if isinstance(number, int) and not isinstance(number, bool) else None
