"""What the registries of this floor share: adding an entry, and naming code that is imported on first use.

space/ imports no torch, and an entry knows the layers of its kind all the same. So it names them as packages name their
entry points, "package.module:name"; whoever builds a network imports what is named then. An entry of a user's own
module may give the function itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Protocol, TypeVar

from se_nas.errors import ConfigError
from se_nas.records.registry import Registry

Code = str | Callable[..., Any]
"""A function or class: itself, or where it is, as "package.module:name"."""


class Entry(Protocol):
    """What every entry of a registry has."""

    @property
    def name(self) -> str:
        """The word that files use for it."""


E = TypeVar("E", bound=Entry)


@cache
def imported(code: Code) -> Callable[..., Any]:
    """What an entry names, imported where it is only named."""
    if not isinstance(code, str):
        return code
    module, _, name = code.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def add_entry(registry: Registry[E], entry: E) -> E:
    """Add an entry under its name.

    Raises:
        ConfigError: the name is taken by another entry, or is no name.
    """
    if not re.fullmatch(r"[a-z][a-z_]*", entry.name) or entry.name == "none":
        raise ConfigError(f"{registry.kind} {entry.name!r:.60}", ["name: must be of small letters and _, and not none"])
    if registry.get(entry.name, entry) is not entry:
        raise ConfigError(f"{registry.kind} {entry.name}", ["name: must be new, but there is one of this name already"])
    if entry.name not in registry:
        registry[entry.name] = entry
    return entry
