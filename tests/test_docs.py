"""The documentation builds without a warning, and holds what it is said to hold."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from se_nas.runs.run_file import RunConfig

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("material") is None:
        pytest.skip("needs mkdocs-material")
    folder = tmp_path_factory.mktemp("site")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_builds_strictly(site: Path) -> None:
    """A dead link, a heading that is not there, a page outside the navigation: each is an error."""
    assert (site / "index.html").is_file()


def test_nothing_is_fetched_from_elsewhere_to_show_a_page(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|link)\b[^>]*\b(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert not fetched, page.name


def test_the_reference_has_every_command_and_every_key(site: Path) -> None:
    commands = (site / "reference" / "commands.html").read_text()
    run_file = (site / "reference" / "run-file.html").read_text()
    assert ">se-nas space sweep<" in commands
    assert "--data-dir" in commands
    assert not [key for key in RunConfig.model_fields if f"<code>{key}</code>" not in run_file]


@pytest.mark.parametrize("page", ["run-file", "space-file", "recipe-file"])
def test_the_reference_says_what_every_key_means(site: Path, page: str) -> None:
    rows = re.findall(
        r"<tr>\n<td><code>(\w+)</code></td>\n.*\n.*\n<td>(.*)</td>", (site / "reference" / f"{page}.html").read_text()
    )
    assert len(rows) > 40
    assert not [key for key, meaning in rows if not meaning]


def test_the_laws_name_their_tests_and_every_test_of_a_law_is_named() -> None:
    page = (ROOT / "docs" / "design" / "laws.md").read_text()
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]
    assert named >= {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "laws").glob("test_*.py")}
    assert re.findall(r"^## (\d+)\.", page, flags=re.MULTILINE) == [str(number) for number in range(1, 12)]


def test_every_law_has_a_test() -> None:
    page = (ROOT / "docs" / "design" / "laws.md").read_text()
    laws = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert not [law.splitlines()[0] for law in laws if not re.search(r"^- `tests/", law, flags=re.MULTILINE)]


def test_what_a_comment_names_by_its_module_is_there() -> None:
    """Of names such as `floor.file.thing`; those of keys and files have at most one dot."""
    package = ROOT / "se_nas"
    floors = {path.name for path in package.iterdir() if path.is_dir()}
    found, missing = 0, []
    for path in [*package.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for name in re.findall(r"`(\w+(?:\.\w+){2,})`", path.read_text()):
            first, *rest = name.split(".")
            if first not in floors:
                continue
            place = package / first
            while rest and (place / rest[0]).is_dir():
                place /= rest.pop(0)
            module = place / f"{rest.pop(0)}.py" if (place / f"{rest[0]}.py").exists() else place / "__init__.py"
            found += 1
            if rest and not re.search(rf"\b{rest[0]}\b", module.read_text()):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert found > 20, found
    assert not missing


def test_the_page_on_the_layout_has_the_floors_that_imports_are_held_to() -> None:
    page = (ROOT / "docs" / "design" / "house.md").read_text()
    shown = [re.findall(r"`(\w+)/?`", row) for row in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)]
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:floors"]["layers"].split("\n")
    assert shown == [layer.split(" | ") for layer in layers if layer]
