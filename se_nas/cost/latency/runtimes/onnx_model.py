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
from se_nas.errors import DeviceError
from se_nas.layers.blocks import Block
from se_nas.space.specs import BlockSpec

OPSET = 18
#: Share by which the weights of a block's copies differ, so that no runtime takes two for one.
_JITTER = 0.01
#: Models by `_digest`: a table visits each network several times, and to write one takes longer than to time it. Those
#: of more bytes than this are forgotten.
_kept: dict[str, bytes] = {}
_MOST_KEPT = 256 * 2**20


def onnx_bytes(module: nn.Module, inputs: Sequence[Tensor]) -> bytes:
    """The model of a module in eval mode, for inputs of exactly these shapes, of which the first is "images".

    Raises:
        DeviceError: the module has an operation that ONNX has not.
    """
    if isinstance(module, Chain):
        return _chain_bytes(module, inputs[0])
    digest = _digest(module, inputs)
    if digest not in _kept:
        if sum(map(len, _kept.values())) > _MOST_KEPT:
            _kept.clear()
        _kept[digest] = _exported(module, inputs)
    return _kept[digest]


def _digest(module: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Of what becomes of a module: what it is, its weights, and the shapes."""
    spec = getattr(module, "spec", module)
    found = hashlib.sha256(f"{spec}\n{[(images.shape, images.dtype) for images in inputs]}".encode())
    for tensor in (*module.parameters(), *module.buffers()):
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _exported(module: nn.Module, inputs: Sequence[Tensor]) -> bytes:
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # it says of itself that it is the older one
            torch.onnx.export(
                module,
                tuple(inputs),
                buffer,  # type: ignore[arg-type]  # torch's stub forgets that it may be open
                input_names=["images"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # whatever the exporter raises of an operation of a user's own
        words = " ".join(str(error).split())
        raise DeviceError(
            "a network must be one that ONNX can hold, or be timed by `runtime: eager`, "
            f"but torch's exporter says: {words:.200}"
        ) from error
    return buffer.getvalue()


def _chain_bytes(chain: Chain, images: Tensor) -> bytes:
    """The chain as one graph of copies of a block's graph.

    A runtime folds what is constant, leaves out what no output needs, and computes once what it finds twice. So every
    copy has weights of its own, reads what is not known before, and has an output that is read or given out.
    """
    import onnx

    block = onnx.load_from_string(_block_bytes(chain.spec, tuple(images.shape), images.dtype))
    rng = np.random.default_rng(0)
    model = onnx.ModelProto()
    model.CopyFrom(block)
    del model.graph.node[:], model.graph.initializer[:], model.graph.input[:], model.graph.output[:]
    (source,), (target,) = block.graph.input, block.graph.output
    feeds_itself = chain.spec.keeps_shape
    for number in range(len(chain.copies)):
        read = f"logits/{number - 1}" if feeds_itself and number else f"images/{number}"
        names = {source.name: read, target.name: f"logits/{number}"}
        if not feeds_itself or not number:
            model.graph.input.add().CopyFrom(source)
            model.graph.input[-1].name = read
        if not feeds_itself or number == len(chain.copies) - 1:
            model.graph.output.add().CopyFrom(target)
            model.graph.output[-1].name = names[target.name]
        for tensor in block.graph.initializer:
            model.graph.initializer.append(_own(tensor, f"{tensor.name}/{number}", rng))
        for node in block.graph.node:
            added = model.graph.node.add()
            added.CopyFrom(node)
            added.name = f"{node.name}/{number}"
            for ends in (added.input, added.output):
                ends[:] = [names.get(name, f"{name}/{number}") if name else "" for name in ends]
    found: bytes = model.SerializeToString()
    return found


def _own(tensor: Any, name: str, rng: np.random.Generator) -> Any:
    """A copy of a weight that is a little another one; numbers that are no weights stay as they are."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if values.size > 1 and values.dtype.kind == "f":
        values = (values * (1 + _JITTER * rng.standard_normal(values.shape))).astype(values.dtype)
    return numpy_helper.from_array(values, name)


@lru_cache(maxsize=1024)
def _block_bytes(spec: BlockSpec, shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """A table visits each block several times."""
    return _exported(Block(spec).eval().to(dtype), (torch.randn(shape).to(dtype),))
