"""An architecture: one pick for every choice of a space; and the versioned, self-contained file that carries it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from se_nas.errors import ArchitectureError
from se_nas.space.choice import Option
from se_nas.space.specs import NetworkSpec

if TYPE_CHECKING:
    pass

#: Faults of a file that are told one by one.
_SHOWN = 10


@dataclass(frozen=True)
class Architecture:
    """Total and canonical: built by `SearchSpace.architecture`, so that equal networks are equal and hash alike."""

    space_digest: str
    picks: tuple[tuple[str, Option], ...]

    def as_dict(self) -> dict[str, Option]:
        """The picks by choice name."""
        return dict(self.picks)

    def __getitem__(self, choice: str) -> Option:
        return self.as_dict()[choice]


def _option(value: object) -> Option:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number or text")
    return value


_NETWORK = TypeAdapter(NetworkSpec)


def _unknown(value: Any, known: Any, path: str = "") -> Iterator[str]:
    """The keys in a value that was read which nothing reads: a fault, as in every file."""
    if isinstance(value, Mapping) and isinstance(known, Mapping):
        for key, item in value.items():
            if key not in known:
                yield f"{path}{key}: unknown key"
            else:
                yield from _unknown(item, known[key], f"{path}{key}.")
    elif isinstance(value, list) and isinstance(known, (list, tuple)):
        for index, (item, other) in enumerate(zip(value, known, strict=True)):
            yield from _unknown(item, other, f"{path.removesuffix('.')}[{index}].")


def _faults(source: str, problems: list[str]) -> ArchitectureError:
    """The first few faults, a line each."""
    shown = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        shown.append(f"and {len(problems) - _SHOWN} more faults")
    return ArchitectureError("\n".join(f"{source}: {problem:.300}" for problem in shown))
