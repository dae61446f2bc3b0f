from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.runtimes.openvino_process import timed_runs
from se_nas.cost.latency.timing import (
    latency_key,
    measure_blocks,
    measure_network,
    measure_networks,
    summarise,
)
from se_nas.errors import DeviceError
from se_nas.layers.network import Network
from tests.cost.latency.runtimes.networks import BLOCK, NETWORK, SHRINKING


def test_key_names_the_device_and_its_model():
    key = latency_key("cpu", "eager", threads=2)
    assert key.device.startswith("cpu ")
    assert len(key.device) > len("cpu ")
    assert key.torch_device == torch.device("cpu")
    assert (key.runtime, key.dtype, key.batch_size, key.threads) == ("eager", "float32", 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "abacus"}, "one of cpu.*abacus"),
        ({"runtime": "cuda_graph"}, "runtime on cpu must be one of onnxruntime, eager, compiled, openvino"),
        ({"dtype": "int4"}, "dtype must be one of float32.*int8.*int4"),
        ({"threads": 0}, "threads=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_key_of_what_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(DeviceError, match=message):
        latency_key(**arguments)


def test_measuring_under_another_machines_key_is_refused():
    with pytest.raises(DeviceError, match="cpu Babbage"):
        measure_network(NETWORK, replace(latency_key(), device="cpu Babbage"))


def test_networks_are_timed_whether_given_as_specification_or_built():
    network = Network(NETWORK).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = measure_networks([NETWORK, network], latency_key(batch_size=2), rounds=7)
    for measurement in found:
        assert measurement.n == 7
        low, high = measurement.ci95_ms
        assert 0 < low <= measurement.median_ms <= high
        assert measurement.mean_ms > 0
    assert network.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_rounds_are_in_turn_and_reported():
    seen = []
    measure_networks([NETWORK, NETWORK], latency_key(), lambda done, total: seen.append((done, total)), rounds=3)
    assert seen == [(2, 6), (4, 6), (5, 6), (6, 6)]  # two runs a turn, and what is left of three


@pytest.mark.parametrize("block", [BLOCK, SHRINKING, replace(BLOCK, kind="identity", expanded=8, se=None)])
def test_a_blocks_slope_is_finite_and_never_negative(block):
    assert 0 <= measure_blocks([block], latency_key("cpu", "eager"), passes=1)[0] < float("inf")


def test_blocks_are_reported_pass_by_pass():
    seen = []
    found = measure_blocks([BLOCK, SHRINKING], latency_key("cpu", "eager"), lambda *x: seen.append(x), passes=2)
    assert len(found) == 2
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_threads_and_random_state_are_put_back_also_after_an_error():
    before, state = torch.get_num_threads(), torch.get_rng_state()
    during = []
    key = latency_key("cpu", "eager", threads=before + 1)

    def stop(done, total):
        during.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_networks([NETWORK], key, stop, rounds=1)
    measure_blocks([BLOCK], key, passes=1)
    assert during == [(before + 1, True)]
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_summary_of_known_samples():
    summary = summarise([5.0, 1.0, 4.0, 2.0, 3.0, 6.0])
    assert (summary.median_ms, summary.mean_ms, summary.n) == (3.5, 3.5, 6)
    assert summary.ci95_ms == (1.0, 6.0)  # six samples enclose the median with 1 - 2 / 2^6 = 96.9 %
    assert summarise([2.0]).ci95_ms == (2.0, 2.0)


@pytest.mark.parametrize("n", [7, 25, 60])
def test_the_interval_covers_the_true_median_as_often_as_it_says(n):
    rng = np.random.default_rng(0)
    intervals = [summarise(rng.exponential(size=n)).ci95_ms for _ in range(2000)]
    covered = np.mean([low <= np.log(2) <= high for low, high in intervals])
    assert 0.94 <= covered <= 0.995


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("runtime", ["eager", "cuda_graph", "onnxruntime", "tensorrt"])
def test_cuda_is_timed_in_each_of_its_runtimes(runtime):
    if RUNTIMES[runtime].missing:
        pytest.skip(f"needs {' and '.join(RUNTIMES[runtime].missing)}")
    key = latency_key("cuda", runtime)
    try:
        measured = measure_network(NETWORK, key, rounds=6)
    except DeviceError as error:
        pytest.skip(str(error))  # ONNX Runtime's distribution for CPUs is installed
    assert measured.median_ms > 0
    assert (measure_blocks([BLOCK], key, passes=2) or [0.0])[0] >= 0


def test_a_network_is_timed_when_its_caches_are_warm():
    taken = iter([9.0, 5.0, 3.0, 2.0, *[1.0] * 8, 99.0])  # it had no turn for a while
    clock = [0.0]

    def run():
        clock[0] += next(taken) / 1e3

    assert timed_runs(run, lambda: clock[0], 3) == pytest.approx([1.0, 1.0, 1.0])
