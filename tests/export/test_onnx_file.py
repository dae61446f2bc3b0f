"""ONNX: any batch size, the network's logits, the notes, and no path of the machine it was made on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

import se_nas
from se_nas.export import onnx_file
from se_nas.export.agreement import greatest_difference
from se_nas.space.attention import ATTENTION
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import SESpec
from se_nas.space.vocabulary import Squeeze
from tests.export.trained import trained
from tests.helpers.example_blocks import block_spec

NOTES = {"space": "tiny", "mean": "0.5"}


def test_every_kind_of_attention_is_written(tiny_space: SearchSpace, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
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
    network = trained(replace(spec, blocks=(*blocks, *spec.blocks))).eval()
    onnx_file.write_onnx(network, NOTES, tmp_path)
    run = onnx_file.load_onnx(tmp_path)
    assert greatest_difference(network, run) <= 1e-4
    assert run(torch.ones(7, 1, 8, 8)).shape == (7, 3)


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
    assert [entry.version for entry in model.opset_import if not entry.domain] == [onnx_file.OPSET]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["batch", 1, 8, 8], "logits": ["batch", 3]}
    assert str(Path(se_nas.__file__).parent).encode() not in (tmp_path / onnx_file.FILE).read_bytes()
