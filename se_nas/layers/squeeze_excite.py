"""Squeeze-and-Excitation (https://arxiv.org/abs/1709.01507, eq. 2-4) in the fewest passes over its feature map.

An SE block does almost no arithmetic: what it costs is the memory traffic of reading and writing its feature map.
Written with autograd it passes over the map 13 times, forward and backward; 7 is the least:

    forward    z = mean(x)                      reads x
               out = x * s                      reads x, writes out
    backward   ds = sum(grad * x)               reads grad and x
               dx = grad * s + dz / (H * W)     reads grad, writes dx

On a CPU the products of the third step are added up in a buffer of an eighth of a map, which passes do not count; on a
GPU, where torch has no such reduction in one kernel, they are written and read once more, which makes 9.

Where channels are squeezed to their maxima, too, a pass more finds them, and their gradient takes five: it goes to all
positions that equal them.

Everything between z and s is a graph over (B, C) vectors, so `squeeze_scale` leaves that part to autograd and any gate,
fixed or searched, shares these four steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Gate = Callable[..., Tensor]
"""A function gate(z, *parameters) of the squeezed vector (B, C) that returns the scale (B, C)."""

_BANDS = 8
"""Bands of rows that a map of products is added up from, in a buffer of an eighth of a map."""

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
        result: Tensor = _SqueezeScale.apply(x, gate, squeeze, *parameters)  # type: ignore[no-untyped-call]
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
        (before,) = packed.saved_tensors
        return _scale(before, packed.gate_graph[-1].detach())

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


def hand_written_backward_applies(x: Tensor, parameters: Iterable[Tensor]) -> bool:
    """Whether there is a gradient to take, and nothing is looking that wants to see plain operations instead."""
    return (
        type(x) in (Tensor, nn.Parameter)  # not a torch.fx proxy, a fake tensor or another stand-in
        and torch.is_grad_enabled()
        and (x.requires_grad or any(p.requires_grad for p in parameters))
        and not torch.compiler.is_compiling()  # the compiler fuses the plain formula itself
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # also in torch.onnx's older exporter
        and not torch._C._are_functorch_transforms_active()  # vmap, torch.func.grad: they refuse this kind of function
    )


class _SqueezeScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Gate, squeeze: str, *parameters: Tensor) -> Tensor:
        x_needed, _, _, *parameters_needed = ctx.needs_input_grad
        with torch.enable_grad():
            z = _SQUEEZED[squeeze](x.detach()).requires_grad_(x_needed)
            leaves = [p.detach().requires_grad_(n) for p, n in zip(parameters, parameters_needed, strict=True)]
            s = gate(z, *leaves)
        ctx.save_for_backward(x)
        ctx.gate_graph = (z, leaves, s)  # tiny, and points at nothing outside itself
        ctx.squeeze = squeeze
        return _scale(x, s.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        z, leaves, s = ctx.gate_graph
        dz, *dleaves = _gate_gradients(s, [z, *leaves], grad, x)
        if not ctx.needs_input_grad[0]:
            return None, None, None, *dleaves
        dmeans, dmaxima = _OF_MEANS_AND_MAXIMA[ctx.squeeze](dz)
        dx = _gradient_of_map(grad, s.detach().to(x.dtype), dmeans, x)
        if dmaxima is not None:
            _add_to_maxima(dx, x, _OF_MEANS_AND_MAXIMA[ctx.squeeze](z.detach())[1], dmaxima)
        return dx, None, None, *dleaves


def _maxima(x: Tensor) -> Tensor:
    """The maxima of channels, (B, C)."""
    if (times := _in_a_row(x)) == 0:
        return x.amax((2, 3))
    return _rows(x, times).amax(1).view(len(x), times, -1).amax(1)


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
    return x.permute(0, 2, 3, 1).view(len(x), -1, times * x.shape[1])


def _for_rows(of_channels: Tensor, times: int) -> Tensor:
    """A vector (B, C) as (B, 1, times * C)."""
    return of_channels.repeat(1, times)[:, None]


_SQUEEZED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": SQUEEZES["mean"],
    "max": _maxima,
    "mean_and_max": lambda x: torch.stack((SQUEEZES["mean"](x), _maxima(x))),
}
"""SQUEEZES that give vectors, in few passes."""

_OF_MEANS_AND_MAXIMA: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "mean": lambda z: (z, None),
    "max": lambda z: (None, z),
    "mean_and_max": lambda z: (None, None) if z is None else (z[0], z[1]),
}
"""What of a squeeze's result, or of its gradient, is of means, and what of maxima."""


def _add_to_maxima(dx: Tensor, x: Tensor, maxima: Tensor, dmaxima: Tensor) -> None:
    """Add the gradient (B, C) of maxima to that of their map; positions that share a maximum share its gradient."""
    times = _in_a_row(dx, x)
    if times == 0:
        at = torch.ge(x, maxima[:, :, None, None], out=torch.empty_like(x))
        dx.addcmul_(at, (dmaxima / at.sum((2, 3)).clamp(min=1))[:, :, None, None])
        return
    rows = _rows(x, times)
    at = torch.ge(rows, _for_rows(maxima, times), out=torch.empty_like(rows))
    shares = dmaxima / at.sum(1).view(len(at), times, -1).sum(1).clamp(min=1)
    _rows(dx, times).addcmul_(at, _for_rows(shares, times))


def _gate_gradients(s: Tensor, inputs: list[Tensor], grad: Tensor, x: Tensor) -> list[Tensor | None]:
    """The gradient of each of the gate's inputs, None where there is none, given the gradient of the output map."""
    wanted = [t for t in inputs if t.requires_grad]
    if not s.requires_grad:  # a constant gate
        return [None] * len(inputs)
    ds = _sum_of_products(grad, x).to(s.dtype)
    # retained, so that the outer graph may be walked again; it goes when the outer graph goes
    found = iter(torch.autograd.grad(s, wanted, ds, retain_graph=True, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in inputs]


def _sum_of_products(grad: Tensor, x: Tensor) -> Tensor:
    """Return sum(grad * x) over height and width, (B, C), on a CPU without writing a whole map of products."""
    if x.device.type != "cpu":
        return (grad * x).sum((2, 3))
    rows = -(-x.shape[2] // _BANDS)
    (grad_band, x_band), *rest = zip(torch.split(grad, rows, 2), torch.split(x, rows, 2), strict=True)
    total: Tensor = grad_band * x_band
    for grad_band, x_band in rest:  # the last may have fewer rows
        total[:, :, : x_band.shape[2]].addcmul_(grad_band, x_band)
    return total.sum((2, 3))


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
