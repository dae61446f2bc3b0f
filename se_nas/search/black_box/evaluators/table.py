"""Judge architectures by a table of known accuracies, such as a published tabular benchmark (NAS-Bench-101,
arXiv 1902.09635, began these; NAS-Bench-Macro, arXiv 2103.11922, is one of chains of blocks).

The table is a file of JSON lines, one trained architecture each: `{"picks": {choice: option}, "accuracy": 0.93}`; or it
is a `NetworkTable`, which names its space, and whose accuracies are means over its seeds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_nas.errors import ArchitectureError, ConfigError, short
from se_nas.records.files import check_regular, parse_json
from se_nas.records.measure import ACCURACY
from se_nas.records.models.network_table import NetworkTable
from se_nas.records.record import read_record
from se_nas.search.black_box.evaluation import Unjudged
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

#: Faults of a file that are told; the others are counted.
TOLD = 5


class TableEvaluator:
    """Accuracy of an architecture by look-up.

    Attributes:
        metrics: of each architecture, by name; `accuracy`, from 0 to 1, is among them.
    """

    def __init__(self, space: SearchSpace, metrics: Mapping[Architecture, Mapping[str, float]], source: str) -> None:
        self.space, self.metrics, self._source = space, metrics, source

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], space: SearchSpace, metrics: Sequence[str] = ("accuracy",)
    ) -> TableEvaluator:
        """Read a table.

        Args:
            metrics: what every line must have beside its picks; `accuracy` in any case. Others may be there.

        Raises:
            ConfigError: the file cannot be read, holds no line, or some lines are at fault, with the first few of them;
                or it is a `NetworkTable` of another space.
        """
        names = tuple(dict.fromkeys(("accuracy", *metrics)))
        found: dict[Architecture, dict[str, float]] = {}
        first: dict[Architecture, str] = {}
        problems: list[str] = []
        for where, entry in _entries(Path(path), space):
            try:
                picks, values = _checked(entry, names)
                architecture = space.architecture(picks)
                known = found.setdefault(architecture, values)
                if known != values:
                    raise ValueError(
                        f"must be as {first[architecture]}, which is of the same architecture and has "
                        f"{_words(known)}, but got {_words(values)}"
                    )
            except (ValueError, OverflowError, RecursionError, ArchitectureError) as error:
                problems.append(f"{where}: {_shortened(str(error))}")
            else:
                first.setdefault(architecture, where)
        if not found and not problems:
            problems.append("file: must hold one architecture or more, but it is empty")
        if len(problems) > TOLD:
            problems[TOLD:] = [f"... and {len(problems) - TOLD} more"]
        if problems:
            raise ConfigError(str(path), problems)
        return cls(space, found, str(path))

    def __call__(self, architecture: Architecture) -> float:
        """Accuracy, from 0 to 1.

        Raises:
            Unjudged: the table lacks the architecture.
            ArchitectureError: it is of another space.
        """
        self.space.check(architecture)
        known = self.metrics.get(architecture)
        if known is None:
            picks = ", ".join(f"{name} = {option}" for name, option in architecture.picks)
            raise Unjudged(f"{self._source}: an architecture to look up must be in the table, but it lacks {picks}")
        return known["accuracy"]


def _entries(path: Path, space: SearchSpace) -> Iterator[tuple[str, Any]]:
    """Where each entry stands, and its text, or its value."""
    try:
        check_regular(path)
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip() == "{" and number == 1:  # a file that is one value, not a value a line
                    break
                if line.strip():
                    yield f"line {number}", line
            else:
                return
    except OSError as error:
        raise ConfigError(str(path), [f"file: must be readable, but got: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), ["file: must be text in UTF-8, but it is not"]) from error
    for i, network in enumerate(_table_of(space, path).networks):
        yield f"networks[{i}]", {"picks": network.picks, "accuracy": network.accuracy, **network.costs}


def _table_of(space: SearchSpace, path: Path) -> NetworkTable:
    """The record in a file, which must be of the space."""
    table = read_record(NetworkTable, path)
    if table.space.digest != space.digest:
        must = f"space.digest: must be {space.digest}, that of space {space.name}"
        raise ConfigError(str(path), [f"{must}, but got {short(table.space.digest)}, of {short(table.space.name)}"])
    return table


def _checked(entry: Any, names: Sequence[str]) -> tuple[dict[str, Option], dict[str, float]]:
    """The picks and the named metrics of an entry; ValueError says what is wrong with it."""
    if isinstance(entry, str):
        try:
            entry = parse_json(entry, "line")
        except ConfigError as error:
            raise ValueError(error.problems[0].removeprefix("file: ")) from error
    if not isinstance(entry, dict) or not isinstance(entry.get("picks"), dict):
        raise ValueError('must be an object with picks, such as {"picks": {"stage1.depth": 2}, "accuracy": 0.93}')
    missing = [name for name in names if name not in entry]
    if missing:
        raise ValueError(f"must have the metric {', '.join(missing)}, but has {', '.join(entry)}")
    return entry["picks"], {name: _number(name, entry[name]) for name in names}


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: must be a number, but got {value!r}")
    fault = ACCURACY.fault(value) if name == ACCURACY.name else None
    if fault is not None:
        raise ValueError(fault)
    return float(value)


def _words(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in metrics.items())


def _shortened(message: str) -> str:
    """The first fault of an architecture's many."""
    start, *others = message.split("; '")
    return f"{start}; and {len(others)} more such" if others else start
