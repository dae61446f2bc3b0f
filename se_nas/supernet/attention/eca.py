"""ECA: an expansion of fewer channels has the middle of the widest kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.layers.attention.eca import eca_windows
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, Units
from se_nas.supernet.mixed_gate import Activation, GatePart, UnitFunctions
from se_nas.supernet.mixture import crop_masks

_ALL = slice(None)


class ECAPart(GatePart):
    """ECA's gates. Its tensor is the kernel, (1, 1, width)."""

    count = 1

    def excitations(self, activation: Activation, z: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """See `GatePart`."""
        (across,) = tensors
        windows = eca_windows(z, across.shape[-1])
        return torch.mv(windows.t(), across.flatten()).view(1, *z.shape), windows

    def gradients(
        self, activation: Activation, z: Tensor, tensors: Sequence[Tensor], kept: Tensor, grad: Tensor
    ) -> tuple[Tensor, ...]:
        """See `GatePart`."""
        (across,) = tensors
        # a channel is seen by those beside it from the other side
        around, mirrored = eca_windows(grad[0], across.shape[-1]), across.flatten().flip(0)
        return torch.mv(around.t(), mirrored).view(z.shape), torch.mv(kept, grad.flatten()).view(across.shape)


class ElasticECA(ElasticKind):
    """ECA, of which there is one option."""

    part = ECAPart()
    masks: Tensor

    def __init__(self, units: Units, largest: AttentionUnit, functions: UnitFunctions) -> None:
        super().__init__(units, largest, functions)
        self.register_buffer("masks", crop_masks([eca_kernel(unit.channels) for unit in units[0]]), persistent=False)

    def cuts(self, unit: AttentionUnit) -> dict[str, tuple[slice, ...]]:
        """See `ElasticKind`."""
        width = eca_kernel(self.largest.channels)
        rim = (width - eca_kernel(unit.channels)) // 2
        return {"across": (_ALL, _ALL, slice(rim, width - rim))}

    def tensors(self, shared: nn.Module, sizes: Tensor) -> tuple[Tensor, ...]:
        """See `ElasticKind`."""
        across = cast(nn.Conv1d, shared.across).weight
        return (across if len(sizes) == 1 else across * torch.mv(self.masks.t(), sizes),)
