"""Two linear maps whose hidden units several options share, each a prefix of them: what SE's ratios and CBAM's are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from se_nas.supernet.mixed_gate import Activation, GateTensors


@dataclass(frozen=True)
class TwoLinears(GateTensors):
    """The maps, and what of the hidden units each option has.

    Attributes:
        hidden: (options, H) masks on the hidden units.
        w1, b1, w2, b2: (H, C), (H,), (C, H), (C,).
    """

    hidden: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def excitations(self, activation: Activation, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `GateTensors`."""
        first = F.linear(z, self.w1, self.b1)
        hidden = activation(first)
        masked = hidden * self._masks(z)
        return F.linear(masked, self.w2, self.b2), (first, hidden, masked)

    def gradients(
        self, activation: Activation, z: Tensor, kept: tuple[Tensor, ...], grad: Tensor
    ) -> tuple[Tensor, ...]:
        """See `GateTensors`."""
        first, hidden, masked = kept
        rows = grad.flatten(0, -2)
        of_masked = torch.mm(rows, self.w2).view(masked.shape)
        of_first = activation.gradient(first, (of_masked * self._masks(z)).sum(0)).flatten(0, -2)
        return (
            torch.mm(of_first, self.w1).view(z.shape),
            (of_masked * hidden).flatten(1, -2).sum(1),
            torch.mm(of_first.t(), z.flatten(0, -2)),
            of_first.sum(0),
            torch.mm(rows.t(), masked.flatten(0, -2)),
            rows.sum(0),
        )

    def _masks(self, z: Tensor) -> Tensor:
        return self.hidden.view(len(self.hidden), *[1] * (z.dim() - 1), -1)
