"""What is installed without the repository: the wheel holds all that is found by name, and does the main job."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from se_nas.records import shipped

ROOT = Path(__file__).resolve().parents[1]


def run(words: list[str], cwd: Path, path: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "SE_NAS_CACHE": str(cwd / "cache")}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling to build the wheel")
    home = tmp_path_factory.mktemp("wheel")
    words = [
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(home),
        str(ROOT),
    ]
    run([sys.executable, *words], home, os.environ.get("PYTHONPATH", ""))
    [wheel] = home.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home / "site")
    return home / "site"


def test_the_wheel_holds_every_file_that_is_found_by_name_and_no_other(installed: Path) -> None:
    wanted = {path.relative_to(shipped.ROOT) for path in (*shipped.spaces().values(), *shipped.run_files().values())}
    there = {path.relative_to(installed / "se_nas/shipped") for path in (installed / "se_nas/shipped").rglob("*.*")}
    assert there == wanted
    assert list((installed / "se_nas/training/recipes").glob("*.yaml"))
    assert (installed / "se_nas/py.typed").exists()
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"se_nas"}


def test_the_main_job_is_done_by_name_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    se_nas = [sys.executable, "-m", "se_nas"]
    changes = ["search.epochs=2", "search.pretrain_epochs=0", "retrain.epochs=1", "retrain.warmup_epochs=0"]
    words = ["search", "digits", "--quiet", *(word for change in changes for word in ("--set", change))]
    words += ["--set", "latency.table=false", "--set", "budgets={macs: 500k}"]
    assert "report: digits/report.html" in run([*se_nas, *words], tmp_path, str(installed))
    assert (tmp_path / "digits/report.html").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"digits", "cache"}
    where = run([sys.executable, "-c", "import se_nas; print(se_nas.__file__)"], tmp_path, str(installed))
    assert Path(where.strip()).is_relative_to(installed)
    assert "stem: " in run([*se_nas, "space", "show", "mobilenetv3_small"], tmp_path, str(installed))
    assert "run files" in run([*se_nas, "init", "mine"], tmp_path, str(installed))
    assert (tmp_path / "mine/runs/digits.yaml").exists()
