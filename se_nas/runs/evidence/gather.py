"""Evidence for the answer of a run: its controls trained, rankings, further searches, SE switched, clocks and a ledger.

Everything lies in RUN/evidence: trainings and supernet accuracies as records, so that a call that was killed
is finished by the same call, and one file of JSON a part, from which the report draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from se_nas.data.sources import stays_on_disk
from se_nas.errors import ConfigError, DeviceError
from se_nas.hardware.environment import describe_environment, resumed_elsewhere
from se_nas.hardware.lines import Say
from se_nas.records.record import Record, write_record
from se_nas.records.registry import imported
from se_nas.report.pages.run import write_report
from se_nas.runs.evidence.gathering import Conditions, Gathering
from se_nas.runs.evidence.registry import PARTS
from se_nas.runs.evidence_config import FOLDER, resolve_evidence
from se_nas.runs.prepare import open_setting
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.runs.shown import shown_configuration


def gather_evidence(
    folder: Path,
    parts: Sequence[str],
    changes: Mapping[str, object],
    conditions: Conditions,
    say: Say,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
) -> Path:
    """Gather parts of the evidence for a finished run, or what is left of them, and write its report again.

    Args:
        parts: keys of `PARTS`; none for all that this machine's devices allow.
        changes: see `runs.evidence_config.resolve_evidence`.
        data_dir, device: of this process, where they are not those of the run.

    Returns:
        The report's path.

    Raises:
        ConfigError: the folder holds no finished run with a retraining, or a fault in the configuration.
        SeNasError: the other faults a user can cause.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ConfigError("--part", [f"must be one of {', '.join(PARTS)}, but got {part!r}" for part in unknown])
    run = RunFolder(folder)
    for name in ("config.yaml", "result.json", "architecture.json"):
        if not (run / name).exists():
            raise ConfigError(str(folder), [f"must be the folder of a finished run, but it has no {name}"])
    if run.config.get("retrain") is None:
        must = "must hold a recipe, by which the controls are trained, but it is null"
        raise ConfigError(str(run / "config.yaml"), [f"retrain: {must}"])
    if stays_on_disk(data := run.config["data"]["name"]):
        must = f"must be of images in memory for evidence to be gathered, but is {data}, whose images stay on disk"
        raise ConfigError(str(run / "config.yaml"), [f"data.name: {must}"])
    with alone_in(folder):
        resolved = resolve_evidence(run, changes)
        setting = open_setting(folder, data_dir=data_dir, device=device)
        gathering = Gathering(setting, resolved.config, conditions, say, resolved.trained_elsewhere)
        resolved.keep(run / FOLDER)  # once nothing of it is refused
        began, used = run / FOLDER / "environment.json", setting.device.type
        for line in resumed_elsewhere(began if began.exists() else run / "environment.json", used):
            say(line)
        write_record(began, describe_environment(used))
        for part in parts or PARTS:
            try:
                _gather_part(gathering, part)
            except DeviceError as error:
                if parts:
                    raise
                say(f"left out: {part}: {error}")
        if parts and "ledger" not in parts:
            _gather_part(gathering, "ledger")
        return write_report(folder, shown_configuration(folder / "config.yaml"))


def _gather_part(gathering: Gathering, name: str) -> None:
    """Do a part, write it down in place of what was there, and add what it took to the ledger."""
    gathering.say(f"evidence: {name}")
    with gathering.spending.of(name):
        found: Record | None = imported(PARTS[name].gather)(gathering)
    path = gathering.folder / PARTS[name].file
    if found is None:
        path.unlink(missing_ok=True)
    else:
        write_record(path, found)
