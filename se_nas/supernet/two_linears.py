"""Two linear maps whose hidden units several options share, each a prefix of them: what SE's ratios and CBAM's are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from se_nas.supernet.mixed_gate import Activation, GatePart

_OWN_PRODUCT = 8192
"""Weights times options from which on leaving them out is worth a product more, at about 64 samples on a CPU."""


class TwoLinears(GatePart):
    """SE's two linear maps. Its tensors are masks on the hidden units that each option has (options, H), soft where
    those depend on another choice, and the maps (H, C), (H,), (C, H), (C,).

    Args:
        widths: the hidden units that each option has at the most.
        channels: C.
    """

    count = 5

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        #: Options in a row whose second map is one product, over as many hidden units as the first of them has.
        self._on_cpu: list[tuple[slice, int]] = []
        first, largest = 0, max(widths)
        for option, width in enumerate(widths):
            saved = (largest - width) * channels * (len(widths) - option)
            if saved > _OWN_PRODUCT and max(widths[option:]) == width:
                self._on_cpu.append((slice(first, option), largest))
                first, largest = option, width
        self._on_cpu.append((slice(first, len(widths)), largest))
        self._elsewhere = [(slice(0, len(widths)), max(widths))]

    def _groups(self, z: Tensor) -> list[tuple[slice, int]]:
        """One for all where launches are what costs."""
        return self._on_cpu if z.device.type == "cpu" else self._elsewhere

    def excitations(
        self, activation: Activation, z: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, list[Tensor]]]:
        """See `GatePart`."""
        masks, w1, b1, w2, b2 = tensors
        before = F.linear(z, w1, b1)
        hidden, beside = activation(before), masks[:, None]
        masked = [hidden[:, :width] * beside[options, :, :width] for options, width in self._groups(z)]
        excited = [F.linear(units, w2[:, : units.shape[-1]], b2) for units in masked]
        return excited[0] if len(excited) == 1 else torch.cat(excited), (before, hidden, masked)

    def gradients(
        self,
        activation: Activation,
        z: Tensor,
        tensors: Sequence[Tensor],
        kept: tuple[Tensor, Tensor, list[Tensor]],
        grad: Tensor,
    ) -> tuple[Tensor, ...]:
        """See `GatePart`."""
        (masks, w1, _, w2, _), (before, hidden, masked) = tensors, kept
        beside, of_masks, of_hidden, of_w2 = masks[:, None], [], [], []
        for (options, width), units in zip(self._groups(z), masked, strict=True):
            excited = grad[options].flatten(0, 1)
            of_units = torch.mm(excited, w2[:, :width]).view(units.shape)
            of_masks.append(_widened((of_units * hidden[:, :width]).sum(1), masks))
            of_hidden.append(_widened((of_units * beside[options, :, :width]).sum(0), hidden))
            of_w2.append(_widened(torch.mm(excited.t(), units.flatten(0, 1)), w2))
        of_before = activation.gradient(before, sum(of_hidden[1:], of_hidden[0]))
        return (
            torch.mm(of_before, w1),
            of_masks[0] if len(of_masks) == 1 else torch.cat(of_masks),
            torch.mm(of_before.t(), z),
            of_before.sum(0),
            sum(of_w2[1:], of_w2[0]),
            grad.sum((0, 1)),
        )


def _widened(x: Tensor, like: Tensor) -> Tensor:
    """With zeros for the hidden units that it lacks."""
    lacking = like.shape[-1] - x.shape[-1]
    return F.pad(x, (0, lacking)) if lacking else x
