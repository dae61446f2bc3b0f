"""How many kernels a step launches and how often it waits, counted on simulated devices; see `test_simulated`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from se_nas.layers.network import build
from se_nas.training.optimizer import WeightAverage
from tests.helpers.tiny_imagenet import tiny_network

if "tests.simulated_cuda.plugin" not in sys.modules:
    pytest.skip("counts on simulated devices: pytest -p tests.simulated_cuda.plugin", allow_module_level=True)

from benchmarks.launches import BARS, every
from tests.simulated_cuda import counts

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    before, space = counts.doubles(), ROOT / "search_spaces" / "mbconv_digits.yaml"
    parts = dict(every(space, tmp_path_factory.mktemp("search")))
    return {**parts, "float64": {"made": counts.doubles() - before}}


@pytest.mark.parametrize(("part", "waits"), BARS["waits"].items())
def test_no_part_of_a_training_waits_more_often_than_it_has_to(found, part, waits):
    assert found[part]["waits"] <= waits


@pytest.mark.parametrize(("part", "launches"), BARS["launches"].items())
def test_what_is_done_to_all_weights_is_not_done_to_one_after_another(found, part, launches):
    assert 0 < found[part]["launches"] <= launches


def test_no_training_makes_float64_on_a_device_for_mps_has_none(found):
    assert found["float64"]["made"] == 0
    before = counts.doubles()
    torch.ones(1, device="cuda").double()
    assert counts.doubles() > before


def test_a_running_average_takes_all_weights_at_once():
    network = build(tiny_network()).cuda()
    average = WeightAverage(network, 0.9)
    counts.reset()
    average.update(3)
    assert sum(counts.launches().values()) == 2  # of weights, and of counters


def test_tensors_of_two_devices_are_refused():
    for other in ("cpu", "cuda:1"):
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(2, device="cuda") + torch.ones(2, device=other)


def test_a_wait_while_a_graph_is_captured_is_refused():
    x, graph = torch.ones(2, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * 2
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            y.cpu()
    assert y.tolist() == [2, 2]


def test_an_index_from_the_cpu_waits_and_a_pinned_copy_does_not():
    x, index = torch.ones(4, device="cuda"), torch.tensor([1, 2])
    counts.reset()
    x[index]
    assert sum(counts.waits.values()) == 1
    x[index.pin_memory().to("cuda", non_blocking=True)]
    assert sum(counts.waits.values()) == 1
