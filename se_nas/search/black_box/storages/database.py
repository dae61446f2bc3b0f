"""Optuna's storage in a database, with one transaction a proposal and one look at the trials where one is enough.

Optuna writes every parameter and every attribute of a trial in a transaction of its own, and reads the trials anew
whenever it is asked for them: 190 statements a proposal of 34 choices, each of which waits for the database.
"""

from __future__ import annotations

import copy
import datetime
import functools
import json
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy
import sqlalchemy.orm
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState

_TRIALS: Any = models.TrialModel.__table__


class Database(_CachedStorage):
    """See the module. What it holds back, a process that is killed loses: the trial is then one without parameters,
    as that of a worker which died before it wrote them.

    Args:
        backend: what reads and writes; its tables are Optuna's.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._looks = 0
        self._looked = False
        self._study_attrs: dict[int, dict[str, Any]] = {}
        self._held: dict[int, _Held] = {}

    # ---- reading

    @contextmanager
    def look(self) -> Iterator[None]:
        """Within, the trials are read once, and once more after each trial that is made. Looks within looks are one."""
        if self._looks == 0:
            self.look_anew()
        self._looks += 1
        try:
            yield
        finally:
            self._looks -= 1

    def look_anew(self) -> None:
        """Read the trials again, also within the same look."""
        self._looked = False
        self._study_attrs.clear()

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if self._looks and self._looked:
            return
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            for trial in self._news(study_id, study.last_finished_trial_id, study.unfinished_trial_ids):
                self._keep(study_id, trial)
        self._looked = True

    def _news(self, study_id: int, after: int, unfinished: Collection[int]) -> list[FrozenTrial]:
        """Trials that may be other than when they were read last; not those of which this process holds something."""
        new = sqlalchemy.or_(_TRIALS.c.trial_id > after, _TRIALS.c.trial_id.in_(unfinished))
        ids = sqlalchemy.select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id, new)
        with self._backend.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            wanted = [trial_id for trial_id in connection.execute(ids).scalars() if trial_id not in self._held]
        if not wanted:
            return []
        table = models.TrialModel
        parts = (table.params, table.values, table.user_attributes, table.system_attributes, table.intermediate_values)
        with _create_scoped_session(self._backend.scoped_session) as session:
            query = session.query(table).options(*(sqlalchemy.orm.selectinload(part) for part in parts))
            rows = query.filter(table.trial_id.in_(wanted)).order_by(table.trial_id).all()
            return [self._backend._build_frozen_trial_from_trial_model(row) for row in rows]

    def _keep(self, study_id: int, trial: FrozenTrial) -> None:
        """In the cache; one that is finished is not read again."""
        study = self._studies[study_id]
        self._add_trials_to_cache(study_id, [trial])
        if trial.state.is_finished():
            study.unfinished_trial_ids.discard(trial._trial_id)
            study.last_finished_trial_id = max(study.last_finished_trial_id, trial._trial_id)
        else:
            study.unfinished_trial_ids.add(trial._trial_id)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As it is to be, where it is held back."""
        if trial_id not in self._held:
            return super().get_trial(trial_id)
        return _copied(self._held[trial_id].now)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Read once in a look."""
        if not self._looks:
            return super().get_study_system_attrs(study_id)
        if study_id not in self._study_attrs:
            self._study_attrs[study_id] = super().get_study_system_attrs(study_id)
        return self._study_attrs[study_id]

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Written at once."""
        self._study_attrs.clear()
        super().set_study_system_attr(study_id, key, value)

    # ---- writing

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Made at once, so that it has its number; within a look, what is set of it is held back until `write`."""
        trial_id = super().create_new_trial(study_id, template_trial)
        self.look_anew()
        if self._looks and template_trial is None:
            self.hold(trial_id)
        return trial_id

    def hold(self, trial_id: int) -> None:
        """Keep back what is set of a trial until `write`, or until it is finished."""
        if trial_id in self._held:
            return
        trial = self._last_seen(trial_id)
        if trial is None or trial.state == TrialState.WAITING:  # as when it was seen last
            trial = super().get_trial(trial_id)
        if not trial.state.is_finished():
            self._held[trial_id] = _Held(trial, _copied(trial))

    def write(self, trial_id: int) -> bool:
        """Write what is held back of a trial; False where another process has finished it, as that of a dead worker."""
        if trial_id in self._held:
            held = self._held.pop(trial_id)
            with self._transaction() as connection:
                row = sqlalchemy.select(_TRIALS.c.state).where(_TRIALS.c.trial_id == trial_id).with_for_update()
                if connection.execute(row).scalar_one().is_finished():
                    return False
                held.write(connection)
            self._remember(held.now)
        return True

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """In one transaction with what is held back of it; one that waited is held back like one that is made."""
        if trial_id not in self._held:
            done = super().set_trial_state_values(trial_id, state, values)
            self.look_anew()
            if self._looks and done and state == TrialState.RUNNING:
                self.hold(trial_id)
            return done
        held = self._held.pop(trial_id)
        now = datetime.datetime.now()
        with self._transaction() as connection:
            running = _TRIALS.c.trial_id == trial_id, _TRIALS.c.state == TrialState.RUNNING
            ended = sqlalchemy.update(_TRIALS).where(*running).values(state=state, datetime_complete=now)
            if not connection.execute(ended).rowcount:
                raise UpdateFinishedTrialError(f"trial {held.now.number} is finished")
            held.write(connection)
            stored = (models.TrialValueModel.value_to_stored_repr(value) for value in values or ())
            rows = [
                {"trial_id": trial_id, "objective": objective, "value": value, "value_type": kind}
                for objective, (value, kind) in enumerate(stored)
            ]
            _insert(connection, models.TrialValueModel, rows)
        held.now.state, held.now.datetime_complete = state, now
        held.now.values = None if values is None else [*values]
        self._remember(held.now)
        return True

    def record_heartbeat(self, trial_id: int) -> None:
        """The first beat comes with the rest."""
        if trial_id in self._held:
            self._held[trial_id].beat = True
        else:
            super().record_heartbeat(trial_id)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Distributions are not compared with those of other trials: the study's settings name the space."""
        if trial_id not in self._held:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        trial = self._held[trial_id].now
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See `hold`."""
        if trial_id in self._held:
            self._held[trial_id].now.user_attrs[key] = value
            return
        super().set_trial_user_attr(trial_id, key, value)
        if trial := self._last_seen(trial_id):
            trial.user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See `hold`."""
        if trial_id in self._held:
            self._held[trial_id].now.system_attrs[key] = value
            return
        super().set_trial_system_attr(trial_id, key, value)
        if trial := self._last_seen(trial_id):
            trial.system_attrs[key] = value

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Written at once, and known to a later `hold`."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        if trial := self._last_seen(trial_id):
            trial.intermediate_values[step] = intermediate_value

    @contextmanager
    def _transaction(self) -> Iterator[sqlalchemy.Connection]:
        with _create_scoped_session(self._backend.scoped_session) as session:
            yield session.connection()

    def _last_seen(self, trial_id: int) -> FrozenTrial | None:
        if trial_id not in self._trial_id_to_study_id_and_number:
            return None
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        return self._studies[study_id].trials[number]

    def _remember(self, trial: FrozenTrial) -> None:
        """What this process wrote it knows without reading it."""
        study_id, _ = self._trial_id_to_study_id_and_number[trial._trial_id]
        with self._lock:
            self._keep(study_id, trial)


