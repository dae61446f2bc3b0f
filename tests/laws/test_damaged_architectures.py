"""A law: an architecture file with any one value changed is refused in plain lines, or is a network that runs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from se_nas.errors import ArchitectureError
from se_nas.layers.network import Network
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.network_faults import network_faults
from se_nas.space.scaling import resolve_scaled
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space
from tests.helpers.nested import places_in
from tests.laws.families import FAMILIES, family_space
from tests.laws.shipped import BASELINES, SHIPPED

DAMAGES: tuple[Any, ...] = (-1, 0, 2, 10**12, 10**300, 1.5, 1e300, "x", "", True, None, [], {}, [[]] * 3)


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _file(family: str) -> ArchitectureFile:
    space = family_space(family)
    architecture = space.architecture({choice.name: choice.options[-1] for choice in space.choices})
    return ArchitectureFile.of(space, architecture)


@pytest.mark.parametrize("family", FAMILIES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_one_value_changed_is_refused_or_runs(family: str, tmp_path: Path, data: st.DataObject) -> None:
    path = save_architecture(tmp_path / "architecture.json", _file(family))
    value = json.loads(path.read_text())
    *parents, last = data.draw(st.sampled_from([p for p in places_in(value) if p[0] != "blocks"]))
    at = value
    for key in parents:
        at = at[key]
    if data.draw(st.integers(0, 9)) == 0:
        del at[last]
    else:
        at[last] = copy.deepcopy(data.draw(st.sampled_from((*DAMAGES, _nested(50)))))
    path.write_text(json.dumps(value))
    faults, spec = _read(path)
    assert all(line.startswith(f"{path}: ") and len(line) < 600 for line in faults)
    if spec is not None:
        images = torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution)
        assert Network(spec).eval()(images).shape == (1, spec.head.classes)


def _read(path: Path) -> tuple[list[str], NetworkSpec | None]:
    try:
        return [], load_architecture(path).network
    except ArchitectureError as error:
        return str(error).splitlines(), None


@pytest.mark.parametrize("path", SHIPPED + BASELINES, ids=lambda path: path.stem)
def test_what_a_space_resolves_to_has_no_fault(path: Path) -> None:
    space = load_space(path)
    for end in (0, -1):
        architecture = space.architecture({choice.name: choice.options[end] for choice in space.choices})
        networks = [space.resolve(architecture), *(resolve_scaled(space, architecture, s.data) for s in space.scaling)]
        assert [network_faults(network) for network in networks] == [[]] * len(networks)
