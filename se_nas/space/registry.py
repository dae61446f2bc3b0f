"""What the registries of this floor share: how an entry is added under its name."""

from __future__ import annotations

import re
from typing import Protocol, TypeVar

from se_nas.errors import ConfigError
from se_nas.records.registry import Registry


class Entry(Protocol):
    """What every entry of a registry has."""

    @property
    def name(self) -> str:
        """The word that files use for it."""


E = TypeVar("E", bound=Entry)


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
