"""ONNX (https://onnx.ai): the network for onnxruntime and its like, for any batch size; all that knows ONNX is here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from se_nas.export.agreement import Run
from se_nas.export.torch_program import export_program, quiet
from se_nas.layers.network import Network
from se_nas.records.files import write_atomic

FILE = "network.onnx"
OPSET = 18  # of 2023: the oldest that torch's exporter makes without converting


def write_onnx(network: Network, notes: Mapping[str, str], folder: Path) -> None:
    """Write FILE: input "images" (batch, channels, resolution, resolution), output "logits" (batch, classes).

    Args:
        network: in eval mode, float32, on the CPU.
        notes: go into the file's metadata.
    """
    import onnx

    program = export_program(network)
    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            external_data=False,
        )
    assert exported is not None
    model = exported.model_proto
    # the one size that is free, whose symbol torch numbers; others are sums and products of it, such as 64*s0
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dimension.dim_param)
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model)
    write_atomic(folder / FILE, model.SerializeToString())


def load_onnx(folder: Path) -> Run:
    """The file in a folder, run by onnxruntime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run
