"""The parts of the pages that are not templates yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from se_nas.report.pages.costs import cost as cost
from se_nas.report.pages.reading import read_if_there as read_if_there
from se_nas.report.pages.render import render, without_folders
from se_nas.report.pages.rows import flat as flat
from se_nas.report.pages.rows import plain as plain
from se_nas.report.theme.words import ABSENT


def text(value: object) -> str:
    """Escaped text without the folders of absolute paths, which belong to one machine."""
    return escape(str(without_folders(value)))


def whole_page(name: str, body: Iterable[str]) -> str:
    """A page of the sections `body`; `name` is its title."""
    head, tail = render("base.html", title=name).split("</main>")
    return f"{head}{''.join(body)}</main>{tail}"


def section(title: str, lead: str, content: str) -> str:
    """A part of a page under its title; `lead` and `content` are HTML."""
    words = f'<p class="quiet">{lead}</p>' if lead else ""
    return f"<section><h2>{title}</h2>{words}{content}</section>\n"


def plot_section(figures: Mapping[str, str], name: str, title: str, lead: str) -> str:
    """A section of one plot, by its name; nothing where `figures` has none of it."""
    return section(title, lead, f'<div class="wide">{figures[name]}</div>') if name in figures else ""


def pairs(rows: Iterable[tuple[object, object]]) -> str:
    """A table of names and values, escaped; nothing where there are none."""
    cells = "".join(f"<tr><td>{text(key)}</td><td>{text(value)}</td></tr>" for key, value in rows)
    return f'<table class="pairs">{cells}</table>' if cells else ""


def environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The version and commit of se_nas, the machine, and the packages, as rows of `pairs`."""
    rows: list[tuple[str, Any]] = [
        ("se_nas", environment.get("se_nas", ABSENT)),
        ("commit", _commit(environment.get("commit"))),
    ]
    skipped = {"se_nas", "commit", "packages"}
    rows += [(key, plain(value)) for key, value in environment.items() if key not in skipped and value is not None]
    return rows + [(package, version) for package, version in (environment.get("packages") or {}).items() if version]


def _commit(commit: Any) -> str:
    if not isinstance(commit, Mapping):
        return str(commit or ABSENT)
    return f"{str(commit.get('hash', ABSENT))[:12]}{', with uncommitted changes' if commit.get('dirty') else ''}"
