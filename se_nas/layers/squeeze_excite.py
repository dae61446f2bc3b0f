"""Squeeze-and-Excitation (https://arxiv.org/abs/1709.01507, eq. 2-4) in the fewest passes over its feature map.

An SE block does almost no arithmetic: what it costs is the memory traffic of reading and writing its feature map.
Written with autograd it passes over the map 13 times, forward and backward; 7 is the least:

    forward    z = mean(x)                      reads x
               out = x * s                      reads x, writes out
    backward   ds = sum(grad * x)               reads grad and x
               dx = grad * s + dz / (H * W)     reads grad, writes dx

On a CPU the products of the third step stay in the cache, a few samples at a time, which passes do not count; on a GPU
a kernel in Triton adds them up as it reads. Without it, as torch has no such reduction in one kernel, they are written
and read once more, which makes 9.

Where channels are squeezed to their maxima, too, a pass more finds them and where they are. Their gradient goes there,
as pooling's does: to the first of positions that share one.

Everything between z and s is over (B, C) vectors, so `squeeze_scale` leaves that part to the gate, and any gate, fixed
or searched, shares these four steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from se_nas.layers.gate import ByAutograd, Gate, HandWrittenGate, hand_written_backward_applies
from se_nas.layers.kernels import kernels_for

_ROW = 64
"""Numbers in a row from which on torch's reductions and products with a vector of channels are vector code."""

_CHUNK_BYTES_PER_THREAD = 512 * 1024
"""What one CPU thread keeps of an intermediate feature map: a part that stays in its level-2 cache."""


SQUEEZES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((2, 3)),
    "max": lambda x: x.amax((2, 3)),
    "mean_and_max": lambda x: torch.stack((x.mean((2, 3)), x.amax((2, 3)))),
    "none": lambda x: x.permute(0, 2, 3, 1),  # not movedim, which torch's former ONNX exporter mistakes
}
"""Squeeze name to what a gate sees of a map (B, C, H, W): (B, C), or (2, B, C), or (B, H, W, C) where nothing is lost.

"none" is the paper's control NoSqueeze (section 7.1): the gate of a position is computed from that position alone.
"""


def squeeze_scale(x: Tensor, gate: Gate, *parameters: Tensor, squeeze: str = "mean") -> Tensor:
    """Return x * gate(squeezed x, *parameters), channel by channel; in few passes where that sees vectors.

    Args:
        x: feature map (B, C, H, W), floating point, of any memory format.
        gate: a function of z (B, C) and of `parameters` that returns the scale (B, C). It must take every tensor that
            needs a gradient as one of `parameters`: a tensor that it captures gets none.
        *parameters: the tensors the gate depends on, of any shape.
        squeeze: a name in SQUEEZES, which says what z is; with "none" the scale is (B, H, W, C), as z.

    Returns:
        (B, C, H, W) with the dtype and memory format of x. It can be differentiated once, with respect to x and
        `parameters`; torch raises RuntimeError at the second time, but with the squeeze "none".
    """
    if squeeze != "none" and hand_written_backward_applies(x, parameters):
        own = gate if isinstance(gate, HandWrittenGate) else ByAutograd(gate)
        result: Tensor = _SqueezeScale.apply(x, own, squeeze, *parameters)  # type: ignore[no-untyped-call]
        return result
    return _scale(x, gate(SQUEEZES[squeeze](x), *parameters), squeeze)


@contextmanager
def made_again(x: Tensor) -> Iterator[None]:
    """Where x comes from `squeeze_scale`, what runs here does not keep it for its backward, which scales once more.

    It takes one pass more, and the memory of a map less: a place of SE then has none of its own.
    """
    node = x.grad_fn
    if not isinstance(node, _SqueezeScale._backward_cls):
        yield
        return
    same = (x.data_ptr(), x.shape, x.stride())

    def pack(kept: Tensor) -> Any:
        return node if (kept.data_ptr(), kept.shape, kept.stride()) == same else kept

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        before, scale = packed.saved_tensors[:2]
        return _scale(before, scale)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


