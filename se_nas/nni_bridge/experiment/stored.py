"""What NNI stored of an experiment, read from its database and mended there, while no manager runs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from se_nas.errors import LaunchError
from se_nas.nni_bridge.experiment.manager_client import UNFINISHED, TrialJob, trial_job
from se_nas.nni_bridge.experiment.nni_json import StoredConfig, checked, parsed

#: Rows of two columns of text.
_Texts = list[tuple[str, str]]

LATEST = "id = ? and revision = (select max(revision) from ExperimentProfile where id = ?)"


def config(experiment: str, home: Path) -> dict[str, object]:
    """NNI's canonical configuration of the experiment in the folder `home`.

    Raises:
        LaunchError: the database is missing, damaged, or of another experiment.
    """
    with _database(experiment, home) as database:
        text = _config_text(database, experiment, home)
    place = f"{_path(experiment, home)}: the configuration"
    stored: dict[str, object] = parsed(text, place)
    checked(StoredConfig, stored, place)
    return stored


def replace_config(experiment: str, home: Path, text: str) -> str:
    """Store another configuration, as NNI resumes with the stored one whatever it is sent; give back the old text."""
    with _database(experiment, home) as database:
        old = _config_text(database, experiment, home)
        database.execute(f"update ExperimentProfile set params = ? where {LATEST}", (text, experiment, experiment))
        database.commit()
        return old


def forget_cut_off_resumes(experiment: str, home: Path) -> None:
    """Let NNI run again the trials that it was about to resume when it was stopped.

    It marks such a trial ADD_RESUMED, and the next resume looks for those WAITING and RUNNING alone.
    """
    with _database(experiment, home) as database:
        database.execute("delete from TrialJobEvent where event = 'ADD_RESUMED'")
        database.commit()


def trial_counts(experiment: str, home: Path) -> dict[str, int]:
    """Number of trials by status, as NNI counts them; what had not ended is INTERRUPTED."""
    with _database(experiment, home) as database:
        statuses = _statuses(database, str(_path(experiment, home))).values()
    return dict(Counter("INTERRUPTED" if status in UNFINISHED else status for status in statuses))


def jobs(experiment: str, home: Path) -> list[TrialJob]:
    """All trial jobs as a manager would show them, in the order in which they were first submitted."""
    place = str(_path(experiment, home))
    with _database(experiment, home) as database:
        statuses = _statuses(database, place)
        events = database.execute("select trialJobId, data from TrialJobEvent where data != '' order by rowid")
        shown = dict(checked(_Texts, events.fetchall(), place))  # of several the last, which the page shows
        reports = database.execute("select trialJobId, data from MetricData where type = 'FINAL' order by rowid desc")
        finals = dict(checked(_Texts, reports.fetchall(), place))  # of several the first, as NNI does
    return [
        trial_job(job, status, shown.get(job), finals.get(job) if status == "SUCCEEDED" else None, place)
        for job, status in statuses.items()
    ]


def _statuses(database: sqlite3.Connection, place: str) -> dict[str, str]:
    """The status of every trial job, replayed from NNI's events as NNI does."""
    last: dict[str, str] = {}
    rows = database.execute("select trialJobId, event from TrialJobEvent order by rowid").fetchall()
    for job, event in checked(_Texts, rows, place):
        if job and event not in ("ADD_HYPERPARAMETER", "IMPORT_DATA"):
            last[job] = {"USER_TO_CANCEL": "USER_CANCELED", "ADD_CUSTOMIZED": "WAITING"}.get(event, event)
    return last


def _config_text(database: sqlite3.Connection, experiment: str, home: Path) -> str:
    row = database.execute(f"select params from ExperimentProfile where {LATEST}", (experiment, experiment)).fetchone()
    if row is None:
        raise LaunchError(f"{home}: must hold NNI experiment {experiment}, but NNI stored none of that name")
    return str(row[0])


def _path(experiment: str, home: Path) -> Path:
    return home / experiment / "db" / "nni.sqlite"


@contextlib.contextmanager
def _database(experiment: str, home: Path) -> Iterator[sqlite3.Connection]:
    """NNI's database, never made anew; writable, for a killed manager may have left a transaction to roll back."""
    path = _path(experiment, home)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=10.0)) as database:
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise LaunchError(f"{path}: must be the database of an NNI experiment, but got: {error!s:.200}") from error
