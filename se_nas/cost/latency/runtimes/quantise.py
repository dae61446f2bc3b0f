"""Static INT8 of ONNX Runtime: integers between the operations of a graph, in the ranges that images showed.

Each tensor gets QuantizeLinear and DequantizeLinear beside it (QDQ), which runtimes fuse into operations on integers.
Weights have a scale for each output channel; they keep to 7 of 8 bits, since processors without VNNI add two products
in 16 bits, which 8 would overflow: a file would be as accurate as the machine that runs it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from se_nas.errors import DeviceError, install

IMAGES = "images"
"""The input of every network and block that is written as ONNX."""

WORDS = "activations uint8 in the range that they had (min-max), weights int8 of 7 bits by output channel"


class _Batches:
    """What the quantiser reads, one batch after another."""

    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """A batch by the name of the input; None at the end."""
        images = next(self._left, None)
        return None if images is None else {IMAGES: images}


def quantised(model: bytes, batches: Iterable[NDArray[np.float32]], keep_float: Collection[str] = frozenset()) -> bytes:
    """The model in INT8.

    Args:
        model: an ONNX model in float32, of one input, IMAGES, with its norms folded into the convolutions.
        batches: at least one batch of such images as it will be given, which tell the ranges.
        keep_float: names of nodes that stay in float.

    Raises:
        DeviceError: ONNX Runtime, which quantises for every runtime, is not installed.
    """
    try:
        from onnxruntime.quantization import QuantType, quant_pre_process, quantize_static
    except ImportError as error:
        raise DeviceError(f"int8 needs onnxruntime to be installed: {install('runtimes')}") from error

    with tempfile.TemporaryDirectory(prefix="se_nas_") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own deprecated calls
        given, shaped, written = (Path(folder) / name for name in ("given.onnx", "shaped.onnx", "int8.onnx"))
        given.write_bytes(_with_own_constants(model))
        # without its optimisation, which would rename nodes
        quant_pre_process(str(given), str(shaped), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(shaped),
            str(written),
            _Batches(batches),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(keep_float),
        )
        return written.read_bytes()


def _with_own_constants(model: bytes) -> bytes:
    """The same with a weight of its own where torch's former exporter puts Identity of an equal one.

    The quantiser takes what Identity gives for no constant, and leaves its operation in float.
    """
    import onnx

    found = onnx.load_from_string(model)
    constants = {tensor.name: tensor for tensor in found.graph.initializer}
    kept = []
    for node in found.graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            own = found.graph.initializer.add()
            own.CopyFrom(constants[node.input[0]])
            own.name = node.output[0]
            constants[own.name] = own
        else:
            kept.append(node)
    del found.graph.node[:]
    found.graph.node.extend(kept)
    return bytes(found.SerializeToString())
