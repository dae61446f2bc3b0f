"""A plugin is imported where it is named, recorded in what is made with it, and found again from there."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from se_nas import plugins as loading
from se_nas.errors import ConfigError
from se_nas.plugins import load_again, load_plugins, loaded_plugins
from se_nas.runs.prepare import make_setting, open_setting
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.search.strategies import STRATEGIES
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.yaml.file import load_space
from tests.helpers.plugins import no_plugins
from tests.helpers.tiny_runs import RUN, SPACE, changed, read_json, write_run, write_yaml

PLUGIN = '''
"""A strategy with a configuration of its own."""
from __future__ import annotations
from pydantic import Field
from se_nas.search.strategies import STRATEGIES
from se_nas.search.strategy import Strategy
from se_nas.search.strategy_config import StrategyConfig

__version__ = "1.5"

class FirstConfig(StrategyConfig):
    strategy: str = "first"
    steps: int = Field(3, ge=1)

class First(Strategy[FirstConfig]):
    config = FirstConfig

STRATEGIES["first"] = First()
'''
COUNTS_ONLY = changed(RUN, "latency", {"device": "cpu", "table": False})


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with no_plugins():
        yield


def write_plugin(folder: Path, text: str = PLUGIN, name: str = "mine.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def run_with_plugin(folder: Path) -> Path:
    """A run file whose search is the plugin's."""
    write_plugin(folder)
    run = {**COUNTS_ONLY, "plugins": ["mine.py"], "search": {"strategy": "first", "steps": 5}}
    return write_run(folder, run)


def begin(run_file: Path, folder: Path, *, resume: bool = False) -> None:
    make_setting(run_file, load_run(run_file), folder, resume=resume, progress=False, say=lambda line: None)


def problems(words: object, source: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        load_plugins(words, str(source))
    return error.value.problems


def test_a_strategy_of_a_plugin_is_read_by_its_own_model_and_its_faults_carry_their_path(tmp_path: Path) -> None:
    run_file = run_with_plugin(tmp_path)
    config = load_run(run_file)
    assert config.search.model_dump() == {"strategy": "first", "steps": 5}
    assert config.model_dump(mode="json")["search"] == {"strategy": "first", "steps": 5}
    with pytest.raises(ConfigError) as error:
        load_run(run_file, {"search.steps": 0, "search.stepss": 1})
    assert [line.split(":")[0] for line in error.value.problems] == ["search.steps", "search.stepss"]


def test_an_unknown_strategy_is_told_which_there_are_and_which_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_run(write_run(tmp_path, changed(COUNTS_ONLY, "search.strategy", "diferentiable")))
    (line,) = error.value.problems
    assert line == (
        "search.strategy: must be one of differentiable, optuna, but got 'diferentiable'; did you mean differentiable?"
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("no_such_module_of_mine", "plugins[0]: no_such_module_of_mine must be a module that Python finds"),
        ("gone.py", "gone.py must be the file of a plugin, but it cannot be read (No such file or directory)"),
    ],
)
def test_a_plugin_that_is_missing_is_one_line(tmp_path: Path, word: str, expected: str) -> None:
    (line,) = problems([word], tmp_path / "run.yaml")
    assert expected in line


@pytest.mark.parametrize(
    ("text", "line", "raised"),
    [
        ("import math\n\nmath.sqrt(-1)\n", 3, "ValueError: "),
        ("x = 1\nif x\n", 2, "SyntaxError: "),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("import json\njson.loads('x')\n", 2, "JSONDecodeError: "),
        ("import no_such_module_of_mine\n", 1, "ModuleNotFoundError: "),
    ],
)
def test_a_plugin_that_raises_says_what_and_at_which_line_of_its_own(
    tmp_path: Path, text: str, line: int, raised: str
) -> None:
    plugin = write_plugin(tmp_path, text)
    (problem,) = problems(["mine.py"], tmp_path / "run.yaml")
    assert f"{plugin}, line {line} raised {raised}" in problem
    assert "\n" not in problem
    assert not loaded_plugins()


def test_what_a_plugin_added_before_it_raised_is_taken_back_so_that_it_can_be_mended(tmp_path: Path) -> None:
    write_plugin(tmp_path, f"{PLUGIN}\nraise RuntimeError('no')\n")
    problems(["mine.py"], tmp_path / "run.yaml")
    assert "first" not in STRATEGIES
    write_plugin(tmp_path)
    load_plugins(["mine.py"], str(tmp_path / "run.yaml"))
    assert "first" in STRATEGIES


