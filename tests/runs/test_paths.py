"""Paths: what a file names stands relative to it, what the shell names relative to its folder, and folders may move."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from se_nas.cli.options import RunChanges
from se_nas.errors import ConfigError
from se_nas.records.files import beside
from se_nas.records.shipped import find_space
from se_nas.runs.data_folder import data_folder
from se_nas.search.strategy import NamedFile
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import RUN, changed, write_run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, which is not where the shell is."""
    (tmp_path / "home").mkdir()
    (tmp_path / "shell").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "shell")
    return tmp_path / "home"


def test_what_a_file_names_is_relative_to_it_and_a_tilde_is_the_home(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "jobs" / "run.yaml"
    assert beside(file, "images") == tmp_path / "jobs" / "images"
    assert beside(file, "~/images") == home / "images"
    assert beside(file, "/images") == Path("/images")
    assert find_space("~/space.yaml", file.parent) == home / "space.yaml"
    assert NamedFile("table", "~/table.jsonl", "copy").path(file) == home / "table.jsonl"
    assert data_folder(file, "images") == tmp_path / "jobs" / "images"
    assert data_folder(file, "~/images") == home / "images"
    with pytest.raises(ConfigError, match=r"run.yaml: a path must begin with ~ or .*but got '~nobody-at-all/x'"):
        beside(file, "~nobody-at-all/x")


def test_images_that_an_older_file_named_from_the_shell_are_found_with_a_line_that_says_what_to_write(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "shell" / "images").mkdir()
    file = tmp_path / "jobs" / "run.yaml"
    with caplog.at_level(logging.WARNING):
        assert data_folder(file, "images") == tmp_path / "shell" / "images"
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{file}: data.dir: images is taken from the working folder, as there is none beside the file; "
        "write ../shell/images"
    )
    (tmp_path / "jobs" / "images").mkdir()
    caplog.clear()
    assert data_folder(file, "images") == tmp_path / "jobs" / "images"
    assert not caplog.records


def test_what_the_shell_says_is_relative_to_its_folder(home: Path, tmp_path: Path) -> None:
    here = str(tmp_path / "shell" / "images")
    assert RunChanges(data_dir=Path("images")).by_path() == {"data.dir": here}
    assert RunChanges(change=["data.dir=images"]).by_path() == {"data.dir": here}
    assert RunChanges(change=["data.dir=~/images"]).by_path() == {"data.dir": str(home / "images")}
    assert RunChanges(change=["data.dir=null"]).by_path() == {"data.dir": None}


def write_images(folder: Path) -> None:
    for half, count in (("train", 30), ("test", 6)):
        for number, name in enumerate(("cat", "dog")):
            (folder / half / name).mkdir(parents=True)
            for place in range(count):
                Image.new("RGB", (8, 8), (place, 200 * number, 0)).save(folder / half / name / f"{place}.png")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run file, a space, images and a cache, and in `out` the run's finished folder, made elsewhere."""
    place = tmp_path_factory.mktemp("project")
    run = changed(changed(RUN, "data", {"name": "folder", "dir": "images"}), "latency", {"table": False})
    write_run(place / "jobs", changed(run, "retrain.epochs", 1))
    write_images(place / "jobs" / "images")
    (place / "shell").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "shell")
        assert call("search", "../jobs/run.yaml", "--out", "../out", "--quiet") == 0
    return place


def test_a_run_knows_where_its_images_are_wherever_it_is_asked(project: Path) -> None:
    config = yaml.safe_load((project / "out" / "config.yaml").read_text())
    assert config["data"]["dir"] == str(project / "jobs" / "images")
    assert not list((project / "shell").iterdir())


def test_a_run_that_was_moved_is_resumed_reported_evaluated_exported_and_its_network_retrained(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    (project / "out").rename(moved)
    try:
        monkeypatch.chdir(tmp_path)
        answer = (moved / "architecture.json").read_bytes()
        assert call("search", "moved/config.yaml", "--out", "moved", "--resume", "--quiet") == 0
        assert (moved / "architecture.json").read_bytes() == answer
        (moved / "report.html").unlink()
        assert call("report", "moved") == 0
        assert (moved / "report.html").exists()
        assert call("evaluate", "moved/retrain", "--quiet") == 0
        assert call("export", "moved/retrain", "--to", "plain") == 0
        assert call("export", "moved") == 2
        assert (
            "moved: must be the folder of a retraining, but is that of a run, whose retraining is in moved/retrain"
            in (capsys.readouterr().err)
        )
        images = str(project / "jobs" / "images")
        words = ("--data", "folder", "--data-dir", images, "--epochs", "1", "--quiet")
        assert call("retrain", "moved/architecture.json", *words) == 0
    finally:
        moved.rename(project / "out")


def test_a_retraining_that_was_moved_finds_the_images_that_the_shell_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "jobs")
    words = ("--data", "folder", "--data-dir", "images", "--epochs", "1", "--out", tmp_path / "new", "--quiet")
    assert call("retrain", project / "out" / "architecture.json", *words) == 0
    (tmp_path / "new").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert call("evaluate", "moved", "--quiet") == 0
    images = project / "jobs" / "images"
    again = ("--data", "folder", "--data-dir", images, "--epochs", "1", "--out", "moved", "--quiet", "--resume")
    assert call("retrain", project / "out" / "architecture.json", *again) == 0


def test_a_run_file_s_space_and_an_output_with_a_tilde_are_found(home: Path, tmp_path: Path) -> None:
    short = changed(changed(RUN, "latency", {"table": False}), "retrain", None)
    run = write_run(tmp_path / "jobs", changed(short, "space", "~/space.yaml"))
    (tmp_path / "jobs" / "space.yaml").rename(home / "space.yaml")
    assert call("search", run, "--out", "~/out", "--quiet") == 0
    assert (home / "out" / "result.json").exists()
