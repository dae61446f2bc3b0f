"""Every YAML that is shipped loads and says which command uses it; what README and the docs show exists and runs."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import se_nas
from se_nas.cost.budget import parse_budgets
from se_nas.cost.counts import network_counts
from se_nas.cost.table import count_tables
from se_nas.data.sources import DATASETS
from se_nas.layers.network import Network
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.search.budgets.decode import decode
from se_nas.space.yaml.file import load_space, parse_space
from se_nas.training.recipe_files import RECIPES
from tests.helpers.command_lines import parse
from tests.helpers.plugins import no_plugins

ROOT = Path(__file__).resolve().parents[1]
SPACES = sorted((ROOT / "search_spaces").rglob("*.yaml"))
RUNS = sorted((ROOT / "runs").glob("*.yaml"))
RECIPE_FILES = sorted(RECIPES.values())
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands_in(text: str) -> list[str]:
    """The lines that start with `se-nas`, at a `$` or `#` or not, with continued lines joined and remarks left out.

    What torchrun starts as `-m se_nas` counts as such a line.
    """
    joined = re.sub(r"\\\n[#\s]*", " ", text)
    joined = re.sub(r"\btorchrun .* -m se_nas\b", "se-nas", joined)
    parts = (part for line in joined.splitlines() for part in line.split("&&"))
    found = (re.match(r"\s*[#$]?\s*(?:\.venv/bin/)?(se-nas\b.*)", part) for part in parts)
    return [re.split(r"\s{2,}\(|\s+#\s", match[1])[0].strip() for match in found if match]


def test_there_are_shipped_files() -> None:
    assert len(SPACES) >= 4
    assert len(RUNS) >= 3
    assert len(RECIPE_FILES) >= 5


@pytest.mark.parametrize("path", SPACES, ids=name_of)
def test_a_space_loads(path: Path) -> None:
    space = load_space(path)
    assert space.size >= 1


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_a_run_file_loads_and_its_counted_budgets_can_be_kept(path: Path) -> None:
    config = load_run(path)
    assert config.data.name in DATASETS
    space = load_space(path.parent / config.space)
    tables = count_tables(space)
    budgets = [budget for budget in parse_budgets(config.budgets, str(path)) if budget.metric in tables]
    assert budgets
    flat = {choice.name: [0.0] * len(choice.options) for choice in space.choices}
    decode(space, tables, budgets, flat)  # raises where none keeps them


@pytest.mark.parametrize("path", [*SPACES, *RUNS, *RECIPE_FILES], ids=name_of)
def test_a_header_names_a_command_that_exists_and_files_that_exist(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    commands = commands_in("\n".join(header))
    assert commands, f"{name_of(path)} must begin with comments that name the se-nas command that uses it"
    for command in commands:
        parse(command)
        for word in shlex.split(command):
            if word.endswith(".yaml"):
                of_run = word.startswith("space=")  # a run file's own paths are relative to it
                place = ROOT / "runs" if of_run else ROOT
                assert (place / word.removeprefix("space=")).is_file(), f"{name_of(path)} names {word}, not there"


def blocks_in(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page that are of one of these languages."""
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_on_a_page_exist(page: Path) -> None:
    for command in commands_in("\n".join(blocks_in(page, "sh", "bash", "shell", "console"))):
        parse(command)
        for word in shlex.split(command):
            if word.endswith(".yaml") and word.startswith(("runs/", "search_spaces/")):
                assert (ROOT / word).is_file(), f"{name_of(page)} names {word}, which is not there"