def test_a_plugin_replaces_no_entry(tmp_path: Path) -> None:
    write_plugin(tmp_path, PLUGIN.replace('STRATEGIES["first"]', 'STRATEGIES["optuna"]'))
    (line,) = problems(["mine.py"], tmp_path / "run.yaml")
    assert "a plugin must give a strategy a new name, but there is one named optuna already" in line


@pytest.mark.parametrize("words", ["mine.py", [3], {"mine": 1}])
def test_plugins_must_be_a_list_of_names(tmp_path: Path, words: object) -> None:
    (line,) = problems(words, tmp_path / "run.yaml")
    assert line.startswith("plugins: must be a list of modules and .py files, but got ")


def test_code_that_a_file_names_is_said_in_one_line_before_it_runs_and_runs_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_file = run_with_plugin(tmp_path)
    load_run(run_file)
    load_run(run_file)
    assert caplog.messages == [f"{run_file} names a plugin, whose code runs now: {tmp_path / 'mine.py'}"]


def test_a_space_file_names_plugins_too(tmp_path: Path) -> None:
    write_plugin(tmp_path)
    space = load_space(write_yaml(tmp_path / "space.yaml", {"plugins": ["mine.py"], **SPACE}))
    assert "first" in STRATEGIES
    assert space.digest == load_space(write_yaml(tmp_path / "plain.yaml", SPACE)).digest


def test_a_run_records_its_plugins_and_its_folder_is_complete(tmp_path: Path) -> None:
    begin(run_with_plugin(tmp_path / "home"), tmp_path / "run")
    (record,) = read_json(tmp_path / "run" / "plugins.json")["plugins"]
    assert record["name"] == "plugins/mine.py"
    assert record["version"] == "1.5"
    shutil.rmtree(tmp_path / "home")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    with no_plugins():
        assert open_setting(moved).config.search.model_dump() == {"strategy": "first", "steps": 5}
    with no_plugins():
        load_space(moved / "space.yaml")
        assert "first" in STRATEGIES


def test_a_run_without_plugins_says_nothing_of_them(tmp_path: Path) -> None:
    begin(write_run(tmp_path, COUNTS_ONLY), tmp_path / "run")
    assert not (tmp_path / "run" / "plugins.json").exists()
    assert "plugin" not in (tmp_path / "run" / "space.yaml").read_text()


def test_a_run_whose_copy_of_a_plugin_was_altered_or_removed_is_refused_before_it_runs(tmp_path: Path) -> None:
    begin(run_with_plugin(tmp_path / "home"), tmp_path / "run")
    copy = tmp_path / "run" / "plugins" / "mine.py"
    copy.write_text(f"{PLUGIN}\nraise SystemExit('it ran')\n")
    with no_plugins(), pytest.raises(ConfigError, match="must be the file that was recorded, but its sha256 is anothe"):
        open_setting(tmp_path / "run")
    copy.unlink()
    with (
        no_plugins(),
        pytest.raises(ConfigError, match=r"plugins\[0\]: .*plugins/mine.py must be the file of a plugin"),
    ):
        open_setting(tmp_path / "run")


def test_a_run_is_not_resumed_with_another_plugin_of_the_same_name(tmp_path: Path) -> None:
    run_file = run_with_plugin(tmp_path)
    begin(run_file, tmp_path / "run")
    begin(run_file, tmp_path / "run", resume=True)
    write_plugin(tmp_path, f"{PLUGIN}\n# changed\n")
    with no_plugins(), pytest.raises(ConfigError, match="must be the file of the run that --resume continues"):
        begin(run_file, tmp_path / "run", resume=True)


def test_a_module_of_another_version_than_a_run_began_with_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    module = write_plugin(tmp_path / "lib", name="tests_plugin_of_mine.py")
    run_file = run_with_plugin(tmp_path)
    run = {**COUNTS_ONLY, "plugins": ["tests_plugin_of_mine"], "search": {"strategy": "first"}}
    begin(write_yaml(run_file, run), tmp_path / "run")
    module.write_text(PLUGIN.replace("1.5", "1.60"))
    sys.modules.pop("tests_plugin_of_mine")
    with no_plugins():
        open_setting(tmp_path / "run")
    assert any("of version 1.5, but here it is 1.60" in line for line in caplog.messages)
    module.unlink()
    sys.modules.pop("tests_plugin_of_mine", None)
    with no_plugins(), pytest.raises(ConfigError, match="tests_plugin_of_mine must be a module that Python finds"):
        open_setting(tmp_path / "run")


