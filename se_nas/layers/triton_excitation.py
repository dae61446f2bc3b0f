# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
"""SE's vectors (https://arxiv.org/abs/1709.01507, eq. 3) and sums over maps as Triton kernels, forward and backward.

Between the squeeze z and the scale s are two small linear maps. For them and their gradients torch launches a kernel an
operation, each of which has next to nothing to do. Here it is one forward and two backward:

    excite      a = w1 z + b1,  s = gate(w2 act(a) + b2)
    backward    du = ds * gate',  da = (w2^T du) * act',  dz = w1^T da
    weights     dw2 = du^T act(a),  db2 = sum(du),  dw1 = da^T z,  db1 = sum(da)

and sum(grad * x) over a map reads it once, where torch writes the products and reads them again. All is computed in
float32. Programs share nothing and add up in one order, so that results are the same from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Hidden units that a program keeps, at the most.
_MOST_HIDDEN = 256
_ACTIVATIONS = ("relu", "relu6", "silu", "hard_swish")
_TYPES = (torch.float32, torch.bfloat16, torch.float16)

_SAMPLES = 16  # the least that Triton multiplies matrices of


def excites(activation: str, z: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether there are kernels for the excitation of z by these weights and biases."""
    there = activation in _ACTIVATIONS and z.dim() == 2 and parameters[0].shape[0] <= _MOST_HIDDEN
    return there and all(t.dtype in _TYPES for t in (z, *parameters))


@triton.jit
def _activation(a, name: tl.constexpr):
    if name == "relu":
        return tl.maximum(a, 0.0)
    elif name == "relu6":
        return tl.minimum(tl.maximum(a, 0.0), 6.0)
    elif name == "silu":
        return a / (1.0 + tl.exp(-a))
    else:
        return a * tl.minimum(tl.maximum(a + 3.0, 0.0), 6.0) / 6.0


@triton.jit
def _activation_slope(a, name: tl.constexpr):
    if name == "relu":
        return tl.where(a > 0.0, 1.0, 0.0)
    elif name == "relu6":
        return tl.where((a > 0.0) & (a < 6.0), 1.0, 0.0)
    elif name == "silu":
        sigmoid = 1.0 / (1.0 + tl.exp(-a))
        return sigmoid * (1.0 + a * (1.0 - sigmoid))
    else:
        return tl.where(a <= -3.0, 0.0, tl.where(a < 3.0, a / 3.0 + 0.5, 1.0))


@triton.jit
def _gate(u, name: tl.constexpr):
    if name == "sigmoid":
        return 1.0 / (1.0 + tl.exp(-u))
    elif name == "hard_sigmoid":
        return tl.minimum(tl.maximum(u + 3.0, 0.0), 6.0) / 6.0
    elif name == "tanh":
        return 2.0 / (1.0 + tl.exp(-2.0 * u)) - 1.0
    else:
        return tl.maximum(u, 0.0)


@triton.jit
def _gate_slope(s, name: tl.constexpr):
    """By what the gate is."""
    if name == "sigmoid":
        return s * (1.0 - s)
    elif name == "hard_sigmoid":
        return tl.where((s > 0.0) & (s < 1.0), 1.0 / 6.0, 0.0)
    elif name == "tanh":
        return 1.0 - s * s
    else:
        return tl.where(s > 0.0, 1.0, 0.0)


@triton.jit
def _matrix(of, rows, columns, row_step, column_step, most_rows, most_columns):
    """Rows and columns of a matrix in float32, 0 where it has none."""
    there = (rows[:, None] < most_rows) & (columns[None, :] < most_columns)
    places = rows[:, None] * row_step + columns[None, :] * column_step
    return tl.load(of + places, mask=there, other=0.0).to(tl.float32)


@triton.jit
def _put(of, rows, columns, step, most_rows, most_columns, values):
    there = (rows[:, None] < most_rows) & (columns[None, :] < most_columns)
    tl.store(of + rows[:, None] * step + columns[None, :], values, mask=there)


@triton.jit
def _vector(of, places, step, most):
    return tl.load(of + places * step, mask=places < most, other=0.0).to(tl.float32)


