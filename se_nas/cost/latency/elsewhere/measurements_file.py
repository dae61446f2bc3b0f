"""Files of somebody's measurements: networks of a space, and milliseconds or images a second, as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from se_nas.cost.latency.table import Timed
from se_nas.errors import ArchitectureError, ConfigError, OutputError, in_line, short
from se_nas.records.bounds import LEAST_MS, MOST_MS
from se_nas.records.files import MOST_BYTES, beside, write_atomic
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import load_architecture
from se_nas.space.search_space import SearchSpace

#: The units: milliseconds of a run, or images a second.
UNITS = ("ms", "images_per_second")
#: What a line may have: a unit, the picks or an architecture's file, and what `se-nas latency networks` wrote there.
_KEYS = ("picks", "architecture", "onnx", *UNITS)


def read_measurements(path: Path, space: SearchSpace, batch_size: int = 1) -> list[Timed]:
    """The networks of a file with their milliseconds of a run, in its order.

    A line of JSON is `{"picks": {choice: option, ...}, "ms": 3.2}`; of CSV the columns are the choices. In place of
    picks `architecture` may name an architecture's file, relative to this one.

    Args:
        batch_size: images in a run, for images a second.

    Raises:
        ConfigError: with every fault, each with its line.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(str(path), [f"file: must have at most {MOST_BYTES:,} bytes"])
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(str(path), [f"file: must be readable, but got: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), ["file: must be text in UTF-8, but is not"]) from error
    problems: list[str] = []
    found: dict[Architecture, tuple[int, float]] = {}
    units: dict[str, int] = {}
    for number, entry in _csv_entries(text, space, str(path)) if _is_csv(text) else _json_entries(text, str(path)):
        try:
            architecture, unit, ms = _measurement(entry, space, path, batch_size)
        except (ValueError, ArchitectureError, ConfigError) as error:
            problems.append(f"line {number}: {in_line(error)}")
            continue
        units.setdefault(unit, number)
        if architecture in found:
            first = found[architecture][0]
            problems.append(f"line {number}: must be another network, but it is that of line {first} again")
            continue
        found[architecture] = number, ms
    if len(units) > 1:
        (one, there), (other, here) = units.items()
        problems.append(f"line {here}: must have one unit throughout, {one} as in line {there}, but has {other}")
    if not found and not problems:
        problems.append("file: must have a line for each network, but it has none")
    if problems:
        raise ConfigError(str(path), problems)
    return [(architecture, ms) for architecture, (_, ms) in found.items()]


def write_measurements(path: Path, timed: Iterable[Timed]) -> Path:
    """Write networks and milliseconds as JSON lines, which `read_measurements` reads.

    Raises:
        OutputError: the file is there, or cannot be written.
    """
    if os.path.lexists(path):  # it may be what somebody measured
        raise OutputError(f"{path}: must be a file that is not there yet, but there is one")
    lines = (json.dumps({"picks": architecture.as_dict(), "ms": ms}) + "\n" for architecture, ms in timed)
    return write_atomic(path, "".join(lines))


def _is_csv(text: str) -> bool:
    return not text.lstrip().startswith("{") and bool(text.strip())


def _json_entries(text: str, source: str) -> Iterator[tuple[int, object]]:
    begun = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entry = json.loads(line, object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                if not begun:  # a file of another kind would have a fault in each line
                    must = 'must be an object of JSON in each line, such as {"picks": {...}, "ms": 3.2}'
                    raise ConfigError(source, [f"line {number}: {must}, but got {short(line)}"]) from error
                entry = error.args[0] if isinstance(error, _Twice) else line
            begun = True
            yield number, entry


class _Twice(ValueError):
    """A key that an object has twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice(
            next(f"{short(name)} twice" for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        )
    return found


def _csv_entries(text: str, space: SearchSpace, source: str) -> Iterator[tuple[int, object]]:
    """The rows in the form of JSON's lines; options are read as the space writes them."""
    reader = csv.reader(io.StringIO(text), strict=True)
    options = {choice.name: {str(option): option for option in choice.options} for choice in space.choices}
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ConfigError(source, [f"line {reader.line_num}: must be CSV, but got: {error}"]) from error
    head = [word.strip() for word in rows[0][1]] if rows else []
    if rows and not set(UNITS) & set(head):
        must = f"must be an object of JSON, or name the columns, one of them {' or '.join(UNITS)}"
        raise ConfigError(source, [f"line {rows[0][0]}: {must}, but got {short(','.join(head))}"])
    if twice := [name for place, name in enumerate(head) if name in head[:place]]:
        raise ConfigError(source, [f"line {rows[0][0]}: must name each column once, but has {short(twice[0])} twice"])
    for number, row in rows[1:]:
        if len(row) != len(head):
            yield number, row
            continue
        entry: dict[str, Any] = {}
        for name, word in zip(head, row, strict=True):
            if name in UNITS:
                entry[name] = _number(word)
            elif name in _KEYS:
                entry[name] = word
            else:
                entry.setdefault("picks", {})[name] = options.get(name, {}).get(word, word)
        yield number, entry


def _number(word: str) -> float | str:
    try:
        return float(word)
    except (TypeError, ValueError):
        return word


def _measurement(entry: object, space: SearchSpace, path: Path, batch_size: int) -> tuple[Architecture, str, float]:
    """The network, the unit and the milliseconds of a line; ValueError in words that may follow its number."""
    if not isinstance(entry, Mapping):
        must = 'must be an object such as {"picks": {...}, "ms": 3.2}, or a row of as many columns as the first'
        raise ValueError(f"{must}, but got {short(entry)}")
    if unknown := [key for key in entry if key not in _KEYS]:
        raise ValueError(f"{short(unknown[0])} must be one of {', '.join(_KEYS)}")
    units = [unit for unit in UNITS if unit in entry]
    if len(units) != 1:
        raise ValueError(f"must have one of {' and '.join(UNITS)}, but has {' and '.join(units) or 'neither'}")
    value = entry[units[0]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{units[0]} must be a number above 0, but got {short(value)}")
    ms = value if units[0] == "ms" else 1e3 * batch_size / value if value > 1e-300 else math.inf
    if not LEAST_MS <= ms <= MOST_MS:
        raise ValueError(f"{units[0]} must be from {LEAST_MS:g} to {MOST_MS:g} ms, but got {short(value)}")
    if ("picks" in entry) == ("architecture" in entry):
        raise ValueError("must have either picks or architecture")
    if "architecture" in entry:
        architecture = load_architecture(beside(path, str(entry["architecture"]))).architecture
        space.check(architecture)
        return architecture, units[0], float(ms)
    picks = entry["picks"]
    if not isinstance(picks, Mapping):
        raise ValueError(f"picks must be an object of choices and options, but got {short(picks)}")
    return space.architecture(dict(picks)), units[0], float(ms)
