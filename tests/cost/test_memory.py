"""The memory that a network, a supernet or a training cannot do without is reckoned before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from se_nas.cost.memory import least_bytes, least_supernet_bytes, least_training_bytes
from se_nas.data.in_memory.images import resized
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.synthetic import load_train
from se_nas.errors import DeviceError
from se_nas.layers.network import Network
from se_nas.space.network_faults import largest_network
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from se_nas.supernet.supernet import SuperNet
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import RUN, changed, write_run

GB = 10**9


def bytes_of(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def test_the_reckoning_of_a_network_is_a_bound_that_its_weights_and_maps_reach(tiny_space: SearchSpace) -> None:
    network = largest_network(tiny_space)
    weights = bytes_of(Network(network))
    assert least_bytes(network, 1, 4) > weights
    more = least_bytes(network, 11, 4) - least_bytes(network, 1, 4)
    assert more % 10 == 0  # of each image the same
    assert least_training_bytes(network, 1) > 3 * weights


@pytest.mark.parametrize("name", ["mbconv_digits", "mbconv_cifar_small", "cifar_resnet_se", "vgg_se"])
def test_a_supernet_s_weights_are_no_less_than_is_reckoned(name: str) -> None:
    space = load_space(name)
    with torch.device("meta"):
        weights = bytes_of(SuperNet(space))
    needed = least_supernet_bytes(space, largest_network(space), 0)
    assert 0.5 * 3 * weights < needed <= 3 * weights  # with gradient and momentum


def test_images_that_no_memory_holds_are_told_before_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se_nas.hardware.memory.available_bytes", lambda device: 24 * GB)
    message = r"data: 1,000 images of 8,192x8,192 pixels, which are held in memory, take at least 201.3 GB, and 24.0 GB"
    with pytest.raises(DeviceError, match=message.replace("8,192x8,192", "8192x8192")):
        resized(torch.zeros(1000, 8, 8, 3, dtype=torch.uint8), 8192)
    with pytest.raises(DeviceError, match=r"data: 1,000,000 images of 8192x8192 pixels"):
        load_train(DataOptions("synthetic", resolution=8192, size=1_000_000))


def wide(width: int) -> dict[str, Any]:
    return {
        "name": "wide",
        "resolution": 8,
        "stem": {"width": 8},
        "stages": [{"width": width, "depth": [1, 40], "expansion": 6}],
    }


@pytest.mark.parametrize(
    ("search", "free", "expected"),
    [
        (RUN["search"], 10 * GB, "search: the supernet of wide with batches of 20 images takes at least 22.7 GB"),
        ({"strategy": "optuna", "evaluator": "supernet"}, 10 * GB, "search: the supernet of wide with batches of 128 "),
    ],
)
def test_a_supernet_that_no_memory_holds_is_told_before_it_is_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    search: dict[str, Any],
    free: int,
    expected: str,
) -> None:
    monkeypatch.setattr("se_nas.hardware.memory.available_bytes", lambda device: free)
    run = replace_all(RUN, {"search": search, "budgets": {}, "retrain": None, "latency": {"table": False}})
    path = write_run(tmp_path, run, wide(2000))
    assert call("search", path, "--out", tmp_path / "out", "--quiet") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith(f"error: {expected}")
    assert line.endswith("and 10.0 GB are free on cpu")
    assert not (tmp_path / "out").exists()


def test_a_training_that_no_memory_holds_is_told_before_its_network_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("se_nas.hardware.memory.available_bytes", lambda device: 10**6)
    words = ("--data", "digits", "--out", tmp_path / "out", "--epochs", "1", "--quiet", "--device", "cpu")
    assert call("retrain", "resnet110", *words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: data: 1,442 images of 32x32 pixels")
    monkeypatch.setattr("se_nas.hardware.memory.available_bytes", lambda device: 10**7)
    assert call("retrain", "resnet110", *words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: training: the network with batches of ")


def replace_all(value: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, new in changes.items():
        value = changed(value, path, new)
    return value
