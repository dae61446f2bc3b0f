"""What the base needs, and what a command says whose extra is not installed; the constraints fit what is required."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from se_nas.export.forms import FORMS
from tests.helpers.tiny_runs import RUN, changed, write_run

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
#: What only an extra brings, by the name that it is imported by.
ABSENT = (
    *("nni", "nni_node", "pkg_resources", "psutil", "typeguard"),
    *("onnx", "onnxruntime", "onnxscript", "openvino", "psycopg", "thop"),
)

BLOCKED = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys({absent!r}))  # importing one of them is now an ImportError
from se_nas.cli.main import main
ended = []
for words in {commands!r}:
    sys.argv, out, err, code = ["se-nas", *words], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    ended.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ended))
"""


def without(absent: tuple[str, ...], commands: list[list[str]], cwd: Path) -> list[tuple[int, str, str]]:
    """Exit codes and what was said of commands, one after the other in a process that has not these modules."""
    code = BLOCKED.format(absent=absent, commands=commands)
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    ended: list[tuple[int, str, str]] = json.loads(done.stdout)
    return ended


def test_no_requirement_of_the_base_is_one_of_an_extra() -> None:
    base = {canonicalize_name(Requirement(word).name) for word in PROJECT["dependencies"]}
    assert not base & {"nni", "setuptools", "filelock", "typeguard", "onnx", "onnxruntime", "onnxscript", "thop"}
    assert set(EXTRAS) >= {"nni", "export", "postgresql", "dashboard", "wandb", "mlflow", "docs", "all", "dev"}


def test_the_base_alone_searches_trains_and_reports(tmp_path: Path) -> None:
    run = changed(RUN, "budgets", {"macs": "1M"})
    write_run(tmp_path, run)
    write_run(tmp_path / "optuna", changed(run, "search", {"strategy": "optuna"}))
    options = ["--quiet", "--set", "latency.table=false"]
    storage = ["--storage", "postgresql+psycopg://nobody@localhost/none"]
    missing = {
        "nni": ["launch", "run.yaml", "--out", "watched"],
        "export": ["export", "out/retrain", "--to", "onnx"],
        "postgresql": ["search", "optuna/run.yaml", "--out", "shared", *options, *storage],
    }
    commands = [["search", "run.yaml", "--out", "out", *options], *missing.values(), ["export", "out/retrain"]]
    searched, *refused, exported = without((*ABSENT, "fcntl"), commands, tmp_path)
    assert searched[0] == 0, searched
    assert (tmp_path / "out/report.html").exists()
    for extra, (code, _, errors) in zip(missing, refused, strict=True):
        (line,) = errors.splitlines()
        assert code == 2
        assert line.startswith("error: ")
        assert f"pip install 'se-nas[{extra}]'" in line
    code, said, errors = exported
    assert code == 0, errors
    (line,) = [line for line in said.splitlines() if line.startswith("left out: ")]
    assert line.startswith("left out: onnx, which needs onnx, onnxruntime and onnxscript to be installed: ")
    assert line.endswith("pip install 'se-nas[export]'")
    written = json.loads((tmp_path / "out/retrain/export/export.json").read_text())["forms"]
    assert list(written) == [name for name in FORMS if name != "onnx"]


def test_the_constraints_pin_every_requirement_to_a_version_that_it_allows() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", line) for line in lines), "a name and a version alone"
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    used = (word for name, words in EXTRAS.items() if name != "audit" for word in words)
    for requirement in map(Requirement, (*PROJECT["dependencies"], *used)):
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)
