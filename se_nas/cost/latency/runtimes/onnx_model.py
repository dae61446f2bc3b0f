"""Networks as ONNX for runtimes that are timed; `export.onnx_file` writes the file that is handed on.

Torch's older exporter takes 0.1 s for a network where the newer one takes seconds, and a table is made of hundreds.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from se_nas.cost.latency.chains import Chain
from se_nas.cost.latency.runtimes.quantise import IMAGES, quantised
from se_nas.errors import DeviceError, in_line
from se_nas.layers.blocks import Block
from se_nas.space.specs import BlockSpec

OPSET = 18
#: Share by which the weights of a block's copies differ, so that no runtime takes two for one.
_JITTER = 0.01
#: Models by `_digest`: a table visits each network several times, and to write one takes longer than to time it. Those
#: of more bytes than this are forgotten.
_kept: dict[str, bytes] = {}
_MOST_KEPT = 256 * 2**20


def onnx_bytes(module: nn.Module, inputs: Sequence[Tensor], dtype: str = "float32") -> bytes:
    """The model of a module in eval mode, for inputs of exactly these shapes, of which the first is "images".

    Args:
        dtype: "int8" for one that is quantised, in the ranges that these inputs show, which a time does not depend on;
            in every other format the module and its inputs already are.

    Raises:
        DeviceError: the module has an operation that ONNX has not.
    """
    if isinstance(module, Chain):
        return _chain_bytes(module, inputs[0], dtype)
    digest = _digest(module, inputs, dtype)
    if digest not in _kept:
        if sum(map(len, _kept.values())) > _MOST_KEPT:
            _kept.clear()
        _kept[digest] = _exported(module, inputs, dtype)
    return _kept[digest]


def _digest(module: nn.Module, inputs: Sequence[Tensor], dtype: str) -> str:
    """Of what becomes of a module: what it is, its weights, the shapes and the number format."""
    spec = getattr(module, "spec", module)
    found = hashlib.sha256(f"{spec}\n{[(images.shape, images.dtype) for images in inputs]}\n{dtype}".encode())
    for tensor in (*module.parameters(), *module.buffers()):
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _exported(module: nn.Module, inputs: Sequence[Tensor], dtype: str) -> bytes:
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # it says of itself that it is the older one
            torch.onnx.export(
                module,
                tuple(inputs),
                buffer,  # type: ignore[arg-type]  # torch's stub forgets that it may be open
                input_names=[IMAGES],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # whatever the exporter raises of an operation of a user's own
        words = in_line(error)
        raise DeviceError(
            "a network must be one that ONNX can hold, or be timed by `runtime: eager`, "
            f"but torch's exporter says: {words:.200}"
        ) from error
    model = buffer.getvalue()
    return quantised(model, [inputs[0].cpu().contiguous().numpy()]) if dtype == "int8" else model


def _chain_bytes(chain: Chain, images: Tensor, dtype: str) -> bytes:
    """The chain as one graph of copies of a block's graph.

    A runtime folds what is constant, leaves out what no output needs, and computes once what it finds twice. So every
    copy has weights of its own, reads what is not known before, and has an output that is read or given out.
    """
    import onnx

    block = onnx.load_from_string(_block_bytes(chain.spec, tuple(images.shape), images.dtype, dtype))
    rng = np.random.default_rng(0)
    model = onnx.ModelProto()
    model.CopyFrom(block)
    del model.graph.node[:], model.graph.initializer[:], model.graph.input[:], model.graph.output[:]
    (source,), (target,) = block.graph.input, block.graph.output
    feeds_itself = chain.spec.keeps_shape
    entry = _quantised_entry(block) if feeds_itself else set()
    for number in range(len(chain.copies)):
        read = f"logits/{number - 1}" if feeds_itself and number else f"images/{number}"
        names = {source.name: read, target.name: f"logits/{number}"}
        skipped = entry if number else set()  # what was quantised as it left a copy enters the next as it is
        names |= dict.fromkeys(skipped, read)
        if not feeds_itself or not number:
            model.graph.input.add().CopyFrom(source)
            model.graph.input[-1].name = read
        if not feeds_itself or number == len(chain.copies) - 1:
            model.graph.output.add().CopyFrom(target)
            model.graph.output[-1].name = names[target.name]
        for tensor in block.graph.initializer:
            model.graph.initializer.append(_own(tensor, f"{tensor.name}/{number}", rng))
        for node in block.graph.node:
            if node.output[0] in skipped:
                continue
            added = model.graph.node.add()
            added.CopyFrom(node)
            added.name = f"{node.name}/{number}"
            for ends in (added.input, added.output):
                ends[:] = [names.get(name, f"{name}/{number}") if name else "" for name in ends]
    found: bytes = model.SerializeToString()
    return found


def _quantised_entry(block: Any) -> set[str]:
    """What QuantizeLinear and DequantizeLinear make of the input of a quantised block whose output has its own pair."""
    made_by = {name: node for node in block.graph.node for name in node.output}
    if made_by[block.graph.output[0].name].op_type != "DequantizeLinear":
        return set()
    found = {block.graph.input[0].name}
    for node in block.graph.node:  # in the order in which they run
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in found:
            found.add(node.output[0])
    return found - {block.graph.input[0].name}


def _own(tensor: Any, name: str, rng: np.random.Generator) -> Any:
    """A copy of a weight that is a little another one; numbers that are no weights stay as they are."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if values.ndim > 1:  # not the scales of quantised ones, which must go together
        if values.dtype.kind == "f":
            values = (values * (1 + _JITTER * rng.standard_normal(values.shape))).astype(values.dtype)
        elif values.dtype == np.int8:
            values = values ^ rng.integers(0, 2, values.shape, dtype=np.int8)
    return numpy_helper.from_array(values, name)


@lru_cache(maxsize=1024)
def _block_bytes(spec: BlockSpec, shape: tuple[int, ...], given: torch.dtype, dtype: str) -> bytes:
    """A table visits each block several times."""
    return _exported(Block(spec).eval().to(given), (torch.randn(shape).to(given),), dtype)
