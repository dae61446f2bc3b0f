"""Keys that were once called otherwise, or are options no more: files of then are read, or refused with the reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from se_nas.errors import short

_log = logging.getLogger(__name__)


def by_present_names(value: Mapping[str, Any], present: Mapping[str, str], where: str) -> dict[str, Any]:
    """A mapping of a file under the present names of its keys.

    Args:
        present: by former name.
        where: the mapping is, for whoever reads the line.

    Raises:
        ValueError: a key is there under both names.
    """
    found = dict(value)
    for former, name in present.items():
        if former not in found:
            continue
        if name in found:
            raise ValueError(f"{former}: must be left out, since it is called {name} now, which is there too")
        _say_once(f"{where}: {former} is called {name} now, and read as that")
        found[name] = found.pop(former)
    return found


def without_constants(value: Any, constants: Mapping[str, Any]) -> Any:
    """A mapping of a file without the keys that held options once, as long as they have the value that holds for all.

    Args:
        constants: that value by former key, as plain YAML.

    Raises:
        ValueError: a key has another value.
    """
    if not isinstance(value, Mapping):
        return value
    for name, constant in constants.items():
        if value.get(name, constant) != constant:
            must = f"must be left out, since it is no option any more and always {constant}"
            raise ValueError(f"{name}: {must}, but got {short(value[name])}")
    return {name: item for name, item in value.items() if name not in constants}


@cache
def _say_once(line: str) -> None:
    """A process reads the same file many times."""
    _log.warning(line)
