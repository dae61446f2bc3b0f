"""The record of a run: one JSON object a line, and the same numbers to loggers.

The position of a phase in the log (its number of lines) is part of a checkpoint. Going back to a checkpoint cuts
the lines beyond it, so that the log of a resumed run equals that of an uninterrupted one but for the times.
"""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from se_nas.errors import ConfigError, OutputError, install
from se_nas.records.files import check_regular, parse_json, write_atomic
from se_nas.records.registry import Registry


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a log, oldest first; a last line that a kill left torn is dropped.

    Raises:
        OutputError: a whole line is not an object with a phase.
    """
    check_regular(Path(path))
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    entries = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line end is torn, or empty
        try:
            entry = parse_json(line, str(path))
            if not isinstance(entry["phase"], str):
                raise TypeError("phase")
        except (ConfigError, TypeError, KeyError) as error:
            must = f"{path}: line {number} must be a JSON object with a phase"
            raise OutputError(f"{must}, but got {line[:80]!r}") from error
        entries.append(entry)
    return entries


class Logger(Protocol):
    """Takes the finite numbers of a phase, step by step."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of a step, by name."""

    def close(self) -> None:
        """The phase is over, or goes back to an earlier step; what it writes then is given to another logger."""


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def _tensorboard(folder: Path, phase: str, step: int) -> Logger | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    place = str(folder / "tensorboard" / phase)
    try:
        place.encode()
    except UnicodeEncodeError:
        must = "the path must be UTF-8 for TensorBoard: name another folder, or loggers without tensorboard"
        raise OutputError(f"{place.encode(errors='backslashreplace').decode()}: {must}") from None
    return _TensorBoard(SummaryWriter(place, purge_step=step))


def _wandb(folder: Path, phase: str, step: int) -> Logger:
    from se_nas.records.loggers.wandb_run import WandbRun

    return WandbRun(folder, phase, step)


def _mlflow(folder: Path, phase: str, step: int) -> Logger:
    from se_nas.records.loggers.mlflow_run import MlflowRun

    return MlflowRun(folder, phase, step)


#: Each opens a logger in the log's folder for a phase, of which what was written of a step and later ones is void; None
#: where there is nothing to write with.
LOGGERS: Registry[Callable[[Path, str, int], Logger | None]] = Registry(
    "logger", {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
)
#: Those that are used where they are named alone; each is the name of the module and of the extra that it needs too.
ON_REQUEST = ("wandb", "mlflow")

_chosen: ContextVar[tuple[str, ...] | None] = ContextVar("_chosen", default=None)


@contextmanager
def logging_to(names: Sequence[str] | None) -> Iterator[None]:
    """What is logged inside goes to these loggers; None for those that need not be named.

    Raises:
        ConfigError: one needs an extra that is not installed.
    """
    missing = [name for name in names or () if name in ON_REQUEST and not _is_installed(name)]
    if missing:
        raise ConfigError("loggers", [f"{name}: must be installed, but is not: {install(name)}" for name in missing])
    token = _chosen.set(None if names is None else tuple(names))
    try:
        yield
    finally:
        _chosen.reset(token)


@contextmanager
def without_services() -> Iterator[None]:
    """What is logged inside goes to none of `ON_REQUEST`, where each of hundreds of trainings would be a run."""
    chosen = _chosen.get()
    token = _chosen.set(None if chosen is None else tuple(name for name in chosen if name not in ON_REQUEST))
    try:
        yield
    finally:
        _chosen.reset(token)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # taken out of the modules
        return False


class RunLog:
    """Writes `folder`/log.jsonl, which is what a run is resumed by, and gives the numbers to those of `logging_to`.

    Raises:
        OutputError: the folder cannot be written to, or its log.jsonl is not a log.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "log.jsonl"
        self._loggers: dict[str, list[Logger]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            entries = read_log(self.path) if self.path.exists() else []
        except OSError as error:
            raise OutputError(f"{self.path}: the log must be writable, but got: {error.strerror or error}") from error
        self._rewrite(entries)  # without a torn last line, to which a new line must not be glued

    def lines(self, phase: str) -> int:
        """How many lines `phase` has written."""
        return self._lines[phase]

    def write(self, step: int, phase: str, **values: Any) -> None:
        """Append one line: step, phase, time (UTC) and `values`; finite numbers also go to the loggers.

        JSON has no NaN and no infinity, so these are written as the strings "nan", "inf" and "-inf".
        """
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entry = {"step": step, "phase": phase, "time": time, **values}
        try:
            self._file.write(json.dumps(_finite(entry), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: the log must be writable, but got: {error.strerror or error}") from error
        self._lines[phase] += 1
        numbers = {name: value for name, value in numbers_in(values) if math.isfinite(value)}
        if numbers:
            for logger in self._opened(phase, step):
                logger.write(step, numbers)

    def cut(self, phase: str, lines: int, step: int) -> None:
        """Drop what `phase` wrote after its first `lines` lines, on disk in one rename.

        Args:
            step: the step the phase goes back to; to the loggers, this step and later ones are void.
        """
        for logger in self._loggers.pop(phase, []):
            logger.close()
        self._opened(phase, step)
        if lines >= self._lines[phase]:
            return
        kept, seen = [], 0
        for entry in read_log(self.path):
            seen += entry["phase"] == phase
            if entry["phase"] != phase or seen <= lines:
                kept.append(entry)
        self._file.close()
        self._rewrite(kept)

    def close(self) -> None:
        """Close the files; the log can then be opened again by another RunLog."""
        self._file.close()
        for logger in itertools.chain.from_iterable(self._loggers.values()):
            logger.close()
        self._loggers.clear()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rewrite(self, entries: list[dict[str, Any]]) -> None:
        write_atomic(self.path, "".join(json.dumps(entry) + "\n" for entry in entries))
        self._lines = Counter(entry["phase"] for entry in entries)
        self._file = self.path.open("a", encoding="utf-8")

    def _opened(self, phase: str, step: int) -> list[Logger]:
        if phase not in self._loggers:
            names = _chosen.get()
            names = tuple(name for name in LOGGERS if name not in ON_REQUEST) if names is None else names
            found = (LOGGERS[name](self.folder, phase, step) for name in names)
            self._loggers[phase] = [logger for logger in found if logger is not None]
        return self._loggers[phase]


class SilentLog:
    """What ranks other than the first write to: nothing."""

    def lines(self, phase: str) -> int:
        """None were written."""
        return 0

    def write(self, step: int, phase: str, **values: Any) -> None:
        """Drop it."""

    def cut(self, phase: str, lines: int, step: int) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        """There is nothing to close."""

    def __enter__(self) -> SilentLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def numbers_in(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers among the values, those of a mapping as `name.key`; truth values and lists are none."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", number) for key, number in numbers_in(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
