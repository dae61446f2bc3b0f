"""Where a study is kept: in memory, in a file of the run's folder, or in a database that several machines share."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import NonNegativeInt

from se_nas.errors import ConfigError, OutputError, StorageError, in_line, install
from se_nas.records.files import check_regular
from se_nas.records.locks import hold
from se_nas.records.record import Record, read_record, write_record
from se_nas.search.black_box.storages.database import Database, ping_after
from se_nas.search.black_box.storages.url import masked, without_secrets

#: Heartbeats that a worker may miss before another takes its evaluation.
MISSED_HEARTBEATS = 3
#: A database may close a connection that is idle, or be started again meanwhile.
IDLE_SECONDS = 1.0
#: Looks for dead workers in the time after which a silent one is taken for dead.
LOOKS = 20


class _FileBackend(JournalFileBackend):
    """Optuna's journal file without an fsync for every line: a killed process loses nothing, and 65 choices need 65
    lines. One process writes at a time, so that no line needs a lock; see `hold_file`."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
        with open(self._file_path, "ab") as file:
            file.write(lines.encode())


def hold_file(path: Path, alone: bool) -> int:
    """A descriptor that keeps others away from the study in a file, until it is closed or the process ends.

    Args:
        alone: whether no other process may have the study open; else none may that is alone.

    Raises:
        OutputError: another process is at work on the study, or the file cannot be written to.
        ConfigError: it is no regular file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_regular(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{path}: the study must be writable, but got: {error.strerror or error}") from error
    if not hold(descriptor, alone=alone):
        os.close(descriptor)
        raise OutputError(f"{path}: no other process must be at work on the study, but one is")
    return descriptor


class _Sum(Record):
    """What of a journal is known to be on disk: its first bytes, and how many evaluations they tell of."""

    format: Literal["se_nas journal sum"] = "se_nas journal sum"
    version: Literal[1] = 1
    evaluations: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str


class JournalSum:
    """Knows a study's journal again: a file beside it has the sum of what was in it when that was last noted.

    The journal grows at its end alone, and a kill may cut its last line. Whatever else it lost or has otherwise is
    damage, which Optuna would take for a study with fewer evaluations, or none, and do them again without a word.
    """

    #: Seconds between two notes; a note waits for the disk.
    INTERVAL = 2.0

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file = journal.with_name(f"{journal.name}.sum")
        self._noted = -1
        self._next = 0.0

    def check(self) -> None:
        """Raise OutputError unless the journal begins with all that was noted, ConfigError if the note is damaged."""
        if not self._file.exists():
            return
        noted = read_record(_Sum, self._file)
        content = self._journal.read_bytes() if self._journal.exists() else b""
        if len(content) < noted.bytes:
            fault = "it is cut short" if content else "it is gone or empty"
        elif hashlib.sha256(content[: noted.bytes]).hexdigest() != noted.sha256:
            fault = "its content is altered"
        else:
            self._noted = noted.bytes
            return
        raise OutputError(
            f"{self._journal}: must be the study that this run began, with {noted.evaluations} evaluations, but "
            f"{fault}: put a copy of it back, or begin anew in another folder"
        )

    def note(self, evaluations: int, *, at_once: bool = False) -> None:
        """Note the journal as it is; unless `at_once`, no more often than every `INTERVAL` seconds."""
        if not at_once and time.monotonic() < self._next:
            return
        with self._journal.open("rb") as file:
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) != self._noted:
                os.fsync(file.fileno())  # a machine that crashes must not keep the note and lose what it is of
                digest = hashlib.sha256(whole).hexdigest()
                write_record(self._file, _Sum(evaluations=evaluations, bytes=len(whole), sha256=digest))
        self._noted, self._next = len(whole), time.monotonic() + self.INTERVAL


def file_storage(path: Path) -> BaseStorage:
    """The study in a file; see `hold_file`. `optuna-dashboard FILE` opens it.

    Raises:
        OutputError: the file cannot be written to, or is no study.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        return JournalStorage(_FileBackend(str(path)))
    except OSError as error:
        raise OutputError(f"{path}: the study must be writable, but got: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OutputError(f"{path}: must be a study that Optuna wrote, but it is damaged or something else") from error


def _drop_torn_line(path: Path) -> None:
    """Cut what follows the last line end: a line that a crash of the machine left torn would be glued to the next.

    ValueError when the last whole line is no JSON.
    """
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if content and not content.startswith(b"{"):
            raise ValueError("no journal")
        json.loads(content[:whole].splitlines()[-1] if whole else "{}")  # Optuna passes over a last line that is none
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)