def test_the_pages_show_every_kind_of_command() -> None:
    shown = {command.split()[1] for page in PAGES for command in commands_in("\n".join(blocks_in(page, "bash")))}
    assert shown >= {"search", "decode", "retrain", "evaluate", "export", "evidence", "excitation", "launch", "worker"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_pictures_on_a_page_are_there(page: Path) -> None:
    text = page.read_text()
    assert "PLACEHOLDER" not in text
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (page.parent / target).is_file(), f"{name_of(page)} shows {target}, which is not there"


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=name_of)
def test_the_links_of_a_page_beside_the_docs_lead_somewhere(page: Path) -> None:
    """Those within docs/ are checked where the site is built."""
    for target in re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", page.read_text()):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(
        r"`((?:se_nas|tests|benchmarks|examples|search_spaces|docs)/[\w./-]+|runs/[\w/-]+\.yaml)", page.read_text()
    )
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_matrix_of_ci_is_the_range_of_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    tried = {int(version.removeprefix("3.")) for version in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {int(word.rpartition(".")[2]) for word in project["classifiers"] if "Python :: 3." in word}
    assert tried == named
    assert project["requires-python"] == f">=3.{min(named)}"


def test_a_citation_names_the_version_that_is_here_and_the_changelog_begins_with_what_is_new() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == se_nas.__version__
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert first
    assert first[1] in ("Unreleased", se_nas.__version__)


def test_the_hooks_before_a_commit_are_the_static_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0] for hook in hooks}
    static = (ROOT / "tests" / "test_static.py").read_text()
    assert tools == set(re.findall(r'\["(ruff|mypy|lint-imports)"', static))


def test_the_readme_is_short_and_reads_the_same_on_a_package_index() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 180
    assert not re.findall(r"!\[[^]]*\]\((?!https://)", text), "a relative picture is not there on a package index"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert f"```bash\n{command}\n```" in README.read_text()


TUTORIAL = ROOT / "docs" / "tutorials" / "your-block.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_yaml_on_a_page_is_what_a_space_or_a_run_file_may_say(page: Path) -> None:
    for block in blocks_in(page, "yaml"):
        values = yaml.safe_load(block)
        if "plugins" in values:
            continue  # run below
        if "stages" in values:
            parse_space(values, name_of(page))
        else:
            RunConfig.model_validate({"space": "space.yaml", "budgets": {"macs": 1}, "name": "shown", **values})


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL], ids=name_of)
def test_the_python_on_a_page_runs_in_its_order(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that read files of a finished run are run in other tests: here as far as their imports."""
    monkeypatch.chdir(ROOT)
    for block in blocks_in(page, "python"):
        code = block if "load_space(" in block else imports_in(block)
        if "timm" not in code:
            exec(compile(code, name_of(page), "exec"), {})


def test_the_plugin_of_the_tutorial_gives_a_space_whose_networks_run(tmp_path: Path) -> None:
    [plugin] = blocks_in(TUTORIAL, "python")
    [space] = [block for block in blocks_in(TUTORIAL, "yaml") if "plugins" in block]
    (tmp_path / "my_blocks.py").write_text(plugin)
    (tmp_path / "with_my_block.yaml").write_text(space)
    with no_plugins():
        found = load_space(tmp_path / "with_my_block.yaml")
        architecture = found.architecture({choice.name: choice.options[0] for choice in found.choices})
        spec = found.resolve(architecture)
        assert spec.blocks[0].kind == "large_kernel"
        network, counts = Network(spec).eval(), network_counts(spec)
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
        assert sum(p.numel() for p in network.parameters()) == counts.params


def imports_in(text: str) -> str:
    """The import lines of a block of Python that begins with them."""
    lines = itertools.takewhile(lambda line: not line or line.startswith(("import ", "from ")), text.splitlines())
    return "\n".join(lines)


def shown_in_docs() -> str:
    [block] = blocks_in(ROOT / "docs" / "how-to" / "export.md", "python")
    return block


def shown_in_module() -> str:
    docstring = ast.get_docstring(ast.parse((ROOT / "se_nas" / "export" / "timm_model.py").read_text()))
    assert docstring
    return "\n".join(line[4:] for line in docstring.splitlines() if line.startswith("    "))


@pytest.mark.parametrize("shown", [shown_in_docs, shown_in_module])
def test_the_imports_that_are_shown_for_timm_run_in_their_order(shown: Callable[[], str], tmp_path: Path) -> None:
    """timm first would fail beside a torchvision that does not fit torch; here one that fits would hide that."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm")
    code = imports_in(shown())
    assert 0 <= code.find("import se_nas.export.timm_model") < code.find("import timm")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", ["se-nas serch x", "se-nas search x --foo", "se-nas space", "se-nas space show"])
def test_a_command_that_does_not_exist_is_found_out(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  typer's usage errors have no public base
        parse(line)