def test_an_architecture_names_its_plugins_and_has_their_copies_beside_it(tmp_path: Path) -> None:
    space = load_space(write_yaml(tmp_path / "space.yaml", SPACE))
    load_plugins([str(write_plugin(tmp_path / "home"))], str(tmp_path / "x"))
    file = ArchitectureFile.of(space, next(iter(space.enumerate())))
    save_architecture(tmp_path / "out" / "architecture.json", file)
    shutil.rmtree(tmp_path / "home")
    with no_plugins():
        assert load_architecture(tmp_path / "out" / "architecture.json") == file
        assert "first" in STRATEGIES


def test_what_an_installed_package_announces_is_there_and_recorded_but_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    write_plugin(tmp_path / "lib", name="tests_plugin_installed.py")
    entry = SimpleNamespace(name="mine", module="tests_plugin_installed", dist=SimpleNamespace(name="my-package"))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == loading.GROUP else [])
    monkeypatch.setattr(loading, "_installed_are_loaded", False)
    begin(write_run(tmp_path, changed(COUNTS_ONLY, "search", {"strategy": "first"})), tmp_path / "run")
    (record,) = read_json(tmp_path / "run" / "plugins.json")["plugins"]
    assert record == {"name": "tests_plugin_installed", "version": "1.5", "sha256": None, "installed": True}
    assert "plugins: []" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_process_that_another_has_begun_imports_what_that_one_has(tmp_path: Path) -> None:
    load_plugins([str(write_plugin(tmp_path))], str(tmp_path / "x"))
    plugins = loaded_plugins()
    (tmp_path / "mine.py").unlink()  # between the two
    with no_plugins():
        load_again(plugins)
        assert "first" in STRATEGIES


def test_the_command_line_names_plugins_and_a_faulty_one_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    space = write_yaml(tmp_path / "space.yaml", SPACE)

    def show(plugin: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "se_nas", "space", "show", str(space), "--plugin", str(plugin)]
        return subprocess.run(words, capture_output=True, text=True, timeout=240)

    said = show(write_plugin(tmp_path, "1 / 0\n"))
    (line,) = [line for line in said.stderr.splitlines() if "WARNING" not in line]
    assert said.returncode == 2
    assert line.startswith("error: --plugin: plugins[0]: ")
    assert "line 1 raised ZeroDivisionError: division by zero" in line


STOPPING = (
    PLUGIN.replace("strategy_config import StrategyConfig", "stopping import StoppingConfig")
    .replace("FirstConfig(StrategyConfig)", "FirstConfig(StoppingConfig)")
    .replace(
        "    config = FirstConfig\n",
        """    config = FirstConfig

    def search(self, problem, config):
        from se_nas.search.result import result_by_scores

        rule = config.rule_that_stops(seconds=7.0, since_better=2)
        stopped = [config.stopped(rule, 7.0, 2, config.steps, "steps").plain()] if rule else []
        scores = {choice.name: range(len(choice.options)) for choice in problem.space.choices}
        return result_by_scores(problem, scores, lambda architecture: 0.5, summary={"stopped": stopped})
""",
    )
)


def test_a_strategy_of_a_plugin_ends_early_where_it_says_that_it_can(tmp_path: Path) -> None:
    run_file = run_with_plugin(tmp_path)
    with pytest.raises(ConfigError, match=r"search\.patience: "):
        load_run(run_file, {"search.patience": 2})
    with no_plugins():
        write_plugin(tmp_path, STOPPING)
        said: list[str] = []
        config = load_run(run_file, {"search.patience": 2, "retrain": None})
        run_search(run_file, config, tmp_path / "out", resume=False, progress=False, say=said.append)
    assert any("ended by search.patience = 2 after 2 of 5 steps" in line for line in said)
    assert read_json(tmp_path / "out" / "result.json")["search"]["stopped"][0]["unit"] == "steps"
