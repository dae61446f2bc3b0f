"""Measurements that are kept as they come: minutes on a phone are not lost because a table was not finished."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from se_nas.cost.latency.timing import Measurement
from se_nas.errors import OutputError, counted
from se_nas.records.models.certificate import Timing
from se_nas.records.record import Record
from se_nas.space.specs import NetworkSpec

_log = logging.getLogger(__name__)


class _Line(Record):
    network: str
    timing: Timing


class KeptMeasurements:
    """The measurements of one table, in a file with a line for each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Timing] = {}
        lines = path.read_bytes().splitlines() if path.is_file() else []
        damaged = 0
        for words in filter(None, lines):
            try:
                line = _Line.model_validate_json(words)
            except ValidationError:  # torn where the process was killed
                damaged += 1
            else:
                self._found[line.network] = line.timing
        if self._found:
            left = f", without {counted(damaged, 'damaged line')}" if damaged else ""
            _log.warning("%s: %s kept from before%s", path, counted(len(self._found), "measurement"), left)

    def get(self, network: NetworkSpec) -> Measurement | None:
        """What was measured of a network."""
        found = self._found.get(_digest(network))
        return None if found is None else Measurement(found.median_ms, found.mean_ms, found.ci95_ms, found.n)

    def add(self, network: NetworkSpec, measurement: Measurement) -> None:
        """Keep a measurement, from now on.

        Raises:
            OutputError: the file cannot be written to.
        """
        line = _Line(network=_digest(network), timing=Timing(**asdict(measurement)))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # on a line of its own, also after one that was torn
            with self.path.open("ab") as file:
                file.write(f"\n{line.model_dump_json()}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path}: must be a file that can be written to ({error.strerror})") from error

    def clear(self) -> None:
        """Once the table is made, or where it is to be made anew."""
        self.path.unlink(missing_ok=True)


def _digest(network: NetworkSpec) -> str:
    return hashlib.sha256(json.dumps(network.to_dict(), sort_keys=True).encode()).hexdigest()
