"""Keys that were once called otherwise: files of then are read, with one line that says the present name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

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


@cache
def _say_once(line: str) -> None:
    """A process reads the same file many times."""
    _log.warning(line)
