"""What `RUN/nni.json` says of a run's experiment: which one it is, and which process was started as its manager."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from se_nas.errors import LaunchError
from se_nas.records.files import read_json
from se_nas.records.record import Record, parse_record, write_record

FILE = "nni.json"

#: A process of the first numbers is the machine's own, and 0 or less means whole groups of processes to a signal.
_FIRST_PID = 2


def _is_id(experiment: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]{8}", experiment):
        raise ValueError("must be 8 letters and digits, as NNI's ids of experiments are")
    return experiment


def _is_address(address: str) -> str:
    ipaddress.ip_address(address)  # its error says what is none
    return address


ExperimentId = Annotated[str, AfterValidator(_is_id)]
Address = Annotated[str, AfterValidator(_is_address)]


class ExperimentRecord(Record):
    """The experiment of a run; everything that is signalled or deleted is found by it.

    Attributes:
        id: NNI's id of the experiment.
        port, host: of the page; the host as the user gave it, a name or an address.
        address: what the host meant when the manager was started, which listens there.
        told: the address that trials on other machines were told; None where there are none.
        pid, started: the manager's process and when it was started, in seconds since 1970; None where it was stopped.
            A record of version 1 has no start.
        state: what the manager was started for, or how its experiment was left.
        before: how the experiment was left before this manager; None where it was a new one.
        log_begin: where in NNI's log this manager's words begin.
        digest: of the configuration that we handed to NNI; None in a record of version 1.
        home: the folder that the experiment was launched in; None where it was not recorded yet.
    """

    format: Literal["se_nas nni experiment"] = "se_nas nni experiment"
    version: Literal[2] = 2
    id: ExperimentId
    port: int = Field(ge=1, le=65535, strict=True)
    host: str = Field(min_length=1, max_length=255)
    address: Address
    told: Address | None
    pid: int | None = Field(None, ge=_FIRST_PID, lt=2**31, strict=True)
    started: float | None = Field(None, ge=0, strict=True)
    state: Literal["RUNNING", "VIEWED", "STOPPED", "DONE"]
    before: Literal["STOPPED", "DONE"] | None
    log_begin: int = Field(0, ge=0, lt=2**63, strict=True)
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    home: str | None = Field(None, max_length=4096)

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, value: Any) -> Any:
        if isinstance(value, dict) and type(value.get("version")) is int and value["version"] == 1:
            return {**value, "version": 2, "address": value.get("host")}
        return value

    @model_validator(mode="after")
    def _a_view_is_of_something(self) -> ExperimentRecord:
        if self.state == "VIEWED" and self.before is None:
            raise ValueError("a page that only shows an experiment must say how that was left (before)")
        return self

    @property
    def settled(self) -> Literal["STOPPED", "DONE"]:
        """The state of an experiment whose manager is gone: viewing it changed nothing."""
        if self.state == "VIEWED":
            assert self.before is not None
            return self.before
        return "STOPPED" if self.state == "RUNNING" else self.state

    def stopped(self, state: Literal["STOPPED", "DONE"]) -> ExperimentRecord:
        """The record of the experiment after its manager has ended."""
        return self.model_copy(update={"pid": None, "started": None, "state": state})


def find_experiment(folder: str | os.PathLike[str]) -> ExperimentRecord | None:
    """The experiment of a run's folder, None where there is none.

    Raises:
        ConfigError: `nni.json` is not what `se-nas launch` wrote.
    """
    path = Path(folder) / FILE
    if not os.path.lexists(path):
        return None
    return parse_record(ExperimentRecord, read_json(path), str(path))


def read_experiment(folder: str | os.PathLike[str]) -> ExperimentRecord:
    """The experiment of a run's folder.

    Raises:
        LaunchError: the folder holds none.
        ConfigError: `nni.json` is not what `se-nas launch` wrote.
    """
    record = find_experiment(folder)
    if record is None:
        raise LaunchError(f"{folder}: holds no NNI experiment (no {FILE}); launch one first")
    return record


def write_experiment(folder: str | os.PathLike[str], record: ExperimentRecord) -> None:
    """Write the experiment of a run's folder; OutputError where it cannot be."""
    write_record(Path(folder) / FILE, record)