def open_storage(url: str | None, path: Path | None, heartbeat_seconds: int) -> BaseStorage:
    """The storage of a study.

    Args:
        url: of a database, such as `postgresql+psycopg://user@host/name`; None for none.
        path: of the file where there is no database; None for memory.
        heartbeat_seconds: how often a worker on a database shows that it lives.

    Raises:
        StorageError: the database cannot be reached, or its driver is not installed.
        OutputError: see `file_storage`.
    """
    if url is None:
        return InMemoryStorage() if path is None else file_storage(path)
    with _explained(url), storage_faults_told(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = RDBStorage(
            url,
            engine_kwargs=_timeout(url),
            heartbeat_interval=heartbeat_seconds,
            grace_period=MISSED_HEARTBEATS * heartbeat_seconds,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
        ping_after(backend.engine, IDLE_SECONDS)
        return Database(backend)


def check_storage(url: str) -> None:
    """Reach a database, so that a fault is told before the work that a search begins with.

    Raises:
        StorageError: see `open_storage`.
    """
    with _explained(url), storage_faults_told(url):
        engine = sqlalchemy.create_engine(url, **_timeout(url))
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _timeout(url: str) -> dict[str, dict[str, int]]:
    return {"connect_args": {"connect_timeout": 10}} if url.startswith("postgresql") else {}


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Faults of the URL itself."""
    shown = masked(url)
    try:
        yield
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name or error
        raise StorageError(
            f"{shown}: the database's driver must be installed, but got: {missing} is missing"
            f" ({install('postgresql')} for PostgreSQL)"
        ) from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise StorageError(
            f"{shown}: a storage must be a URL such as postgresql+psycopg://user@host/name, but this is none"
        ) from error
    except RuntimeError as error:  # tables that another version of Optuna made
        words = without_secrets(in_line(error), url)
        raise StorageError(f"{shown}: the storage must be Optuna's, but got: {words}") from error


@contextmanager
def storage_faults_told(url: str | None) -> Iterator[None]:
    """Turn what the database cannot do, at any moment of a search, into a StorageError of one line."""
    try:
        yield
    except sqlalchemy.exc.ArgumentError:
        raise
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        lines = str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(cause).__name__]
        words = without_secrets(lines[0], url or "")
        raise StorageError(f"{masked(url or 'memory')}: the storage must be reachable, but got: {words}") from error


class Heartbeat:
    """Shows, from a thread of its own, that the worker on an evaluation lives; does nothing where nobody looks."""

    def __init__(self, storage: BaseStorage, trial: Trial) -> None:
        self._storage, self._trial_id = storage, trial._trial_id
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.beats = self.possible(storage)
        if self.beats:
            self._record()
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()
            # the number tells it from what a dead worker's trial hands on to its repetition
            worker = {"proposal": trial.number, "host": platform.node(), "process": os.getpid()}
            trial.set_user_attr("worker", worker)

    @staticmethod
    def possible(storage: BaseStorage) -> bool:
        """Whether the storage looks at heartbeats: a database does."""
        return getattr(storage, "get_heartbeat_interval", lambda: None)() is not None

    def _record(self) -> None:
        self._storage.record_heartbeat(self._trial_id)  # type: ignore[attr-defined]

    def _beat(self) -> None:
        interval = self._storage.get_heartbeat_interval()  # type: ignore[attr-defined]
        while not self._stop.wait(interval):
            try:
                self._record()
            except Exception:  # a database that is away for a moment must not end the thread
                continue

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


class DeadWorkers:
    """Hands what workers of a shared storage were evaluating to others, once they show no life."""

    def __init__(self, study: optuna.Study, heartbeat_seconds: int) -> None:
        self._study, self._grace = study, MISSED_HEARTBEATS * heartbeat_seconds
        self._silent_since: dict[int, float] = {}
        self._next_look = 0.0

    def hand_on(self, mine: Collection[int]) -> None:
        """Look, unless that was done a moment ago; `mine` are the proposals at work in this process."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._grace / LOOKS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)
        # a worker that died before its first beat is not stale to Optuna; machines' clocks differ, so ours alone counts
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        silent = [t for t in running if t.number not in mine and not _has_beaten(t)]
        self._silent_since = {t.number: self._silent_since.get(t.number, now) for t in silent}
        for trial in silent:
            if now - self._silent_since[trial.number] > self._grace:
                hand_on(self._study, trial)


def _has_beaten(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("worker", {}).get("proposal") == trial.number)


def refuse_other_studies(storage: BaseStorage, name: str, where: str) -> None:
    """A run's file holds its own study; a second one with evaluations means that the run has forgotten which is its."""
    for study in storage.get_all_studies():
        if study.study_name != name and storage.get_n_trials(study._study_id):
            raise OutputError(
                f"{where}: must hold the study of this run alone, but holds {study.study_name}: is the file that names "
                "the run's study gone?"
            )


def load_or_create_study(
    name: str, storage: BaseStorage, sampler: BaseSampler, pruner: BasePruner, directions: Sequence[StudyDirection]
) -> optuna.Study:
    """Loading first, because creating leaves a line in the file even where the study is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
        except KeyError:
            return optuna.create_study(
                study_name=name,
                storage=storage,
                sampler=sampler,
                pruner=pruner,
                directions=directions,
                load_if_exists=True,  # another process may have made it just now
            )


def check_settings(study: optuna.Study, wanted: Mapping[str, Any], where: str) -> None:
    """Write into a study what it is of; ConfigError where it is of something else."""
    found = study.user_attrs
    differ = [key for key, value in wanted.items() if key in found and found[key] != value]
    if differ:
        must = "must be that of this run"
        raise ConfigError(where, [f"{key}: {must}, {wanted[key]!r}, but it is {found[key]!r}" for key in differ])
    for key, value in wanted.items():
        if key not in found:
            study.set_user_attr(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if len(wanted["objectives"]) > 1 and study.metric_names is None:
            study.set_metric_names(wanted["objectives"])


def hand_on(study: optuna.Study, trial: FrozenTrial) -> None:
    """Have a proposal of a dead worker asked for again."""
    try:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:  # another worker was first
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback()(study, trial)
