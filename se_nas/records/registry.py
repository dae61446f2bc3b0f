"""A registry: the entries of one kind by name, in sight where they are defined, to which a plugin adds its own.

An entry may name its code as packages name their entry points, "package.module:name", and whoever uses it imports what
is named then: so the floor space/ knows layers without torch, and a help lists data sets without it. An entry of a
user's own module may give the function itself.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from se_nas.errors import did_you_mean

Entry = TypeVar("Entry")

Code = str | Callable[..., Any]
"""A function or class: itself, or where it is, as "package.module:name"."""

# what the plugin that is being imported has added so far; None while none is
_added: list[tuple[Registry[Any], str]] | None = None

_by_kind: dict[str, Registry[Any]] = {}


def known(kind: str) -> AfterValidator:
    """A validator of pydantic's of the name of an entry, for a record on a lower floor than the registry."""
    return AfterValidator(lambda name: _by_kind[kind].checked(name) if kind in _by_kind else name)


@cache
def imported(code: Code) -> Callable[..., Any]:
    """What an entry names, imported where it is only named."""
    if not isinstance(code, str):
        return code
    module, _, name = code.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


class Registry(UserDict[str, Entry]):
    """Entries by name, each of which knows everything of its kind.

    Args:
        kind: what an entry is called in messages, such as "sampler".
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        _by_kind[kind] = self
        super().__init__(entries)

    def __setitem__(self, name: str, entry: Entry) -> None:
        if _added is not None:
            if name in self:
                raise ValueError(f"a plugin must give a {self.kind} a new name, but there is one named {name} already")
            _added.append((self, name))
        super().__setitem__(name, entry)

    def checked(self, name: Any, also: Sequence[str] = (), where: Callable[[Entry], bool] = lambda entry: True) -> str:
        """The name of an entry, as a validator of pydantic's; what was probably meant is said where it is none.

        Args:
            also: words beside the names.
            where: of the entries only those will do of which it is true.
        """
        known = (*also, *(own for own, entry in self.items() if where(entry)))
        if isinstance(name, str) and name in known:
            return name
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        must = f"must be one of {', '.join(known)}"
        raise PydanticCustomError("unknown_name", "{must}", {"must": must, "hint": hint})


@contextmanager
def adding() -> Iterator[None]:
    """While a plugin is imported: no entry is replaced, and what was added goes again where the import fails."""
    global _added
    before, _added = _added, []
    try:
        yield
    except BaseException:
        for registry, name in _added:
            del registry[name]
        raise
    finally:
        _added = before
