"""ONNX: any batch size, the network's logits, the notes, and no path of the machine it was made on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

import se_nas
from se_nas.errors import ExportError
from se_nas.export import onnx_file
from se_nas.export.agreement import greatest_difference
from se_nas.layers.network import Network
from se_nas.records.bounds import NEWEST_OPSET, OLDEST_OPSET, USUAL_OPSET
from se_nas.space.attention import ATTENTION
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import SESpec
from se_nas.space.vocabulary import Squeeze
from tests.export.trained import trained
from tests.helpers.example_blocks import block_spec
from tests.helpers.tiny_imagenet import tiny_network

NOTES = {"space": "tiny", "mean": "0.5"}


def every_attention(tiny_space: SearchSpace) -> Network:
    """A network that has every kind of attention with every squeeze."""
    *_, largest = tiny_space.enumerate()
    spec = tiny_space.resolve(largest)
    kept = block_spec("mbconv", 8, 8, resolution=spec.blocks[0].resolution, expanded=16)
    units = [SESpec(ratio=2, divisor=1, kind=kind) for kind in ATTENTION]
    units += [
        SESpec(ratio=2, divisor=1, kind=kind, squeeze=s)
        for kind, entry in ATTENTION.items()
        if entry.reads_squeeze
        for s in get_args(Squeeze)[1:]
    ]
    blocks = [replace(kept, se=unit) for unit in units]
    return trained(replace(spec, blocks=(*blocks, *spec.blocks))).eval()


@pytest.mark.parametrize("opset", [OLDEST_OPSET, USUAL_OPSET])
def test_every_kind_of_attention_is_written(tiny_space: SearchSpace, tmp_path: Path, opset: int) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    network = every_attention(tiny_space)
    onnx_file.write_onnx(network, NOTES, tmp_path, opset)
    run = onnx_file.load_onnx(tmp_path)
    assert greatest_difference(network, run) <= 1e-4
    assert run(torch.ones(7, 1, 8, 8)).shape == (7, 3)
    model = (tmp_path / onnx_file.FILE).read_bytes()
    named = [
        onnx_file.nodes_of(model, f"blocks.{index}.se")
        for index, block in enumerate(network.spec.blocks)
        if block.se is not None
    ]
    assert all(named)
    assert len(set().union(*named)) == sum(map(len, named)) < len(onnx_file.nodes_of(model, "blocks"))


@pytest.mark.parametrize(
    "opset",
    [
        pytest.param(opset, marks=[] if opset < USUAL_OPSET or opset == NEWEST_OPSET else pytest.mark.slow)
        for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1)
    ],
)
def test_every_opset_is_what_was_asked_for_and_runs(tmp_path: Path, opset: int) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    network = trained(tiny_network(head={"width": 32, "dropout": 0.1, "activation": "hard_swish"})).eval()
    onnx_file.write_onnx(network, NOTES, tmp_path, opset)
    assert greatest_difference(network, onnx_file.load_onnx(tmp_path)) <= 1e-4
    model = onnx.load(tmp_path / onnx_file.FILE)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]
    assert {entry.key: entry.value for entry in model.metadata_props} == NOTES
    assert str(Path(se_nas.__file__).parent).encode() not in (tmp_path / onnx_file.FILE).read_bytes()


def test_an_opset_that_torch_cannot_write_is_an_error(
    tiny_space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_file, "_OLDEST_OF_PROGRAMS", 13)  # the present exporter keeps what it cannot convert
    *_, largest = tiny_space.enumerate()
    with pytest.raises(ExportError, match=r"opset: must be one that .* can write .*, but 13 came out as 18"):
        onnx_file.write_onnx(trained(tiny_space.resolve(largest)).eval(), NOTES, tmp_path, 13)
    assert not list(tmp_path.iterdir())


def test_a_file_is_the_network_at_any_batch_size(tiny_space: SearchSpace, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    *_, largest = tiny_space.enumerate()
    network = trained(tiny_space.resolve(largest)).eval()
    onnx_file.write_onnx(network, NOTES, tmp_path)
    run = onnx_file.load_onnx(tmp_path)
    assert greatest_difference(network, run) <= 1e-4
    assert run(torch.ones(7, 1, 8, 8)).shape == (7, 3)
    model = onnx.load(tmp_path / onnx_file.FILE)
    assert {entry.key: entry.value for entry in model.metadata_props} == NOTES
    assert [entry.version for entry in model.opset_import if not entry.domain] == [USUAL_OPSET]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["batch", 1, 8, 8], "logits": ["batch", 3]}
    assert str(Path(se_nas.__file__).parent).encode() not in (tmp_path / onnx_file.FILE).read_bytes()
