"""The folder of a run: its files, and the mark that says which run it holds."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from se_nas.errors import ConfigError, OutputError, short
from se_nas.records.files import write_atomic
from se_nas.records.locks import holder, locked
from se_nas.records.yaml_input import read_yaml
from se_nas.runs.shown import HIDDEN, shown
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

#: Values that may differ when a run is resumed: that the data are the same is seen by the parts, and what may differ in
#: the evidence, which is gathered when the answer is given, `evidence_config.check_unchanged` says. What else takes the
#: numbers changes none, nor whether a device compiles or captures what computes them, but for rounding.
MAY_CHANGE = re.compile(
    r"data\.(dir|download|max_damaged|val_labels)|evidence(\..*)?|loggers|(search|retrain|recipe)\.(compile|cuda_graphs)"
)

#: What a run's folder holds of its answer, that by which a resumed run knows it first.
OF_ANSWER = ("certificate.json", "decodes.json", "architecture.json", "result.json", "report.html", "plots", "retrain",
             "finalists", "evidence", "excitation", "export", "decodes", "subnet")  # fmt: skip

#: Name of the folder in a run's with what its search saves.
SEARCH = "search"
#: Name of the folder in a run's with its answer's network as the supernet leaves it.
SUBNET = "subnet"
#: Name of the folder in a run's with the retraining of its winner.
RETRAINING = "retrain"
#: Name of the file in a folder that the process which works in it has locked.
LOCK = ".lock"
_HELD: ContextVar[frozenset[Path]] = ContextVar("_HELD", default=frozenset())


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the one process that works in a folder, for as long as a command takes; taken before it writes anything.

    Inside, what is called may say the same of the same folder. A folder that was made for it and is left empty goes.

    Raises:
        OutputError: another process works in it, or it cannot be written to.
    """
    place = folder.resolve()
    if place in _HELD.get():
        yield
        return
    path, made = folder / LOCK, [above for above in (folder, *folder.parents) if not above.exists()]
    try:
        with locked(path, wait=False) as held:
            if not held:
                raise OutputError(f"{folder}: no other process must be at work in the folder, but {holder(path)} is")
            token = _HELD.set(_HELD.get() | {place})
            try:
                yield
            finally:
                _HELD.reset(token)
    finally:
        with suppress(OSError):
            for above in made:
                above.rmdir()  # the innermost first; one that is not empty ends it


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def space(self) -> SearchSpace:
        """The space that was searched."""
        return load_space(self.path / "space.yaml")

    @property
    def config(self) -> dict[str, Any]:
        """What `begin` wrote; ConfigError where no run has begun, or it is damaged."""
        path = self.path / "config.yaml"
        if not path.exists():
            raise ConfigError(str(self.path), ["must be the folder of a run, but it has no config.yaml"])
        found = read_yaml(path)
        if not isinstance(found, dict):
            raise ConfigError(str(path), [f"file: must be a mapping, but got {type(found).__name__}"])
        return found

    def has_begun(self, resume: bool) -> bool:
        """Whether it holds a run; an error when it holds one and `resume` is not given."""
        if not (self.path / "config.yaml").exists():
            return False
        if not resume:
            raise OutputError(
                f"{self.path}: the folder must hold no run yet, but it does; add --resume or choose --out"
            )
        return True

    def corrections(
        self,
        resolved: Mapping[str, Any],
        completed: Callable[[dict[str, Any]], dict[str, Any]],
        unused: str | None,
        limits: str | None = None,
    ) -> list[str]:
        """What a resumed run has otherwise than when it began and may have: a line for each.

        Args:
            completed: adds to what was written when the run began the defaults of values that were not known of then;
                ConfigError for those that are not known of any more.
            unused: matches the dotted paths of what nothing has used yet.
            limits: of what says how long the run goes on.

        Raises:
            ConfigError: other values differ.
        """
        began = completed(self.config)
        before, now = dict(_flat(began)), dict(_flat(resolved))
        differ = [n for n in {**before, **now} if before.get(n) != now.get(n) and not MAY_CHANGE.fullmatch(n)]
        fresh, free = ([n for n in differ if of and re.fullmatch(of, n)] for of in (unused, limits))
        was, got = dict(_flat(shown(began))), dict(_flat(shown(dict(resolved))))
        told = {
            n: (short(was.get(n, HIDDEN if n in before else None)), short(got.get(n, HIDDEN if n in now else None)))
            for n in differ
        }
        if refused := [n for n in differ if n not in {*fresh, *free}]:
            must = "must be as in the run that --resume continues"
            problems = [f"{n}: {must}, {told[n][0]}, but got {told[n][1]}" for n in refused]
            raise ConfigError(str(self.path / "config.yaml"), problems)
        lines = {n: f"{n}: {told[n][1]} instead of {told[n][0]}" for n in differ if n in {*fresh, *free}}
        return [line if n in free else f"{line}, which nothing had used yet" for n, line in lines.items()]

    def set_aside(self, name: str) -> None:
        """Move all that there is of the answer into a folder in this one; done again, it ends what was cut off.

        Raises:
            OutputError: it cannot be moved.
        """
        place = self.path / name
        try:
            place.mkdir(exist_ok=True)
            for part in OF_ANSWER:
                if (self.path / part).exists():
                    os.replace(self.path / part, place / part)
        except OSError as error:
            must = "must be writable, so that the answer of before can be kept there"
            raise OutputError(f"{place}: {must}, but got: {error.strerror or error}") from error

    def begin(self, resolved: Mapping[str, Any]) -> None:
        """Mark it as holding a run, or what was corrected of it; last of all that a run starts with, so that a refused
        run leaves no mark."""
        may_hold_secret = shown(dict(resolved)) != resolved
        write_atomic(
            self.path / "config.yaml", yaml.safe_dump(dict(resolved), sort_keys=False), private=may_hold_secret
        )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in nested mappings, by its dotted path."""
    if not isinstance(value, dict) or not value:
        yield path or "file", value
        return
    for name, item in value.items():
        yield from _flat(item, f"{path}.{name}" if path else str(name))
