"""What a running NNI manager says over its REST interface: its state, its trial jobs and their metrics."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from se_nas.errors import LaunchError
from se_nas.nni_bridge.experiment.nni_json import (
    JobAnswer,
    JobCount,
    MetricAnswer,
    ShownParameters,
    StateAnswer,
    checked,
    parsed,
)

#: The manager is on this machine or on a network near it: no proxy of the environment is asked.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

#: States of a trial job in which it still uses or waits for a machine; a resumed one is ADD_RESUMED until it waits.
UNFINISHED = frozenset({"WAITING", "RUNNING", "UNKNOWN", "ADD_RESUMED"})


@dataclass(frozen=True)
class ManagerState:
    """`name` as NNI has it (INITIALIZED, RUNNING, NO_MORE_TRIAL, DONE, ERROR, VIEWED, ...), with its errors so far."""

    name: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class TrialJob:
    """A trial as the page shows it.

    Attributes:
        id: NNI's id of the job, such as "kCb7Q".
        status: SUCCEEDED, FAILED, USER_CANCELED, EARLY_STOPPED, SYS_CANCELED, or one of UNFINISHED.
        parameters: the parameters that the page shows for this job.
        parameter_id: NNI's id of them, which restarts at 0 after a resume; None for parameters the user added.
        final: the final metrics of a job that succeeded, else None.
    """

    id: str
    status: str
    parameters: dict[str, object]
    parameter_id: int | None
    final: Any

    @property
    def by_hand(self) -> bool:
        """Whether a user added it, on the page or by the interface."""
        return self.parameter_id is None and bool(self.parameters)


@dataclass(frozen=True)
class Metric:
    """One report of a trial, PERIODICAL or FINAL; `sequence` counts its intermediate results from 0."""

    trial: str
    kind: str
    sequence: int
    value: Any


#: In which the manager answers whatever does not start something.
SECONDS = 10.0


class ManagerClient:
    """The REST interface of the manager at `url`, such as "http://127.0.0.1:8080".

    Every method raises a LaunchError of one line where the manager does not answer within `SECONDS` or refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def state(self) -> ManagerState:
        """The state of the experiment; INITIALIZING while the manager is not ready to be told what to run."""
        answer = self._ask("GET", "check-status")
        if not isinstance(answer, dict):
            return ManagerState(f"{answer!s:.100}", ())
        state = checked(StateAnswer, answer, self.url)
        return ManagerState(state.status, tuple(state.errors))

    def begin(self, config: Mapping[str, Any]) -> None:
        """Hand over NNI's canonical configuration, upon which the manager starts the tuner (unless it only views)."""
        self._ask("POST", "experiment", config, timeout=60.0)

    def trials(self) -> list[TrialJob]:
        """All trial jobs, in the order in which they were first submitted."""
        jobs = checked(list[JobAnswer], self._ask("GET", "trial-jobs"), self.url)
        return [_trial(job, self.url) for job in jobs]

    def trial(self, job: str) -> TrialJob:
        """One trial job."""
        answer = self._ask("GET", f"trial-jobs/{job}")
        if not isinstance(answer, dict):
            raise LaunchError(f"the NNI manager at {self.url} knows no trial job {job!r}")
        return _trial(checked(JobAnswer, answer, self.url), self.url)

    def counts(self) -> dict[str, int]:
        """How many trial jobs there are by status."""
        rows = checked(list[JobCount], self._ask("GET", "job-statistics"), self.url)
        return {row.trialJobStatus: row.trialJobNumber for row in rows}

    def metrics(self, job: str | None = None) -> list[Metric]:
        """What trial `job` reported, or all trials, in the order of arrival."""
        rows = checked(
            list[MetricAnswer], self._ask("GET", "metric-data" if job is None else f"metric-data/{job}"), self.url
        )
        return [Metric(row.trialJobId, row.type, row.sequence, _value(row.data, self.url)) for row in rows]

    def _ask(self, method: str, path: str, body: Any = None, timeout: float = SECONDS) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v1/nni/{path}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with _OPENER.open(request, timeout=timeout) as response:
                text = response.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                reason = _reason(error.read().decode(errors="replace")) or f"status {error.code}"
            raise LaunchError(f"the NNI manager at {self.url} refused {method} {path}: {reason}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            raise LaunchError(f"the NNI manager at {self.url} does not answer: {reason}") from error
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            return text


def _reason(text: str) -> str:
    """The first line of an error that the manager sent, as JSON or as plain text."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        text = str(json.loads(text)["error"])
    lines = text.strip().splitlines()
    return lines[0][:300] if lines else ""


def _trial(job: JobAnswer, source: str) -> TrialJob:
    shown, final = job.hyperParameters, job.finalMetricData
    return trial_job(job.trialJobId, job.status, shown[-1] if shown else None, final[0].data if final else None, source)


def trial_job(id: str, status: str, shown: str | None, final: str | None, source: str) -> TrialJob:
    """A job from what NNI keeps of it: the parameters that its page shows and the final result, both as JSON.

    Raises:
        LaunchError: they are no such JSON; `source` names where they come from.
    """
    place = f"{source}: trial job {id}"
    parameters = checked(ShownParameters, parsed(shown, place) if shown else {}, place)
    return TrialJob(
        id=id,
        status=status,
        parameters=parameters.parameters or {},
        parameter_id=parameters.parameter_id,
        final=_value(final, place) if final else None,
    )


def _value(data: str, source: str) -> Any:
    """A reported value: NNI sends JSON inside JSON."""
    value = parsed(data, source)
    return parsed(value, source) if isinstance(value, str) else value
