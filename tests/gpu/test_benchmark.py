"""`benchmarks/gpu.py`: one command that says what holds on the GPU that is there, whatever fails meanwhile."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path

import gpu
import pytest
import torch

from tests.simulated_cuda.build import why_not

ROOT = Path(__file__).resolve().parents[2]


def test_a_part_that_fails_or_hangs_or_has_no_time_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def part(text: str, seconds: float = 30, **more: object) -> object:
        return gpu.Part(("-S", "-c", text), seconds, **more)

    chosen = {
        "broken": part("raise SystemExit('the device is lost')"),
        "silent": part("pass"),
        "hanging": part("import time; time.sleep(60)", 0.5),
        "sound": part('print(\'a line\'); print(\'{"figures": {"ms": 1}, "holds": true}\')'),
        "elsewhere": part("", unless=lambda: "there is one GPU"),
        "lacking": part("", needs=("optuna", "absent")),
        "late": part("", 1e6),
    }
    said: list[str] = []
    started = time.monotonic()
    monkeypatch.setattr(gpu, "missing", lambda names: ["absent>=1"] if "absent" in names else [])
    found = gpu.run_all(chosen, 300, False, said.append)
    assert time.monotonic() - started < 60  # the one that hangs was ended
    assert "the device is lost" in found["broken"]["failed"]
    assert found["silent"]["failed"] == "it ended with 0: it said nothing"
    assert found["hanging"]["failed"].startswith("it must end within 0.5 s, but did not: ")
    assert (found["sound"]["figures"], found["sound"]["holds"]) == ({"ms": 1}, True)
    assert found["elsewhere"] == {"skipped": "there is one GPU"}
    assert found["lacking"] == {"skipped": "pip install 'absent>=1' first"}
    assert found["late"]["skipped"].startswith("it may take 1000000 s, and ")
    assert [line.split(":")[0] for line in said if ": " in line] == list(chosen)


def test_pytests_summary_becomes_what_passed_and_what_failed() -> None:
    found = gpu.tested(
        "..F\nFAILED tests/a.py::b[1] - assert 1 == 2\nSKIPPED [1] x\n1 failed, 7 passed, 2 skipped in 1s\n"
    )
    assert found["figures"] == {"passed": 7, "skipped": 2, "failed": ["FAILED tests/a.py::b[1]"]}
    assert not found["holds"]
    assert not gpu.tested("no tests ran; 3 deselected, 1 skipped in 0.1s")["holds"]
    with pytest.raises(ValueError, match="summary"):
        gpu.tested("a line\nImportError")


def test_what_the_package_needs_and_is_missing_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = importlib.metadata.version

    def without_pydantic(name: str) -> str:
        if name == "pydantic":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_pydantic)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    expected = "error: the package needs what is not installed here: pip install 'pydantic>=2.7'\n"
    assert capsys.readouterr().err == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: there must be a CUDA device, but torch {torch.__version__} finds none\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_runs_on_simulated_devices() -> None:
    if (reason := why_not()) is not None:
        pytest.skip(f"no device can be simulated: {reason}")
    words = [sys.executable, "-m", "tests.simulated_cuda", "benchmarks/gpu.py", "--tiny", "--seconds", "800"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["hardware"] == ["simulated"] * 2
    assert answer["failed"] == []
    assert answer["skipped"] == ["search_ranks"]  # the CPU's torch has no NCCL
    assert answer["parts"]["launches"]["holds"]
    assert answer["parts"]["tests"]["figures"]["passed"] > 0
    assert answer["parts"]["tests"]["figures"]["failed"] == []
