from __future__ import annotations

import getpass
import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import se_nas
from se_nas.hardware.environment import describe_environment, resumed_elsewhere
from se_nas.records.models.environment import Commit
from se_nas.records.record import write_record


def test_is_json_and_names_no_path_user_or_host() -> None:
    text = json.dumps(describe_environment().plain())
    assert str(Path.cwd()) not in text
    assert str(Path.home()) + "/" not in text
    for name in (getpass.getuser(), platform.node()):
        assert f'"{name}"' not in text


def test_says_what_ran() -> None:
    described = describe_environment()
    assert described.se_nas == se_nas.__version__
    assert described.python == platform.python_version()
    assert described.packages["torch"] == torch.__version__
    assert described.threads == torch.get_num_threads()


def _package_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "se_nas").mkdir(parents=True)
    (folder / "se_nas" / "__init__.py").write_text("")
    monkeypatch.setattr(se_nas, "__file__", str(folder / "se_nas" / "__init__.py"))


def _git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_and_whether_the_checkout_is_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package_in(tmp_path, monkeypatch)
    assert describe_environment().commit is None  # no checkout
    _git(tmp_path, "init")
    assert describe_environment().commit is None  # no commit
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    clean = describe_environment().commit
    assert clean is not None
    assert not clean.dirty
    assert len(clean.hash) == 40
    (tmp_path / "se_nas" / "__init__.py").write_text("changed = True\n")
    assert describe_environment().commit == Commit(hash=clean.hash, dirty=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_of_another_project_around_the_package_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package_in(tmp_path / "venv" / "site-packages", monkeypatch)
    _git(tmp_path, "init")
    _git(tmp_path, "commit", "--allow-empty", "-m", "theirs")
    assert describe_environment().commit is None


def began_with(path: Path, **changes: object) -> Path:
    return write_record(path, describe_environment("cpu").model_copy(update=changes))


def test_a_run_that_is_resumed_as_it_began_says_nothing(tmp_path: Path) -> None:
    path = began_with(tmp_path / "environment.json", time="2020-01-01T00:00:00+00:00", load=None)
    assert resumed_elsewhere(path, "cpu") == []
    assert resumed_elsewhere(tmp_path / "missing.json", "cpu") == []


def test_a_run_that_is_resumed_elsewhere_says_so_in_one_line(tmp_path: Path) -> None:
    packages = {**describe_environment().packages, "torch": "1.13.1"}
    path = began_with(tmp_path / "environment.json", threads=77, packages=packages, device="cuda", gpu="A100")
    (line,) = resumed_elsewhere(path, "cpu")
    threads = torch.get_num_threads()
    for words in (
        "device cpu instead of cuda",
        f"threads {threads} instead of 77",
        f"torch {torch.__version__} instead",
    ):
        assert words in line
    assert "gpu" not in line  # what is not used decides nothing
    assert "\n" not in line


def test_an_environment_of_before_the_device_was_written_down_is_compared_in_the_rest(tmp_path: Path) -> None:
    path = began_with(tmp_path / "environment.json", device=None, threads=77)
    (line,) = resumed_elsewhere(path, "cpu")
    assert "device" not in line
    assert "threads" in line