@triton.jit
def _excite(
    z, w1, b1, w2, b2, a_out, s_out, samples, channels, hidden,
    z_row, z_column, w1_row, w1_column, b1_step, w2_row, w2_column, b2_step,
    activation: tl.constexpr, gate: tl.constexpr, B: tl.constexpr, C: tl.constexpr, H: tl.constexpr,
):  # fmt: skip
    rows, units, every = tl.program_id(0) * B + tl.arange(0, B), tl.arange(0, H), tl.arange(0, C)
    a = tl.zeros((B, H), tl.float32)
    for start in range(0, channels, C):
        seen = _matrix(z, rows, start + every, z_row, z_column, samples, channels)
        weights = _matrix(w1, start + every, units, w1_column, w1_row, channels, hidden)
        a += tl.dot(seen, weights, input_precision="ieee")
    a += _vector(b1, units, b1_step, hidden)[None, :]
    _put(a_out, rows, units, hidden, samples, hidden, a)
    excited = _activation(a, activation)
    for start in range(0, channels, C):
        weights = _matrix(w2, units, start + every, w2_column, w2_row, hidden, channels)
        u = tl.dot(excited, weights, input_precision="ieee")
        u += _vector(b2, start + every, b2_step, channels)[None, :]
        _put(s_out, rows, start + every, channels, samples, channels, _gate(u, gate))


@triton.jit
def _excite_backward(
    ds, s, a, w1, w2, du_out, da_out, dz_out, samples, channels, hidden,
    w1_row, w1_column, w2_row, w2_column,
    activation: tl.constexpr, gate: tl.constexpr, B: tl.constexpr, C: tl.constexpr, H: tl.constexpr,
):  # fmt: skip
    rows, units, every = tl.program_id(0) * B + tl.arange(0, B), tl.arange(0, H), tl.arange(0, C)
    da = tl.zeros((B, H), tl.float32)
    for start in range(0, channels, C):
        scales = _matrix(s, rows, start + every, channels, 1, samples, channels)
        du = _matrix(ds, rows, start + every, channels, 1, samples, channels) * _gate_slope(scales, gate)
        _put(du_out, rows, start + every, channels, samples, channels, du)
        weights = _matrix(w2, start + every, units, w2_row, w2_column, channels, hidden)
        da += tl.dot(du, weights, input_precision="ieee")
    da *= _activation_slope(_matrix(a, rows, units, hidden, 1, samples, hidden), activation)
    _put(da_out, rows, units, hidden, samples, hidden, da)
    for start in range(0, channels, C):
        weights = _matrix(w1, units, start + every, w1_row, w1_column, hidden, channels)
        dz = tl.dot(da, weights, input_precision="ieee")
        _put(dz_out, rows, start + every, channels, samples, channels, dz)


@triton.jit
def _of_weights(
    du, da, a, z, dw1, db1, dw2, db2, samples, channels, hidden, z_row, z_column,
    activation: tl.constexpr, B: tl.constexpr, C: tl.constexpr, H: tl.constexpr,
):  # fmt: skip
    mine, units, every = tl.program_id(0) * C + tl.arange(0, C), tl.arange(0, H), tl.arange(0, B)
    of_w1, of_w2 = tl.zeros((H, C), tl.float32), tl.zeros((C, H), tl.float32)
    of_b1, of_b2 = tl.zeros((H,), tl.float32), tl.zeros((C,), tl.float32)
    for start in range(0, samples, B):
        rows = start + every
        excited = _activation(_matrix(a, rows, units, hidden, 1, samples, hidden), activation)
        of_u = _matrix(du, rows, mine, channels, 1, samples, channels)
        of_a = _matrix(da, rows, units, hidden, 1, samples, hidden)
        seen = _matrix(z, rows, mine, z_row, z_column, samples, channels)
        of_w2 += tl.dot(tl.trans(of_u), excited, input_precision="ieee")
        of_w1 += tl.dot(tl.trans(of_a), seen, input_precision="ieee")
        of_b2 += tl.sum(of_u, 0)
        of_b1 += tl.sum(of_a, 0)
    _put(dw2, mine, units, hidden, channels, hidden, of_w2)
    _put(dw1, units, mine, channels, hidden, channels, of_w1)
    tl.store(db2 + mine, of_b2, mask=mine < channels)
    tl.store(db1 + units, of_b1, mask=(units < hidden) & (tl.program_id(0) == 0))


