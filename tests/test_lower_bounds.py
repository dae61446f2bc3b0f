"""The lower bound of each dependency is a version without a hole that is known to reach us."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
ADVISORIES: dict[str, list[dict[str, Any]]] = yaml.safe_load((ROOT / "tests/advisories.yaml").read_text())


def lower_bounds() -> dict[str, Version]:
    """The lowest version of each dependency, optional ones included, that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *(word for extra in project["optional-dependencies"].values() for word in extra)]
    bounds = {}
    for requirement in map(Requirement, words):
        if requirement.name != project["name"]:
            (bound,) = [s.version for s in requirement.specifier if s.operator in (">=", "==")] or ["0"]
            bounds[canonicalize_name(requirement.name)] = Version(bound)
    return bounds


def test_every_dependency_has_a_lower_bound() -> None:
    bounds = lower_bounds()
    assert len(bounds) > 25
    assert [name for name, bound in bounds.items() if bound == Version("0")] == []


@pytest.mark.parametrize("hole", ADVISORIES["fixed"], ids=lambda hole: f"{hole['package']} {hole['id']}")
def test_no_lower_bound_has_a_known_hole(hole: dict[str, Any]) -> None:
    assert lower_bounds()[hole["package"]] >= Version(str(hole["fixed"])), hole["reach"]


def test_each_advisory_stands_once_and_says_how_it_reaches_us_or_why_it_does_not() -> None:
    entries = [*ADVISORIES["fixed"], *ADVISORIES["accepted"]]
    names = [entry["id"] for entry in entries]
    assert len(set(names)) == len(names)
    assert all(entry.get("reach") or entry.get("why") for entry in entries)


@pytest.mark.network
def test_the_advisory_service_knows_no_hole_of_a_lower_bound(tmp_path: Path) -> None:
    """`pip install -e ".[audit]"`; asks OSV, and skips where it cannot be reached."""
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed")
    pins = tmp_path / "lowest.txt"
    pins.write_text("".join(f"{name}=={version}\n" for name, version in lower_bounds().items()))
    words = ["-r", str(pins), "--no-deps", "--disable-pip", "--vulnerability-service", "osv", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        pytest.skip(f"the advisory service cannot be asked: {(done.stderr.strip() or '?').splitlines()[-1]:.200}")
    unknown = [entry["name"] for entry in found if "skip_reason" in entry]
    assert unknown == []  # what the service does not know has not been checked
    accepted = {entry["id"] for entry in ADVISORIES["accepted"]}
    holes = [
        f"{entry['name']} {entry['version']}: {hole['id']} {hole['aliases']}, fixed in {hole['fix_versions']}"
        for entry in found
        for hole in entry["vulns"]
        if not accepted & {hole["id"], *hole["aliases"]}
    ]
    assert holes == [], "raise the bound, or say in tests/advisories.yaml why it does not reach us"
