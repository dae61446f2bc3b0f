"""Which run of a service a phase of ours is: a file beside the log, by which a resumed phase goes on with the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from se_nas.records.record import Record, read_record, write_record


class ServiceRun(Record):
    """The run of a phase."""

    id: str


def run_of_phase(file: Path, step: int, begin: Callable[[], str]) -> str:
    """The run that `file` names, or a new one where the phase begins.

    Args:
        begin: makes a run, and says its id.
    """
    if step > 0 and file.exists():
        return read_record(ServiceRun, file).id
    run = begin()
    write_record(file, ServiceRun(id=run))
    return run


def words_of(folder: Path, phase: str) -> tuple[str, str]:
    """What a phase is called in a service: the run's folder, by which its phases are grouped, and the phase's name."""
    home = folder.resolve()
    group = home.parent.name if (home.parent / "config.yaml").exists() else home.name
    return group, f"{group} {phase}"
