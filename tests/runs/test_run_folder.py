"""The folder of a run: one process works in it at a time; a resume may correct what nothing has used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from se_nas.errors import OutputError
from se_nas.records.locks import locked
from se_nas.runs.run_folder import LOCK, RunFolder, alone_in
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import cache_latency, changed, contents, read_json, write_run, write_yaml

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Another one at work in a folder: a lock is held by the file that was opened, whoever opened it."""
    with locked(folder / LOCK, wait=False) as held:
        assert held
        yield


def test_a_run_may_be_compiled_or_captured_from_where_it_is_resumed(tmp_path: Path) -> None:
    """As runs are that began before both were decided by themselves."""
    run, began = RunFolder(tmp_path), {"search": {"epochs": 2}, "retrain": {"epochs": 3, "compile": False}}
    run.begin(began)
    now = {"search": {"epochs": 2, "cuda_graphs": "auto"}, "retrain": {"epochs": 3, "compile": "auto"}}
    assert run.corrections(now, lambda known: known, None) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run file, and its finished run in `out`."""
    home = tmp_path_factory.mktemp("finished")
    write_run(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        cache_latency(home / "cache", home)
        assert call("search", home / "run.yaml", "--out", home / "out", "--quiet") == 0
        yield home


def test_of_two_searches_that_start_at_once_in_one_fresh_folder_one_is_refused_and_nothing_mixes(
    tmp_path: Path,
) -> None:
    write_run(tmp_path)
    cache_latency(tmp_path / "c", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SE_NAS_CACHE": str(tmp_path / "c"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "se_nas", "search", "run.yaml", "--out", "out", "--quiet", "--seed"]
    started = [
        subprocess.Popen([*command, str(seed)], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        for seed in (11, 12)
    ]
    said = [process.communicate(timeout=240)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, 2], said
    done = next(i for i, process in enumerate(started) if process.returncode == 0)
    (line,) = said[1 - done].splitlines()
    assert line.startswith("error: out: ")
    seed, out = (11, 12)[done], tmp_path / "out"
    assert yaml.safe_load((out / "config.yaml").read_text())["seed"] == seed
    assert read_json(out / "result.json")["seed"] == seed
    assert read_json(out / "architecture.json") == read_json(out / "retrain" / "architecture.json")
    assert not (out / LOCK).exists()


def test_whoever_is_refused_is_told_which_process_is_at_work(tmp_path: Path) -> None:
    with at_work(tmp_path), pytest.raises(OutputError) as caught, alone_in(tmp_path):
        raise AssertionError
    told = str(caught.value)
    assert told.startswith(f"{tmp_path}: no other process must be at work in the folder, but process {os.getpid()} on ")
    assert "\n" not in told


def test_what_a_command_calls_may_ask_for_the_same_folder_again(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        with alone_in(tmp_path / "." / "x" / ".."):
            pass
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_folders_that_were_made_for_it_alone_go_and_others_stay(tmp_path: Path) -> None:
    with alone_in(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    with alone_in(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]
    (tmp_path / "empty").mkdir()
    with alone_in(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


COMMANDS: list[tuple[str, list[str]]] = [
    ("fresh", ["search", "run.yaml", "--out", "fresh"]),
    ("out", ["search", "run.yaml", "--out", "out", "--resume"]),
    ("fresh", ["decode", "out", "--budget", "macs=90k", "--out", "fresh"]),
    ("fresh", ["retrain", "out/architecture.json", "--data", "synthetic", "--epochs", "1", "--out", "fresh"]),
    ("fresh", ["excitation", "out", "--out", "fresh"]),
    ("out", ["excitation", "out"]),
    ("out", ["evidence", "out"]),
    ("fresh", ["export", "out/retrain", "--to", "torch", "--out", "fresh"]),
    ("out", ["report", "out"]),
    ("fresh", ["launch", "run.yaml", "--out", "fresh"]),
    ("fresh", ["space", "sweep", "space.yaml", "--set", "se=none,2", "--rounds", "0", "--out", "fresh"]),
]


@pytest.mark.parametrize(("folder", "words"), COMMANDS, ids=[f"{words[0]} {folder}" for folder, words in COMMANDS])
def test_every_command_is_refused_in_a_folder_where_another_process_works_and_writes_nothing(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(finished)
    before = contents(finished)
    with at_work(finished / folder):
        held = contents(finished)
        assert call(*words) == 2
        assert contents(finished) == held
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith(f"error: {folder}: no other process must be at work in the folder, but process ")
    assert contents(finished) == before


#: The exit code of a resumed search of the finished run's copy, with some words more, and what it said.
Resume = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished / "out", tmp_path / "out"))


@pytest.fixture
def resume(finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> Resume:
    def run(*words: object) -> tuple[int, list[str]]:
        code = call("search", finished / "run.yaml", "--out", copy, "--resume", "--quiet", *words)
        said = capsys.readouterr()
        lines = (said.out + said.err).splitlines()
        return code, [line for line in lines if "instead of" in line or line.startswith("error")]

    return run


MUST = "must be as in the run that --resume continues"


def test_a_resume_corrects_what_nothing_has_used(copy: Path, resume: Resume) -> None:
    shutil.rmtree(copy / "retrain")
    said = ["retrain.epochs: 2 instead of 3, which nothing had used yet"]
    assert resume("--set", "retrain.epochs=2") == (0, said)
    assert yaml.safe_load((copy / "config.yaml").read_text())["retrain"]["epochs"] == 2
    assert len(read_json(copy / "retrain" / "history.json")) == 2
    before = contents(copy)
    error = f"error: {copy / 'config.yaml'}: retrain.epochs: {MUST}, 2, but got 3"
    assert resume("--set", "retrain.epochs=3") == (2, [error])
    assert contents(copy) == before


def test_a_search_that_has_saved_nothing_is_corrected_but_not_what_its_table_was_timed_under(
    copy: Path, resume: Resume
) -> None:
    for name in ("search", "retrain"):
        shutil.rmtree(copy / name)
    for name in ("architecture.json", "certificate.json", "decodes.json", "result.json"):
        (copy / name).unlink()
    words = ["--set", "search.epochs=1", "--set", "retrain.warmup_epochs=0"]
    error = f"error: {copy / 'config.yaml'}: latency.threads: {MUST}, 1, but got 2"
    assert resume(*words, "--set", "latency.threads=2") == (2, [error])
    assert resume(*words) == (
        0,
        [
            "search.epochs: 1 instead of 2, which nothing had used yet",
            "retrain.warmup_epochs: 0.0 instead of 1.0, which nothing had used yet",
        ],
    )
    assert len(read_json(copy / "search" / "history.json")) == 2


def test_what_was_allowed_when_a_run_began_but_is_not_any_more_is_corrected(copy: Path, resume: Resume) -> None:
    shutil.rmtree(copy / "retrain")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    write_yaml(copy / "config.yaml", changed(config, "retrain.warmup_epochs", float("inf")))
    assert resume() == (0, ["retrain.warmup_epochs: 1.0 instead of inf, which nothing had used yet"])
