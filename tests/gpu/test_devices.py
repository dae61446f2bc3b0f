"""What is asked of a CUDA device when there is one, or several: which is taken, and how it computes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from se_nas.cost.latency.timing import latency_conditions, latency_key, measure_network, measure_networks, prepared
from se_nas.errors import DeviceError
from se_nas.hardware.device import UNTUNED, pick_device, take_turn
from se_nas.hardware.distributed import join_ranks
from se_nas.layers.kernels import kernels_for
from se_nas.layers.network import Network
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from tests.helpers.command_lines import Run, assert_refused
from tests.helpers.tiny_imagenet import tiny_network
from tests.helpers.tiny_runs import RUN, changed, read_json, write_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@pytest.fixture(autouse=True)
def first() -> Iterator[None]:
    yield
    torch.cuda.set_device(0)


@several
def test_the_second_device_is_the_one_that_all_of_a_run_is_on(tmp_path: Path, se_nas: Run) -> None:
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert torch.ones(1, device="cuda").device.index == 1
    run = {**RUN, "device": "cuda:1", "retrain": None, "latency": {"table": False}}
    file = write_run(tmp_path, {**run, "search": {"pretrain_epochs": 0, "epochs": 1, "batch_size": 20}})
    code, errors, _ = se_nas("search", file, "--out", "out", "--quiet")
    assert code == 0, errors
    assert read_json(tmp_path / "out" / "certificate.json")["latency_conditions"]["runtime"] == "cuda_graph"


@several
def test_processes_that_train_at_a_time_take_a_device_each() -> None:
    taken = []
    for number in range(3):
        take_turn("cuda", number)
        taken.append(torch.cuda.current_device())
    assert taken[:2] == [0, 1]
    assert taken[2] == 2 % torch.cuda.device_count()


def test_a_device_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, se_nas: Run) -> None:
    count = torch.cuda.device_count()
    with pytest.raises(DeviceError, match=f"'cuda:99' must be present, but there are {count}, counted from cuda:0"):
        pick_device("cuda:99")
    write_run(tmp_path, changed(RUN, "latency.device", "cuda:0"))
    assert_refused(
        se_nas("search", "run.yaml", "--out", "out"), "latency device must be a kind of device, such as cuda"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(DeviceError, match="must be without a number under torchrun"), join_ranks(pick_device("cuda:0")):
        pass


def test_latencies_are_measured_under_one_arithmetic_whatever_a_training_set() -> None:
    key = latency_key("cuda", "eager")
    assert latency_conditions(key).arithmetic == UNTUNED
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    try:
        with prepared(tiny_network(), key):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark = False


def test_graphs_that_are_timed_together_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []
    capture = torch.cuda.graph

    def watched(graph: object, pool: object = None, **options: object) -> object:
        pools.append(pool)
        return capture(graph, pool=pool, **options)

    monkeypatch.setattr(torch.cuda, "graph", watched)
    measured = measure_networks([tiny_network()] * 3, latency_key("cuda", "cuda_graph"), rounds=2)
    assert len(measured) == 3
    assert len(set(pools)) == 1
    assert pools[0] is not None
    measure_network(tiny_network(), latency_key("cuda", "cuda_graph"), rounds=2)
    assert len(pools) > 4


def test_maps_of_a_mixture_stay_in_half_precision(tiny_space: SearchSpace) -> None:
    supernet, seen = SuperNet(tiny_space).cuda(), []
    for slot in supernet.slots:
        for block in slot:
            run = block.run_mixed
            block.run_mixed = lambda x, p, run=run: (seen.append(x.dtype), run(x, p))[1]
    even = {c.name: torch.full((len(c.options),), 1 / len(c.options), device="cuda") for c in tiny_space.choices}
    x = torch.randn(2, tiny_space.channels, tiny_space.resolution, tiny_space.resolution, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        supernet.mix(even)(x)
    assert len(seen) > 2
    assert set(seen) == {torch.bfloat16}


def test_an_exported_network_is_the_supernet_s_on_its_device(tiny_space: SearchSpace) -> None:
    supernet = SuperNet(tiny_space).cuda().eval()
    x = torch.randn(2, tiny_space.channels, tiny_space.resolution, tiny_space.resolution, device="cuda")
    for architecture in list(tiny_space.enumerate())[::20]:
        network: Network = supernet.export(architecture)
        assert {tensor.device.type for tensor in network.state_dict().values()} == {"cuda"}
        torch.testing.assert_close(network(x), supernet.activate(architecture)(x))


@pytest.mark.skipif("tests.simulated_cuda.plugin" in sys.modules, reason="Triton compiles for real devices")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: pip install triton")
def test_kernels_in_triton_compute_what_torch_does() -> None:
    kernels_for.cache_clear()
    assert kernels_for(torch.zeros(1, device="cuda").device) is not None