@triton.jit
def _products(
    one, other, out, channels, positions, one_b, one_c, one_p, other_b, other_c, other_p,
    C: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    sample, mine, every = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C), tl.arange(0, P)
    total = tl.zeros((P, C), tl.float32)
    for start in range(0, positions, P):
        a = _matrix(one + sample * one_b, start + every, mine, one_p, one_c, positions, channels)
        b = _matrix(other + sample * other_b, start + every, mine, other_p, other_c, positions, channels)
        total += a * b
    tl.store(out + sample * channels + mine, tl.sum(total, 0), mask=mine < channels)


class Excited:
    """What the gradients of an excitation need: (B, H) before the activation and the scale."""

    def __init__(self, names: tuple[str, str], a: Tensor, s: Tensor) -> None:
        self._names, self._a, self._s = names, a, s

    def gradients(self, z: Tensor, parameters: Sequence[Tensor], ds: Tensor, of_weights: bool) -> list[Tensor | None]:
        """That of z, and of the weights and biases where they are wanted, of the gradient of the scale."""
        w1, _, w2, _ = parameters
        (samples, channels), hidden = z.shape, w1.shape[0]
        ds = ds.contiguous()
        du, dz = (ds.new_empty(ds.shape, dtype=torch.float32) for _ in range(2))
        da = torch.empty_like(self._a)
        activation, gate = self._names
        sizes = _sizes(hidden)
        steps = (*w1.stride(), *w2.stride())
        _excite_backward[(triton.cdiv(samples, _SAMPLES),)](
            ds, self._s, self._a, w1, w2, du, da, dz, samples, channels, hidden, *steps,
            activation=activation, gate=gate, **sizes,
        )  # fmt: skip
        if not of_weights:
            return [dz.to(z.dtype), None, None, None, None]
        found = [torch.empty(t.shape, dtype=torch.float32, device=t.device) for t in parameters]
        _of_weights[(triton.cdiv(channels, sizes["C"]),)](
            du, da, self._a, z, *found, samples, channels, hidden, *z.stride(), activation=activation, **sizes
        )
        return [dz.to(z.dtype), *(gradient.to(t.dtype) for gradient, t in zip(found, parameters, strict=True))]


def excite(names: tuple[str, str], z: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Excited]:
    """The scale (B, C) in float32 of squeezed channels z (B, C), and what its gradients need.

    Args:
        names: of the activation and of the gate; see `excites`.
    """
    (samples, channels), hidden = z.shape, w1.shape[0]
    a, s = z.new_empty(samples, hidden, dtype=torch.float32), z.new_empty(samples, channels, dtype=torch.float32)
    steps = (*z.stride(), *w1.stride(), b1.stride(0), *w2.stride(), b2.stride(0))
    activation, gate = names
    _excite[(triton.cdiv(samples, _SAMPLES),)](
        z, w1, b1, w2, b2, a, s, samples, channels, hidden, *steps,
        activation=activation, gate=gate, **_sizes(hidden),
    )  # fmt: skip
    return s, Excited(names, a, s)


def sum_of_products(one: Tensor, other: Tensor) -> Tensor | None:
    """The sum of one * other over height and width (B, C), in float32; None of maps whose rows do not follow on, and of
    float64.
    """
    samples, channels, height, width = one.shape
    follow = all(t.stride(2) == width * t.stride(3) or height == 1 for t in (one, other))
    if not follow or any(t.dtype not in _TYPES for t in (one, other)):
        return None
    out = one.new_empty(samples, channels, dtype=torch.float32)
    steps = [step for t in (one, other) for step in (t.stride(0), t.stride(1), t.stride(3))]
    last = one.stride(1) == 1
    sizes = {"C": 64, "P": 32} if last else {"C": 16, "P": 128}
    _products[(samples, triton.cdiv(channels, sizes["C"]))](one, other, out, channels, height * width, *steps, **sizes)
    return out


def _sizes(hidden: int) -> dict[str, int]:
    """What a program takes at once, so that all of it stays in registers (as ptxas tells of sm_80 and sm_90)."""
    units = max(16, int(triton.next_power_of_2(hidden)))
    return {"B": _SAMPLES, "C": 16 if units > 128 else 32, "H": units, "num_warps": 8 if units > 64 else 4}
