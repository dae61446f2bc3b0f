"""What a comparison reads: the records of each run, and of one that is not finished what it was told to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_nas.errors import ConfigError
from se_nas.records.models.certificate import CostEntry
from se_nas.records.yaml_input import read_yaml
from se_nas.report.pages.run_reading import RunFiles, read_run
from se_nas.search.strategies import DEFAULT

#: Keys of a run file in which two runs of one setting may differ.
_OF_ONE_RUN = ("name", "seed", "evidence", "loggers", "nni", "plugins", "space")


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        label: its folder's name, with as many of those above it as tell it from the others.
        settings: its configuration as plain values.
        finished: None where it has no result yet.
        parts: a digest of which images each part has; None where it has not split them yet.
    """

    label: str
    settings: Mapping[str, Any]
    finished: RunFiles | None
    parts: str | None

    def setting(self, dotted: str) -> Any:
        """A value of the configuration; None where it has none."""
        at: Any = self.settings
        for name in dotted.split("."):
            at = at.get(name) if isinstance(at, Mapping) else None
        return at

    @property
    def strategy(self) -> str:
        """How it searches."""
        return str(self.setting("search.strategy") or DEFAULT)

    @property
    def costs(self) -> dict[str, CostEntry]:
        """Of the answer, by metric, as each is known best."""
        return self.finished.certificate.known if self.finished else {}

    @property
    def but_for_seed(self) -> str:
        """The same text for runs that differ by their seed alone."""
        rest = {name: value for name, value in self.settings.items() if name not in _OF_ONE_RUN}
        data = rest.get("data")
        if isinstance(data, Mapping):
            rest["data"] = {name: value for name, value in data.items() if name not in ("dir", "download")}
        digest = self.finished.result.space.digest if self.finished else None
        return json.dumps([rest, digest], sort_keys=True, default=str)


def read_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """The runs in some folders.

    Raises:
        ConfigError: there are fewer than two, one is given twice, or one is no run of a search.
    """
    if len(folders) < 2:
        raise ConfigError("RUN", [f"at least two runs must be given, but got {len(folders)}"])
    places = [folder.resolve() for folder in folders]
    for index, place in enumerate(places):
        if place in places[:index]:
            raise ConfigError(str(folders[index]), ["each run must be given once, but this one is given twice"])
    return [_read(folder, label) for folder, label in zip(folders, _labels(places), strict=True)]


def _read(folder: Path, label: str) -> ComparedRun:
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(str(folder), ["must be the folder of a run, but it has no config.yaml"])
    settings = read_yaml(path)
    if not isinstance(settings, dict) or not isinstance(settings.get("search"), dict):
        raise ConfigError(str(folder), ["must be the folder of a search, but its config.yaml is of something else"])
    finished = read_run(folder, "") if (folder / "result.json").exists() else None
    parts = folder / "parts.json"
    digest = hashlib.sha256(parts.read_bytes()).hexdigest() if parts.is_file() else None
    return ComparedRun(label, settings, finished, digest)


def _labels(places: Sequence[Path]) -> list[str]:
    """Names that are short and differ."""
    for count in range(1, max(len(place.parts) for place in places)):
        labels = ["/".join(place.parts[-count:]) for place in places]
        if len(set(labels)) == len(labels):
            return labels
    return [place.as_posix() for place in places]
