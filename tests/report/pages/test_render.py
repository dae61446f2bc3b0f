from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from se_nas.report import pages
from se_nas.report.pages.render import render, without_folders

ATTACK = "<script>alert('x')</script>"
FOLDER = Path(pages.__file__).parent


def test_what_is_put_into_a_template_is_escaped_and_names_no_folder() -> None:
    page = render("base.html", title=f"{ATTACK} of /mnt/somebody/images")
    title = page.split("<title>")[1].split("</title>")[0]
    assert "<script" not in page
    assert unescape(title) == f"{ATTACK} of …/images - se_nas"


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base.html")


def test_folders_are_cut_out_of_text_and_nothing_out_of_markup() -> None:
    assert without_folders("at /home/me/runs/one/report.html, or C/D/e") == "at …/report.html, or C/D/e"
    plot = Markup("<path d='M0 0 /a/b/'/>")
    assert without_folders(plot) is plot


def test_no_template_turns_escaping_off() -> None:
    for path in (FOLDER / "templates").rglob("*.*"):
        assert not any(word in path.read_text() for word in ("safe", "autoescape")), path.name


def test_no_page_is_built_of_tags_in_python() -> None:
    assert [path.name for path in FOLDER.rglob("*.py") if "</" in path.read_text()] == []
