"""Every runtime keeps the contract of its registry, and those that are installed run for real."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from se_nas.cost.latency.building import time_latency_table
from se_nas.cost.latency.chains import chains
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES, default_line, default_runtime
from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.cost.latency.runtimes.runtime import Runtime
from se_nas.cost.latency.timing import (
    chains_are_linear,
    clock_name,
    latency_conditions,
    latency_key,
    measure_blocks,
    measure_network,
    measure_networks,
)
from se_nas.errors import DeviceError
from se_nas.layers.network import Network
from se_nas.records.registry import imported
from tests.cost.latency.fake_clock import SPACE
from tests.cost.latency.runtimes.networks import BLOCK, NETWORK, SHRINKING

HEAD = replace(NETWORK.head, in_channels=8, resolution=8)

HERE = ("eager", "onnxruntime", "openvino")


@pytest.fixture
def onnxruntime():
    return pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", HERE)
def test_networks_take_turns_in_each_runtime_of_this_machine_and_its_conditions_are_said(name):
    if missing := RUNTIMES[name].missing:  # OpenVINO is not to be imported here
        pytest.skip(f"needs {' and '.join(missing)}")
    key = latency_key("cpu", name, batch_size=2)
    found = measure_networks([NETWORK, Network(NETWORK)], key, rounds=3)
    assert [measurement.n for measurement in found] == [3, 3]
    assert all(measurement.median_ms > 0 for measurement in found)
    conditions = latency_conditions(key)
    assert (conditions.runtime, conditions.batch_size, conditions.clock) == (name, 2, clock_name(key))


@pytest.mark.parametrize("name", HERE)
def test_a_block_is_timed_by_chains_of_its_copies_in_each_of_them(name):
    if missing := RUNTIMES[name].missing:  # OpenVINO is not to be imported here
        pytest.skip(f"needs {' and '.join(missing)}")
    found = measure_blocks([BLOCK, SHRINKING], latency_key("cpu", name), passes=1)
    assert found is None or all(ms >= 0 for ms in found)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_is_timed():
    assert measure_network(NETWORK, latency_key("cpu", "compiled"), rounds=3).median_ms > 0


def test_what_cannot_be_compiled_is_one_line(monkeypatch):
    def fails(*images):
        raise RuntimeError("no C++ compiler\nis here")

    monkeypatch.setattr(torch, "compile", lambda module, **options: fails)
    with pytest.raises(DeviceError, match=r"must be able to compile the network, but got: no C\+\+ compiler is"):
        measure_network(NETWORK, latency_key("cpu", "compiled"), rounds=1)


def optimised(model, folder, onnxruntime):
    """The operations that ONNX Runtime makes of a model."""
    onnx = pytest.importorskip("onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


@pytest.mark.parametrize("block", [BLOCK, SHRINKING])
def test_a_chain_as_a_graph_has_every_copy_after_onnx_runtime_has_folded_it(tmp_path, onnxruntime, block):
    convolutions = []
    for chain in chains(block, (1, 4), share=True):
        operations = optimised(onnx_bytes(chain, [torch.randn(1, 8, 8, 8)]), tmp_path, onnxruntime)
        convolutions.append(sum("Conv" in operation for operation in operations))
    assert convolutions[1] == 4 * convolutions[0] > 0


def test_the_copies_of_a_block_are_other_blocks_of_the_same_shapes():
    numpy_helper = pytest.importorskip("onnx.numpy_helper")
    onnx = pytest.importorskip("onnx")
    (chain,) = chains(BLOCK, (2,), share=True)
    model = onnx.load_from_string(onnx_bytes(chain, [torch.randn(1, 8, 8, 8)]))
    onnx.checker.check_model(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    firsts = [name for name in weights if name.endswith("/0") and weights[name].ndim == 4]
    assert firsts
    for name in firsts:
        other = weights[name.removesuffix("0") + "1"]
        assert other.shape == weights[name].shape
        assert not (other == weights[name]).all()


@pytest.mark.parametrize("block", [BLOCK, SHRINKING])
def test_a_quantised_chain_computes_in_integers_in_every_copy_as_a_quantised_network_does(tmp_path, onnxruntime, block):
    torch.manual_seed(0)  # of some weights a ReLU lets nothing pass, and what it ends folds into a constant
    (chain,) = chains(block, (4,), share=True)
    operations = optimised(onnx_bytes(chain, [torch.randn(1, 8, 8, 8)], "int8"), tmp_path, onnxruntime)
    assert operations.count("QLinearConv") == 4 * 3  # expand, depthwise, project
    assert "Conv" not in operations
    network = optimised(onnx_bytes(Network(NETWORK).eval(), [torch.randn(1, 3, 8, 8)], "int8"), tmp_path, onnxruntime)
    assert network.count("QLinearConv") == 1 + 2 * 3
    assert "Conv" not in network


@pytest.mark.slow
def test_a_latency_table_may_be_of_int8(onnxruntime):
    key = latency_key("cpu", dtype="int8")
    found = time_latency_table(SPACE, key, calibrate_on=3, held_out=3, visits=1)
    assert found.key.dtype == found.record().key.dtype == "int8"
    assert len(found.held_out) == 3


def test_networks_and_blocks_are_timed_in_int8_where_the_runtime_has_it(onnxruntime):
    key = latency_key("cpu", dtype="int8")
    assert key.runtime == "onnxruntime"
    assert measure_network(NETWORK, key, rounds=3).median_ms > 0
    found = measure_blocks([BLOCK, SHRINKING], key, passes=1)
    assert found is None or all(ms >= 0 for ms in found)
    assert latency_conditions(key).dtype == "int8"


@pytest.mark.parametrize(("seconds", "linear"), [((2, 4, 6), True), ((2, 4, 4.1), False), ((2, 2, 2), False)])
def test_chains_whose_later_copies_take_less_are_no_clock_of_blocks(monkeypatch, seconds, linear):
    monkeypatch.setattr("se_nas.cost.latency.timing.chain_ms", lambda block, key, lengths: list(seconds))
    assert chains_are_linear([BLOCK] * 40, latency_key()) is linear


def test_a_runtime_whose_chains_are_not_linear_times_no_blocks(monkeypatch, onnxruntime):
    monkeypatch.setattr("se_nas.cost.latency.timing.chains_are_linear", lambda blocks, key: False)
    assert measure_blocks([BLOCK], latency_key("cpu", "onnxruntime"), passes=1) is None


def test_latency_is_of_onnx_runtime_on_cpus_and_of_a_graph_on_gpus_unless_something_else_is_named(onnxruntime):
    assert default_runtime("cpu", "float32") == "onnxruntime"
    assert default_runtime("cpu", "bfloat16") == "eager"  # which ONNX Runtime does not run
    assert default_runtime("cuda", "float16") == "cuda_graph"
    assert default_runtime("mps", "float32") == "eager"
    assert default_line("cpu", "float32") is default_line("cuda", "float32") is None


def test_without_onnx_runtime_the_default_is_eager_and_asking_for_it_names_what_installs_it(monkeypatch):
    monkeypatch.setattr(Runtime, "missing", property(lambda self: self.packages[-1:]))
    assert latency_key().runtime == "eager"
    assert "latency: eager PyTorch is timed, since there is no onnxruntime; pip install" in default_line(
        "cpu", "float32"
    )
    with pytest.raises(DeviceError, match="needs onnxruntime, not installed here: pip install 'se-nas\\[runtimes\\]'"):
        latency_key("cpu", "onnxruntime")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runtime": "onnx_runtime"}, "runtime must be one of onnxruntime, .*but got 'onnx_runtime'.*onnxruntime"),
        ({"runtime": "openvino", "dtype": "float16"}, "dtype of openvino must be one of float32, int8, but"),
        ({"runtime": "eager", "dtype": "int8"}, "dtype of eager must be one of float32, bfloat16, float16, but"),
        ({"runtime": "tensorrt"}, "runtime on cpu must be one of onnxruntime, eager, compiled, openvino"),
    ],
)
def test_a_runtime_that_cannot_be_had_is_one_line(arguments, message):
    with pytest.raises(DeviceError, match=message):
        latency_key(**arguments)


def test_int8_where_nothing_runs_it_is_one_line(monkeypatch):
    with pytest.raises(DeviceError, match="latency dtype int8 must be timed on a device that runs it, but cuda does"):
        default_runtime("cuda", "int8")
    monkeypatch.setattr(Runtime, "missing", property(lambda self: self.packages[-1:]))
    with pytest.raises(DeviceError, match=r"dtype int8 needs ONNX Runtime, but there is no onnxruntime: pip install"):
        latency_key("cpu", dtype="int8")


def test_a_network_that_onnx_cannot_hold_is_one_line(monkeypatch, onnxruntime):
    def fails(*arguments, **options):
        raise RuntimeError("no operator\naten::own")

    monkeypatch.setattr(torch.onnx, "export", fails)
    monkeypatch.setattr("se_nas.cost.latency.runtimes.onnx_model._kept", {})
    with pytest.raises(DeviceError, match=r"one that ONNX can hold, .* torch's exporter says: no operator aten::own"):
        measure_network(NETWORK, latency_key("cpu", "onnxruntime"), rounds=1)


def test_a_provider_that_is_not_there_is_named_with_those_that_are(onnxruntime):
    from se_nas.cost.latency.runtimes.onnx_runtime import prepare_tensorrt

    key = LatencyKey("cpu Babbage", "tensorrt")
    with pytest.raises(DeviceError, match=r"must have ONNX Runtime's TensorrtExecutionProvider, but .*CPUExecution"):
        prepare_tensorrt(Network(NETWORK).eval(), [torch.zeros(1, 3, 8, 8)], key)


def test_a_runtime_of_a_users_own_is_timed_like_any_other():
    own = Runtime(
        title="an abacus",
        prepare=lambda module, inputs, key: lambda runs: [float(inputs[0].shape[0])] * runs,
        devices=("cpu",),
        clock=lambda key: "beads",
    )
    RUNTIMES["abacus"] = own
    try:
        key = latency_key("cpu", "abacus", batch_size=3)
        (found,) = measure_networks([NETWORK], key, rounds=5)
        assert (found.median_ms, found.n, clock_name(key)) == (3.0, 5, "beads")
        assert measure_blocks([BLOCK], key) is None  # more copies take it no longer
    finally:
        del RUNTIMES["abacus"]


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_entry_says_where_it_runs_in_what_and_by_which_clock(name):
    runtime = RUNTIMES[name]
    assert callable(imported(runtime.prepare))
    assert set(runtime.devices) <= {"cpu", "cuda", "mps", "xpu"}
    assert set(runtime.default_on) <= set(runtime.devices)
    assert runtime.remote == (runtime.of is not None)
    assert runtime.clock(LatencyKey(runtime.devices[0] if runtime.devices else "phone", name))


def test_a_network_becomes_onnx_once_however_often_it_is_timed_and_again_with_other_weights(monkeypatch, onnxruntime):
    written = []
    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: written.append(1) or export(*args, **options))
    monkeypatch.setattr("se_nas.cost.latency.runtimes.onnx_model._kept", {})
    for _ in range(2):
        measure_network(NETWORK, latency_key("cpu", "onnxruntime"), rounds=1)
    assert len(written) == 1
    network = Network(NETWORK)
    torch.nn.init.ones_(next(network.parameters()))
    measure_network(network, latency_key("cpu", "onnxruntime"), rounds=1)
    assert len(written) == 2


@pytest.mark.slow
def test_more_networks_are_compiled_than_torch_keeps_of_one_function(monkeypatch):
    compile_, compiled = torch.compile, []

    def uncompiled(graph, images):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend=uncompiled, **options))
    networks = [replace(NETWORK, blocks=(BLOCK,) * depth, head=HEAD) for depth in range(1, 11)]
    found = measure_networks(networks, latency_key("cpu", "compiled"), rounds=1)
    assert len(found) == len(compiled) == 10
