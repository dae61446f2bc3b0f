"""The Dockerfile, as far as it can be checked without a builder; where hadolint is installed, it has nothing to say."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", DOCKERFILE.read_text()).splitlines()
    if line.strip() and not line.startswith("#")
]
#: What each COPY takes from the folder that is built.
COPIED = [
    source
    for step, words in STEPS
    if step == "COPY" and not words.startswith("--from")
    for source in words.split()[:-1]
]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(["hadolint", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_se_nas_as_a_user_who_is_not_root() -> None:
    assert [words for step, words in STEPS if step == "USER"] == ["1000"]
    after = [step for step, _ in STEPS[[step for step, _ in STEPS].index("USER") :]]
    assert after == ["USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    assert ["ENTRYPOINT", '["se-nas"]'] in STEPS


def test_its_python_is_slim_and_one_that_the_package_takes_and_all_versions_are_held() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [words.split()[0] for step, words in STEPS if step == "FROM"] == ["python:${PYTHON}-slim"] * 2
    (python,) = [words.partition("=")[2] for step, words in STEPS if words.startswith("PYTHON=")]
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    installs = [words for step, words in STEPS if step == "RUN" and "pip install" in words]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in words for words in installs)
    (extras,) = [words.partition("=")[2] for step, words in STEPS if words.startswith("EXTRAS=")]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_it_holds_no_secret_and_names_no_host() -> None:
    text = DOCKERFILE.read_text()
    assert not re.search(r"(?i)password|token|secret|https?://", text)


def test_all_that_it_copies_is_there_and_is_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"  # whatever else lies in the folder stays out
    for source in COPIED:
        assert (ROOT / source).exists()
        assert f"!{source}" in lines
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert not any(fnmatch.fnmatch(name, line) for line in kept for name in (".git", ".env", "data", "out", ".venv"))


def test_what_it_copies_makes_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    for source in COPIED:
        skip = shutil.ignore_patterns("__pycache__", "results") if (ROOT / source).is_dir() else None
        if skip:
            shutil.copytree(ROOT / source, tmp_path / source, ignore=skip)
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "made"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "made").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"se_nas/py.typed", "se_nas/shipped/runs/digits.yaml"} <= set(names)
