"""Squeeze-and-Excitation (https://arxiv.org/abs/1709.01507, eq. 3): the gates of all channels by two linear maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.gate import ByAutograd, Gate
from se_nas.layers.kernels import kernels_for
from se_nas.layers.squeeze_excite import ChannelAttention
from se_nas.space.attention.kind import AttentionUnit


def build(unit: AttentionUnit) -> SqueezeExcite:
    """The unit."""
    return SqueezeExcite(unit.channels, unit.hidden, unit.activation, unit.gate, unit.squeeze)


class SqueezeExcite(ChannelAttention):
    """SE: the gates of all channels by two linear maps.

    Args:
        channels: channels C of the feature map.
        hidden: width of the bottleneck, C / r in the paper.
        activation: a name in ACTIVATIONS.
        gate: a name in GATES.
        squeeze: a name in SQUEEZES that gives one value a channel.
    """

    def __init__(
        self, channels: int, hidden: int, activation: str = "relu", gate: str = "sigmoid", squeeze: str = "mean"
    ) -> None:
        super().__init__(squeeze)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.activation = activation
        self.gate = gate
        # its forward, not itself: torch.fx refuses to call a module that is no submodule
        self._activate = ACTIVATIONS[activation]().forward
        for linear in (self.reduce, self.expand):
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)

    def gates_of(self, z: Tensor) -> Tensor:
        """See `ChannelAttention`."""
        return GATES[self.gate](self.expand(self._activate(self.reduce(z))))

    def fused_gate(self) -> tuple[Gate, tuple[Tensor, ...]]:
        """See `ChannelAttention`."""
        weights = (self.reduce.weight, self.reduce.bias, self.expand.weight, self.expand.bias)
        return gate_function(self.activation, self.gate), weights

    def extra_repr(self) -> str:
        """Name the activation, the gate and the squeeze, for `repr`."""
        return f"activation={self.activation}, gate={self.gate}, squeeze={self.squeeze}"


def gate_function(activation: str, gate: str) -> Gate:
    """Return the gate of eq. 3 as a function (z, w1, b1, w2, b2) -> s, for `squeeze_scale`; it can be pickled.

    Shapes: z (..., C), w1 (hidden, C), b1 (hidden,), w2 (C, hidden), b2 (C,), s (..., C).

    Args:
        activation: a name in ACTIVATIONS, between the two linear maps.
        gate: a name in GATES, after them.
    """
    return _TwoLayerGate(activation, gate)


class _TwoLayerGate(ByAutograd):
    """By kernels of its own where there are some; when it is called, by torch's, so that anything can follow it."""

    def __init__(self, activation: str, gate: str) -> None:
        self._names = (activation, gate)
        self._formula = partial(_two_layer_gate, ACTIVATIONS[activation]().forward, GATES[gate])
        super().__init__(self._formula)

    def forward(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Any]:
        """See `HandWrittenGate`."""
        kernels = kernels_for(z.device)
        if kernels is None or not kernels.excites(self._names[0], z, parameters):
            return super().forward(z, *parameters)
        scale, excited = kernels.excite(self._names, z.detach(), *(t.detach() for t in parameters))
        return scale, excited

    def gradients(self, z: Tensor, parameters: Sequence[Tensor], kept: Any, grad: Tensor) -> Sequence[Tensor | None]:
        """See `HandWrittenGate`."""
        if isinstance(kept, tuple):
            return super().gradients(z, parameters, kept, grad)
        found: list[Tensor | None] = kept.gradients(z, parameters, grad, any(t.requires_grad for t in parameters))
        return found

    def __call__(self, z: Tensor, *parameters: Tensor) -> Tensor:
        """See `Gate`."""
        return self._formula(z, *parameters)


def _two_layer_gate(
    activation: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
    z: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
) -> Tensor:
    return gate(F.linear(activation(F.linear(z, w1, b1)), w2, b2))
