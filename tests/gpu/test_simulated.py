"""The tests marked `gpu` on simulated devices, in a process of their own: torch finds these while it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.simulated_cuda.build import why_not

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the CUDA device that there is")
@pytest.mark.timeout(900)  # it compiles C++ first
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_needs_a_gpu_passes_on_simulated_ones(which: str, tmp_path: Path) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(f"no device can be simulated: {reason}")
    files = sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    options = ["-n", "0", "-q", "--basetemp", str(tmp_path / "inner"), "-p", "no:cacheprovider"]
    words = [sys.executable, "-m", "pytest", "-p", "tests.simulated_cuda.plugin", "-m", f"gpu and {which}", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run([*words, *files], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