class ChannelAttention(nn.Module):
    """Scale each channel by a gate computed from a squeeze of every channel.

    Its layers are called as modules, so that hooks see them and what is put in their place (by quantisation, low-rank
    adapters) counts. In training `fused_gate` takes their place where there is nobody to notice.

    Args:
        squeeze: a name in SQUEEZES.
    """

    def __init__(self, squeeze: str) -> None:
        super().__init__()
        self.squeeze = squeeze

    def gates_of(self, z: Tensor) -> Tensor:
        """The gates of channels that are squeezed, see SQUEEZES: (B, C), or (B, H, W, C)."""
        raise NotImplementedError

    def fused_gate(self) -> tuple[Gate, tuple[Tensor, ...]]:
        """`gates_of` as a function of z (B, C) and of the tensors that it depends on, and these."""
        raise NotImplementedError

    def gates(self, x: Tensor) -> Tensor:
        """What `forward` scales the channels of x (B, C, H, W) by: (B, C), or (B, H, W, C) with the squeeze "none"."""
        return self.gates_of(SQUEEZES[self.squeeze](x))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape, dtype and memory format."""
        fuses = self.training and self.squeeze == "mean" and hand_written_backward_applies(x, self.parameters())
        if fuses and not any(map(_is_watched, self.children())):
            gate, parameters = self.fused_gate()
            return squeeze_scale(x, gate, *parameters)
        return _scale(x, self.gates_of(SQUEEZES[self.squeeze](x)), self.squeeze)


def _is_watched(layer: nn.Module) -> bool:
    """Whether a call of a layer does more than its formula: it is a stand-in, or has hooks."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) not in (nn.Linear, nn.Conv1d, nn.Conv2d) or any(hooks)


def _scale(x: Tensor, s: Tensor, squeeze: str = "mean") -> Tensor:
    s = s.to(x.dtype)  # a gate in another dtype, as under autocast, must not promote x
    return x * (s.permute(0, 3, 1, 2) if squeeze == "none" else s[:, :, None, None])


class _SqueezeScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: HandWrittenGate, squeeze: str, *parameters: Tensor) -> Tensor:
        z, ctx.where = _SQUEEZED[squeeze](x.detach())
        s, ctx.kept = gate.forward(z.requires_grad_(ctx.needs_input_grad[0]), *parameters)
        ctx.gate, ctx.squeeze = gate, squeeze
        ctx.save_for_backward(x, s, z, *parameters)
        return _scale(x, s)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, s, z, *parameters = ctx.saved_tensors
        ds = _sum_of_products(grad, x).to(s.dtype)
        dz, *dparameters = ctx.gate.gradients(z, parameters, ctx.kept, ds)
        if not ctx.needs_input_grad[0]:
            return None, None, None, *dparameters
        dmeans, dmaxima = _OF_MEANS_AND_MAXIMA[ctx.squeeze](dz)
        dx = _gradient_of_map(grad, s.to(x.dtype), dmeans, x)
        if dmaxima is not None:
            # a view of dx where that is in one of torch's memory formats
            positions = dx.flatten(2).scatter_add_(2, ctx.where[:, :, None], dmaxima[:, :, None].to(dx.dtype))
            dx = positions.view(x.shape)
        return dx, None, None, *dparameters


