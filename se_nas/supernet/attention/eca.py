"""ECA: an expansion of fewer channels has the middle of the widest kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.layers.attention.eca import eca_windows
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.attention.kind import AttentionUnit
from se_nas.supernet.attention.kind import ElasticKind, Units
from se_nas.supernet.mixed_gate import Activation, GateTensors, UnitFunctions
from se_nas.supernet.mixture import crop_masks

_ALL = slice(None)


@dataclass(frozen=True)
class ECATensors(GateTensors):
    """The kernel of ECA, (1, 1, width)."""

    across: Tensor

    def excitations(self, activation: Activation, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `GateTensors`."""
        windows = eca_windows(z, self.across.shape[-1])
        return torch.mv(windows.t(), self.across.flatten()).view(1, *z.shape), windows

    def gradients(self, activation: Activation, z: Tensor, kept: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        """See `GateTensors`."""
        # a channel is seen by those beside it from the other side
        around, mirrored = eca_windows(grad[0], self.across.shape[-1]), self.across.flatten().flip(0)
        return torch.mv(around.t(), mirrored).view(z.shape), torch.mv(kept, grad.flatten()).view(self.across.shape)


class ElasticECA(ElasticKind):
    """ECA, of which there is one option."""

    part = ECATensors
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
