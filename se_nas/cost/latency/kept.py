"""Measurements that are kept as they come: minutes on a phone are not lost because a table was not finished."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, TypeAdapter, ValidationError

from se_nas.cost.latency.plan import Plan
from se_nas.errors import OutputError, counted
from se_nas.records.record import Record
from se_nas.space.specs import BlockSpec, NetworkSpec

_log = logging.getLogger(__name__)

Timeable = Sequence[BlockSpec] | Sequence[NetworkSpec]


class Kept(Record):
    """What blocks or networks took that were timed together.

    Attributes:
        what: a digest of them, of their visit and of what ran them.
        ms: of each, in their order.
        seconds: that it took to time them.
    """

    kind: Literal["timed"] = "timed"
    what: str
    ms: tuple[NonNegativeFloat, ...]
    seconds: NonNegativeFloat


_LINE: TypeAdapter[Plan | Kept] = TypeAdapter(Annotated[Plan | Kept, Field(discriminator="kind")])


class KeptMeasurements:
    """The measurements of one table, in a file with a line for each.

    Attributes:
        seconds: what was spent on those of before.
        plan: of before, None where there is none.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self.seconds = 0.0
        self.plan: Plan | None = None
        self._environment = dict(environment)
        self._found: dict[str, Kept] = {}
        lines = path.read_bytes().splitlines() if path.is_file() else []
        damaged = 0
        for words in filter(None, lines):
            try:
                line = _LINE.validate_json(words)
            except ValidationError:  # torn where the process was killed
                damaged += 1
                continue
            if isinstance(line, Plan):
                self.plan = line
            else:
                self._found[line.what] = line
        self.seconds = sum(line.seconds for line in self._found.values())
        if self._found or damaged:
            number = sum(len(line.ms) for line in self._found.values())
            left = f", without {counted(damaged, 'damaged line')}" if damaged else ""
            _log.warning("%s: %s kept from before%s", path, counted(number, "measurement"), left)

    def get(self, visit: int, specs: Timeable) -> Kept | None:
        """What was measured of blocks or networks."""
        found = self._found.get(self._digest(visit, specs))
        return found if found is not None and len(found.ms) == len(specs) else None

    def add(self, visit: int, specs: Timeable, ms: Sequence[float], seconds: float) -> None:
        """Keep what was measured, from now on.

        Raises:
            OutputError: the file cannot be written to.
        """
        line = Kept(what=self._digest(visit, specs), ms=tuple(ms), seconds=seconds)
        self._append(line)
        self._found[line.what] = line

    def keep_plan(self, plan: Plan) -> None:
        """Keep how much is timed, which another process would not plan alike; OutputError as of `add`."""
        self._append(plan)

    def clear(self) -> None:
        """Once the table is made, or where it is to be made anew."""
        self.path.unlink(missing_ok=True)

    def _append(self, line: Record) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # on a line of its own, also after one that was torn
            with self.path.open("ab") as file:
                file.write(f"\n{line.model_dump_json(exclude_none=True)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path}: must be a file that can be written to ({error.strerror})") from error

    def _digest(self, visit: int, specs: Timeable) -> str:
        values = [spec.to_dict() if isinstance(spec, NetworkSpec) else asdict(spec) for spec in specs]
        words = json.dumps([visit, self._environment, values], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()