def _maxima(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima of channels, and at which position each is first found, (B, C) both."""
    if x.device.type != "cpu":
        return x.flatten(2).max(2)
    # torch's maximum along a dimension is no vector code on a CPU, pooling is
    maxima, where = F.max_pool2d(x, x.shape[2:], return_indices=True)
    return maxima.flatten(1), where.flatten(1)


def _means_and_maxima(x: Tensor) -> tuple[Tensor, Tensor]:
    maxima, where = _maxima(x)
    return torch.stack((SQUEEZES["mean"](x), maxima)), where


def _in_a_row(*maps: Tensor) -> int:
    """How many positions of maps on a CPU whose channels come last make a row of enough numbers; 0 of other maps."""
    x = maps[0]
    if x.device.type != "cpu" or not all(t.is_contiguous(memory_format=torch.channels_last) for t in maps):
        return 0
    times, positions = 1, x.shape[2] * x.shape[3]
    while times * x.shape[1] < _ROW and positions % (2 * times) == 0:
        times *= 2
    return times


def _rows(x: Tensor, times: int) -> Tensor:
    """A view (B, positions / times, times * C) of a map whose channels come last."""
    return x.permute(0, 2, 3, 1).view(x.shape[0], -1, times * x.shape[1])


def _for_rows(of_channels: Tensor, times: int) -> Tensor:
    """A vector (B, C) as (B, 1, times * C)."""
    return of_channels[:, None].expand(-1, times, -1).reshape(of_channels.shape[0], 1, -1)


_SQUEEZED: dict[str, Callable[[Tensor], tuple[Tensor, Tensor | None]]] = {
    "mean": lambda x: (SQUEEZES["mean"](x), None),
    "max": _maxima,
    "mean_and_max": _means_and_maxima,
}
"""SQUEEZES that give vectors, and where their maxima are."""

_OF_MEANS_AND_MAXIMA: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "mean": lambda z: (z, None),
    "max": lambda z: (None, z),
    "mean_and_max": lambda z: (None, None) if z is None else (z[0], z[1]),
}
"""What of a squeeze's result, or of its gradient, is of means, and what of maxima."""


def _sum_of_products(grad: Tensor, x: Tensor) -> Tensor:
    """Return sum(grad * x) over height and width, (B, C), on a CPU without writing a whole map of products."""
    if x.device.type != "cpu":
        kernels = kernels_for(x.device)
        found = None if kernels is None else kernels.sum_of_products(grad, x)
        return (grad * x).sum((2, 3)) if found is None else found
    times, size = _in_a_row(grad, x), _chunk_samples(x)
    rows = [_rows(t, times) if times else t.flatten(2).movedim(1, 2) for t in (grad, x)]
    products = torch.empty_like(rows[1][:size])
    sums = x.new_empty(x.shape[0], products.shape[2])
    for grad_part, x_part, out in zip(*(torch.split(t, size) for t in (*rows, sums)), strict=True):
        torch.sum(torch.mul(grad_part, x_part, out=products[: out.shape[0]]), 1, out=out)
    return sums if times <= 1 else sums.view(x.shape[0], times, -1).sum(1)


def _gradient_of_map(grad: Tensor, s: Tensor, dz: Tensor | None, x: Tensor) -> Tensor:
    """Return grad * s + dz / (H * W) in the memory format of x."""
    factor = s[:, :, None, None]
    dx = torch.empty_like(x)
    if dz is None:
        return torch.mul(grad, factor, out=dx)
    offset = dz / (x.shape[2] * x.shape[3])
    if (times := _in_a_row(grad, dx)) > 0:
        torch.addcmul(_for_rows(offset, times), _rows(grad, times), _for_rows(s, times), out=_rows(dx, times))
        return dx
    offset = offset[:, :, None, None]
    if x.device.type != "cpu" or x.is_contiguous(memory_format=torch.channels_last):
        return torch.addcmul(offset, grad, factor, out=dx)
    # torch's addcmul on a CPU does not vectorise a factor that is constant along rows; these two do
    size = _chunk_samples(x)
    for parts in zip(*(torch.split(t, size) for t in (grad, factor, offset, dx)), strict=True):
        grad_part, factor_part, offset_part, out = parts
        torch.mul(grad_part, factor_part, out=out).add_(offset_part)
    return dx


def _chunk_samples(x: Tensor) -> int:
    """Samples to work on at once: at least one for each thread, beyond that no more than its cache holds."""
    samples_per_thread = max(1, _CHUNK_BYTES_PER_THREAD // (x.shape[1:].numel() * x.element_size()))
    return torch.get_num_threads() * samples_per_thread
