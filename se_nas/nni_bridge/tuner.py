"""NNI's tuner around our Optuna study: NNI asks it for architectures and tells it their results.

The study is the only state, and a proposal's number in it travels inside the parameters. What NNI asked for and never
submitted stays running in the study until `reconcile` finishes it, when the experiment is done.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nni import NoMoreTrialError
from nni.tuner import Tuner

from se_nas.errors import SeNasError
from se_nas.nni_bridge.experiment.nni_json import number
from se_nas.nni_bridge.experiment.status import running
from se_nas.nni_bridge.page_values import OF_SUPERNET, trial_parameters
from se_nas.nni_bridge.reconcile import proposal_of, tell, tell_added, tell_results

if TYPE_CHECKING:
    from se_nas.search.black_box.study import ArchitectureStudy
    from se_nas.space.choice import Option

_log = logging.getLogger(__name__)
_Method = TypeVar("_Method", bound=Callable[..., Any])


def _ends_the_tuner(method: _Method) -> _Method:
    """End the process where a method fails, after which NNI's page shows an error and a resume goes on.

    NNI itself keeps a tuner of which a method failed, and the experiment waits for it for ever.
    """

    @functools.wraps(method)
    def guarded(self: SeNasTuner, *args: Any, **kwargs: Any) -> Any:
        try:
            with self.lock:
                return method(self, *args, **kwargs)
        except NoMoreTrialError:
            raise
        except BaseException:
            _log.exception("the tuner ends")
            logging.shutdown()
            os._exit(1)

    return guarded  # type: ignore[return-value]


class SeNasTuner(Tuner):  # type: ignore[misc]
    """See the module. NNI makes one from `classArgs: {"run": ...}`.

    Args:
        run: absolute path of the run folder.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = Path(run)
        self.lock = threading.RLock()  # NNI calls `trial_end` from a second thread
        self._numbers: dict[int, int] = {}  # of what this process handed out, by NNI's id

    @functools.cached_property
    def study(self) -> ArchitectureStudy:
        """The run's study; opened late, since NNI gives a tuner few seconds until it must have connected."""
        from se_nas.runs.worker import study_of

        return study_of(self.run)

    @_ends_the_tuner
    def update_search_space(self, search_space: Any) -> None:
        """Open the study. The space is that of the run, whatever is edited on the page."""
        _log.info("proposals in the study: %d", len(self.study.evaluations()))

    @_ends_the_tuner
    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Option]:
        """The picks of the next architecture and its number; NoMoreTrialError when none is left."""
        from se_nas.search.black_box.candidate import SpaceExhausted

        try:
            candidate = self.study.ask()
        except SpaceExhausted:
            raise NoMoreTrialError from None
        self._numbers[parameter_id] = candidate.number
        return trial_parameters(candidate.number, candidate.architecture)

    @_ends_the_tuner
    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Tell the study the final result of a trial that this process proposed."""
        proposal = proposal_of(parameters, value)
        assert proposal is not None
        tell(self.study, proposal, value, self._curve(kwargs.get("trial_job_id")))

    def _curve(self, job: str | None) -> list[tuple[int, float]]:
        """What a trial reported on the way; nothing where the manager does not say."""
        try:
            experiment = running(self.run)
            metrics = experiment.client().metrics(job) if experiment is not None and job is not None else []
        except SeNasError as error:
            _log.warning("the results on the way of trial %s are not known: %s", job, error)
            return []
        # a trial that was cut off reports its first epochs again
        shown = {m.sequence: m.value for m in metrics if m.kind == "PERIODICAL" and isinstance(m.value, dict)}
        found = {s: number(value.get("default")) for s, value in shown.items() if OF_SUPERNET not in value}
        return sorted((sequence, value) for sequence, value in found.items() if value is not None)

    @_ends_the_tuner
    def trial_end(self, parameter_id: int | None, success: bool, **kwargs: Any) -> None:
        """Tell the study of a trial that failed or was cancelled, unless its result came first.

        NNI gives no result of a trial that a user added by hand, and no number: these are asked for here.
        """
        if parameter_id is None:
            self._tell_added()
            return
        proposal = self._numbers.pop(parameter_id, None)
        if not success and proposal is not None:
            self.study.tell(proposal, None, state="failed")

    @_ends_the_tuner
    def import_data(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Tell the study what no tuner heard of: after a resume, NNI gives every trial that has finished."""
        tell_results(self.study, [(entry["parameter"], entry["value"]) for entry in data])
        self._tell_added()

    def _tell_added(self) -> None:
        try:
            experiment = running(self.run)
            jobs = experiment.client().trials() if experiment is not None else []
        except SeNasError as error:  # the end of the experiment asks again
            _log.warning("the trials that were added by hand are not known: %s", error)
            return
        for line in tell_added(self.study, jobs, self._curve):
            _log.warning("%s", line)
