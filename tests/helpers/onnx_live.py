"""What an exported graph keeps and holds, from the graph alone: the numbers of its weights, and those live at once.

Written apart from the package's counts, which it checks: nothing here knows what a block is.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import numpy_helper, shape_inference
from torch import Tensor

from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.layers.network import Network

#: What activations are made of that no exporter has a node of: silu, mish and both forms of gelu.
_PIECES = {"Sigmoid", "Softplus", "Tanh", "Erf", "Mul", "Div", "Add"}
ELEMENTWISE = {*_PIECES, "Relu", "Clip", "LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "BatchNormalization"}
RESHAPES = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Cast", "Identity"}

#: The places that it reads, what it makes, and whether it works element by element.
_Operation = tuple[set[int], Tensor, bool]


def exported(network: Network) -> onnx.ModelProto:
    """The graph for one image, of weights that are all different, since equal ones are kept once."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    spec = network.spec
    images = torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution)
    return onnx.load_from_string(onnx_bytes(network.eval(), (images,)))


def weight_numbers(model: onnx.ModelProto) -> int:
    """Of all initializers of floating-point numbers."""
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return sum(array.size for array in arrays if array.dtype.kind == "f")


def live_numbers(model: onnx.ModelProto) -> int:
    """The most that are live at once when the nodes run in their order; see `se_nas.space.attention.schedule`."""
    model = shape_inference.infer_shapes(model, data_prop=True)
    typed = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in typed
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    (source,), (target,) = model.graph.input, model.graph.output
    maps: dict[str, Tensor] = {source.name: torch.empty(shapes[source.name], device="meta")}
    operations: list[_Operation] = []
    for node in _with_activations_as_one(list(model.graph.node)):
        reads = [name for name in node.input if name in maps]
        name = node.output[0]
        if not reads or name not in shapes:
            continue
        x, shape = maps[reads[0]], shapes[name]
        if node.op_type in RESHAPES:
            maps[name] = x.reshape(shape)
        elif node.op_type == "Transpose":
            maps[name] = x.permute(*node.attribute[0].ints)
        elif node.op_type == "Slice":
            maps[name] = x.as_strided(shape, x.stride())
        else:
            maps[name] = torch.empty(shape, device="meta")
        read = {_place(maps[one]) for one in reads}
        if _place(maps[name]) not in read:  # no view
            operations.append((read, maps[name], node.op_type in ELEMENTWISE))
    return _most_live(maps[source.name], operations, maps[target.name])


def _with_activations_as_one(nodes: list[Any]) -> list[Any]:
    """Without the pieces of activations that end in x times what is made of x alone."""
    making = {node.output[0]: node for node in nodes}

    def pieces(name: str, x: str) -> set[str] | None:
        """What is made on the way from x to this; None where it is made of something else too."""
        node = making.get(name)
        if name == x or node is None or node.op_type == "Constant":
            return set() if name == x or node is not None else None
        parts = [pieces(one, x) for one in node.input] if node.op_type in _PIECES else [None]
        return None if None in parts else {name}.union(*(part for part in parts if part))

    ends = [node.input for node in nodes if node.op_type == "Mul"]
    inner = (pieces(name, x) for one, other in ends for name, x in ((one, other), (other, one)) if name != x)
    dropped = {name for found in inner if found for name in found}
    return [node for node in nodes if node.output[0] not in dropped]


def _most_live(source: Tensor, operations: list[_Operation], target: Tensor) -> int:
    last = {place: number for number, (read, _, _) in enumerate(operations) for place in read}
    last[_place(target)] = len(operations)
    at, until = {_place(source): _place(source)}, {_place(source): last[_place(source)]}
    sizes, held, most = {_place(source): source.numel()}, {_place(source)}, source.numel()
    for number, (read, made, elementwise) in enumerate(operations):
        out, size = _place(made), made.numel()
        over = [at[place] for place in read if until[at[place]] == number and sizes[at[place]] == size]
        at[out] = over[0] if elementwise and over else out
        until[at[out]] = last.get(out, number)
        sizes[at[out]] = size
        held.add(at[out])
        most = max(most, sum(sizes[place] for place in held))
        held = {place for place in held if until[place] > number}
    return most


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
