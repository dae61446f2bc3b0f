"""A network as a pyramid of feature maps, as timm's `features_only=True` gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from se_nas.export.timm_network import TimmNetwork, layers_of, run_layers, taken_levels, weights_in
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.specs import NetworkSpec
from se_nas.training.trained_network import check_fit

import_timm()  # even beside a torchvision that does not fit torch
from timm.models import FeatureInfo  # noqa: E402


class TimmFeatures(nn.Module):
    """The pyramid of feature maps of a network, for detectors; what `features_only=True` makes.

    Args:
        spec, in_chans, drop_path_rate, device, dtype: as in `TimmNetwork`.
        out_indices: which maps of `TimmNetwork.feature_info`: a list of their numbers, or the last n; None for all.

    Layers after the last map are left out.

    Raises:
        ConfigError: the network has no such map.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        in_chans: int | None = None,
        out_indices: int | Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        network = TimmNetwork(spec, 0, in_chans, drop_path_rate=drop_path_rate, device=device, dtype=dtype)
        levels = network.feature_info
        taken = taken_levels(levels, out_indices)
        self.in_chans = network.in_chans
        self.stem = network.stem
        self.blocks = network.blocks[: levels[max(taken)]["blocks"]]
        self.feature_info = FeatureInfo(levels, tuple(taken))
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to maps (B, num_chs, H / reduction, W / reduction), in the order of the network."""
        return run_layers(layers_of(self), x, self.grad_checkpointing, self.feature_info.get("layer"))[1]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """See `TimmNetwork.set_grad_checkpointing`."""
        self.grad_checkpointing = enable

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a whole network's weights, or what a checkpoint of a retraining holds, without what is left out here.

        Raises:
            CheckpointError: with `strict`, the other weights are not this architecture's.
        """
        weights = {name: value for name, value in weights_in(state_dict).items() if not self._left_out(name)}
        if strict:
            check_fit(weights, self.state_dict())
        return super().load_state_dict(weights, strict, assign)

    def _left_out(self, name: str) -> bool:
        part, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        return part == "head" or (part == "blocks" and number.isdecimal() and int(number) >= len(self.blocks))