@dataclass
class _Held:
    """A trial that is held back.

    Attributes:
        before: as it is written.
        now: as it is to be.
        beat: whether its worker shows for the first time that it lives.
    """

    before: FrozenTrial
    now: FrozenTrial
    beat: bool = False

    def write(self, connection: sqlalchemy.Connection) -> None:
        """Write what differs."""
        trial_id, params = self.now._trial_id, self.now.params
        rows = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": distribution.to_internal_repr(params[name]),
                "distribution_json": _as_json(distribution),
            }
            for name, distribution in self.now.distributions.items()
            if name not in self.before.params
        ]
        _insert(connection, models.TrialParamModel, rows)
        _set(connection, models.TrialUserAttributeModel, trial_id, self.before.user_attrs, self.now.user_attrs)
        _set(connection, models.TrialSystemAttributeModel, trial_id, self.before.system_attrs, self.now.system_attrs)
        if self.beat:
            _insert(connection, models.TrialHeartbeatModel, [{"trial_id": trial_id}])


@functools.cache
def _as_json(distribution: BaseDistribution) -> str:
    return distribution_to_json(distribution)


def _copied(trial: FrozenTrial) -> FrozenTrial:
    copied = copy.copy(trial)
    for part in ("params", "_distributions", "_user_attrs", "_system_attrs", "intermediate_values"):
        setattr(copied, part, dict(getattr(trial, part)))
    return copied


def _set(
    connection: sqlalchemy.Connection, table: Any, trial_id: int, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    changed = {key: value for key, value in now.items() if key not in before or before[key] != value}
    replaced = [key for key in changed if key in before]
    if replaced:
        columns = table.__table__.c
        connection.execute(
            sqlalchemy.delete(table.__table__).where(columns.trial_id == trial_id, columns.key.in_(replaced))
        )
    rows = [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in changed.items()]
    _insert(connection, table, rows)


def _insert(connection: sqlalchemy.Connection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """In one go: a driver sends all rows of one statement together."""
    if rows:
        connection.execute(table.__table__.insert(), rows)


def ping_after(engine: sqlalchemy.Engine, seconds: float) -> None:
    """Ask the database whether a connection still holds before it is used again, where it was idle for long.

    SQLAlchemy's own way asks before each use.
    """

    def left(connection: Any, record: Any) -> None:
        record.info["left"] = time.monotonic()

    def taken(connection: Any, record: Any, proxy: Any) -> None:
        if time.monotonic() - record.info.get("left", math.inf) > seconds:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise sqlalchemy.exc.DisconnectionError from error

    sqlalchemy.event.listen(engine, "checkin", left)
    sqlalchemy.event.listen(engine, "checkout", taken)
