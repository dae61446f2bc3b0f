"""Trainings whose steps are compiled, by backends that do without a C++ compiler; captured ones: tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from se_nas.errors import ConfigError
from se_nas.hardware.graph_step import captures, compiles
from tests.helpers.tiny_imagenet import EVERYTHING, recipe_of, tiny_network, write_images
from tests.training.disk_jobs import CPU, DiskJob, Watched, train

#: A residual branch with SE, of which some are dropped.
STAGE = {"width": 8, "depth": 1, "kernel": 3, "expansion": 2, "se": {"options": [4]}}
SPEC = tiny_network(classes=4, stages=[STAGE])
CUDA = torch.device("cuda")
#: Three steps, of which the second is the first that is compiled.
VALUES = {**EVERYTHING, "epochs": 1}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 4)


@pytest.fixture(scope="module")
def plain(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return train(DiskJob(tmp_path_factory.mktemp("plain"), images, SPEC, recipe_of(VALUES, compile=False)))


def compiled_by(backend: Any, patch: pytest.MonkeyPatch) -> None:
    compile_: Callable[..., Any] = torch.compile
    patch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=backend, **options))


def test_a_training_is_one_graph_whatever_is_drawn_and_however_fast_it_learns(
    images: Path, plain: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = CompileCounterWithBackend("eager")
    compiled_by(graphs, monkeypatch)
    counters.clear()
    found = train(DiskJob(tmp_path, images, SPEC, recipe_of(VALUES, compile=True)))
    assert (graphs.frame_count, dict(counters["graph_break"])) == (1, {})
    assert len(set(found.digests)) == 3
    for name, value in found.network.items():
        torch.testing.assert_close(value, plain.network[name], rtol=1e-4, atol=1e-5, msg=name)


def refuses(graph: object, inputs: object) -> Any:
    raise RuntimeError("no C++ compiler\nis here")


def test_a_training_that_cannot_be_compiled_goes_on_plainly_and_says_so_once(
    images: Path, plain: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out only in the backward pass, after the forward one drew numbers and moved statistics."""
    compiled_by(aot_autograd(fw_compiler=lambda graph, _: graph, bw_compiler=refuses), monkeypatch)
    found = train(DiskJob(tmp_path, images, SPEC, recipe_of(VALUES, compile=True)))
    said = [line for line in found.said.splitlines() if "compile" in line]
    assert len(said) == 1
    assert "retrain: not compiled, as torch cannot" in said[0]
    assert "no C++ compiler is here" in said[0]
    assert len(said[0]) < 300
    assert found.digests == plain.digests


def test_steps_are_compiled_and_captured_by_themselves_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert compiles("auto", CUDA, 10**6)
    assert captures("auto", CUDA, 10**4, "recipe", {"on ranks": False})
    assert not compiles("auto", CPU, 10**6)
    assert not captures("auto", CPU, 10**6, "recipe", {})
    assert not compiles("auto", CUDA, 100)
    assert not captures("auto", CUDA, 100, "recipe", {})
    assert not captures("auto", CUDA, 10**6, "recipe", {"with float16": True})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not compiles("auto", CUDA, 10**6)
    assert compiles(True, CUDA, 100)
    assert not compiles(False, CUDA, 10**6)


def test_capturing_is_refused_where_it_cannot_be(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cuda_graphs: must be auto or false on cpu, but got true"):
        train(DiskJob(tmp_path, images, SPEC, recipe_of(VALUES, cuda_graphs=True)))
    with pytest.raises(ConfigError, match="must be auto or false with float16, but got true"):
        captures(True, CUDA, 1, "recipe", {"on several ranks": False, "with float16": True})
