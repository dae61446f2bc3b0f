"""ONNX (https://onnx.ai): the network for onnxruntime and its like, for any batch size; all that knows ONNX is here."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from se_nas.errors import ExportError, cut, in_line
from se_nas.export.agreement import Run
from se_nas.export.torch_program import export_program, quiet
from se_nas.layers.network import Network
from se_nas.records.bounds import USUAL_OPSET
from se_nas.records.files import write_atomic

FILE = "network.onnx"
_SCOPES = "pkg.torch.onnx.name_scopes"
_OLDEST_OF_PROGRAMS = 18  # of 2023: what torch's present exporter makes; older ones it converts, or does not


def write_onnx(network: Network, notes: Mapping[str, str], folder: Path, opset: int = USUAL_OPSET) -> None:
    """Write FILE: input "images" (batch, channels, resolution, resolution), output "logits" (batch, classes).

    Args:
        network: in eval mode, float32, on the CPU.
        notes: go into the file's metadata.
        opset: which version of ONNX's operators is used.

    Raises:
        ExportError: torch's exporter cannot write the network in this opset.
    """
    import onnx

    try:
        model = _by_program(network, opset) if opset >= _OLDEST_OF_PROGRAMS else _by_trace(network, opset)
    except Exception as error:  # of torch's, whose kinds are as many as its versions
        must = "opset: must be one that this torch can write the network in"
        raise ExportError(f"{must}, but {opset} gave: {cut(in_line(error))}") from error
    (got,) = [entry.version for entry in model.opset_import if not entry.domain]
    if got != opset:  # torch warns in its log alone
        raise ExportError(f"opset: must be one that this torch can write the network in, but {opset} came out as {got}")
    # the one size that is free, whose symbol torch numbers; others are sums and products of it, such as 64*s0
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dimension.dim_param)
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model)
    write_atomic(folder / FILE, model.SerializeToString())


def _by_program(network: Network, opset: int) -> Any:
    """What torch's present exporter makes of the network."""
    with quiet():
        exported = torch.onnx.export(
            export_program(network),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            external_data=False,
        )
    assert exported is not None
    return exported.model_proto


def _by_trace(network: Network, opset: int) -> Any:
    """What torch's former exporter makes of it, which alone knows the older opsets."""
    import onnx

    images = torch.zeros(2, network.spec.in_channels, network.spec.resolution, network.spec.resolution)
    buffer = io.BytesIO()
    with quiet():
        torch.onnx.export(
            network,
            (images,),
            buffer,  # type: ignore[arg-type]  # torch's stub forgets that a file is taken
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )
    return onnx.load_from_string(buffer.getvalue())


def nodes_of(model: bytes, module: str) -> set[str]:
    """The names of the nodes that a module of the network, such as "blocks.0.se", became by either exporter of torch.

    The present one notes in each node the modules that it is of, and the former one calls it by them.
    """
    import onnx

    found = set()
    for node in onnx.load_from_string(model).graph.node:
        noted = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES)
        scopes = ast.literal_eval(noted) if noted else [".".join(node.name.split("/")[1:])]
        if any(f"{scope}.".startswith(f"{module}.") for scope in scopes):
            found.add(node.name)
    return found


def load_onnx(folder: Path) -> Run:
    """The file in a folder, run by onnxruntime on one CPU thread."""
    return run_onnx(folder / FILE)


def run_onnx(path: Path, threads: int = 1) -> Run:
    """A file of ONNX that se_nas has written, run by onnxruntime on so many CPU threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds have no common one
        must = "the ONNX file must be one that this onnxruntime can read"
        raise ExportError(f"{must}, but got: {cut(in_line(error))}") from error

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run
