"""Rows of a page's tables of names and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from se_nas.records.models.environment import Commit, Environment
from se_nas.report.theme.words import ABSENT, format_exact

Rows = list[tuple[str, str]]


def plain(value: object) -> str:
    """A value of JSON as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_exact(float(value)) if isinstance(value, float) else f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return ABSENT if value is None else str(value)


def flat(value: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Every value of nested mappings, under the names that lead to it."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", item


def record_rows(record: BaseModel | None, *, without: Iterable[str] = ()) -> Rows:
    """Every value that a record was given, a row each; nothing of none."""
    if record is None:
        return []
    values = record.model_dump(mode="json", exclude_unset=True, exclude=set(without))
    return [(name, plain(value)) for name, value in flat(values)]


def spaced(rows: Rows) -> Rows:
    """The same, their names in words."""
    return [(name.replace("_", " "), value) for name, value in rows]


def environment_rows(environment: Environment) -> Rows:
    """The version and commit of se_nas, the machine, and the packages."""
    machine = environment.model_dump(mode="json", exclude={"se_nas", "commit", "packages"}, exclude_none=True)
    return [
        ("se_nas", environment.se_nas),
        ("commit", _commit(environment.commit)),
        *((name, plain(value)) for name, value in machine.items()),
        *((package, version) for package, version in environment.packages.items() if version),
    ]


def _commit(commit: Commit | None) -> str:
    if commit is None:
        return ABSENT
    return f"{commit.hash[:12]}{', with uncommitted changes' if commit.dirty else ''}"
