"""A `Network` with the methods and attributes that timm's models have."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from se_nas.errors import CheckpointError, ConfigError
from se_nas.layers.network import Head, Network, initialise
from se_nas.layers.torchvision_guard import import_timm
from se_nas.records.checkpoint import KIND
from se_nas.space.specs import HeadSpec, NetworkSpec
from se_nas.training.trained_network import better_kind, check_fit

import_timm()  # even beside a torchvision that does not fit torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d  # noqa: E402
from timm.models import checkpoint  # noqa: E402

CLASSIFIER = "head.classifier"
POOLINGS = ("avg", "max", "avgmax", "catavgmax", "")

_log = logging.getLogger(__name__)


class TimmNetwork(Network):
    """A `Network` with the methods and attributes that timm's models have.

    It can be traced (`torch.fx`, `torch.jit.trace`), compiled and exported; `torch.jit.script` is not supported.

    Args:
        spec: the network; its weights are initialised as for training.
        num_classes: logits; None for those of `spec`, 0 for no classifier.
        in_chans: channels of the images; None for those of `spec`.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" for none, which takes num_classes 0.
        drop_rate: dropout before the classifier, in [0, 1); None for that of `spec`.
        drop_path_rate: stochastic depth, in [0, 1), see `Network.set_drop_path`.
        device, dtype: of the parameters; None for torch's defaults.

    Attributes:
        num_features: channels of `forward_features`.
        head_hidden_size: inputs of the classifier.
        feature_info: for each reduction (input pixels per output pixel) the last layer of it: `num_chs` channels,
            `reduction`, `module`, `layer`, its number in the order in which they run, and `blocks` up to its end.

    Raises:
        ConfigError: a pooling that this network's head cannot have.
    """

    global_pool: SelectAdaptivePool2d

    def __init__(
        self,
        spec: NetworkSpec,
        num_classes: int | None = None,
        in_chans: int | None = None,
        global_pool: str = "avg",
        drop_rate: float | None = None,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(with_channels(spec, in_chans))
        initialise(self)
        if drop_rate is not None:
            self.set_dropout(drop_rate)
        self.set_drop_path(drop_path_rate)
        self.in_chans = self.spec.in_channels
        self.num_features = spec.head.width or spec.head.in_channels
        self.feature_info = feature_levels(spec)
        self.grad_checkpointing = False
        self.to(device=device, dtype=dtype)
        self.reset_classifier(spec.head.classes if num_classes is None else num_classes, global_pool)

    @property
    def _model_args(self) -> dict[str, Any]:
        """What timm saves for the hub to build the model from again: the network itself, not the path of its file."""
        return {**self.__dict__.get("model_args", {}), "architecture": self.spec.to_dict()}

    @_model_args.setter
    def _model_args(self, given: dict[str, Any]) -> None:
        self.__dict__["model_args"] = given

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, num_features, H / reduction, W / reduction)."""
        x, _ = run_layers(layers_of(self), x, self.grad_checkpointing)
        return self.head.convolved(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, num_features, H, W) to (B, num_classes), or with `pre_logits` to (B, head_hidden_size).

        Without pooling the result has the two dimensions of x too.
        """
        x = x.flatten(1) if self.spec.head.flatten else self.global_pool(x)
        x = self.head.penultimate(x.movedim(1, -1)).movedim(-1, 1)
        if pre_logits:
            return x
        logits: Tensor = self.head.classifier(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """What `forward_features` returns, and the maps of `feature_info` on the way.

        Args:
            x: (B, in_chans, H, W).
            indices: which maps: a list of their numbers, the last n, or None for all.
            norm: without effect, as every layer ends in its own norm.
            stop_early: with `intermediates_only`, run no layer after the last map that is wanted.
            output_fmt: "NCHW" alone.
            intermediates_only: return the maps alone.

        Raises:
            ConfigError: there is no such map, or another format.
        """
        if output_fmt != "NCHW":
            raise timm_fault(f"output_fmt: must be NCHW, but got {output_fmt}")
        ends = [self.feature_info[index]["layer"] for index in taken_levels(self.feature_info, indices)]
        layers = layers_of(self)
        if stop_early and intermediates_only:
            layers = layers[: max(ends) + 1]
        x, maps = run_layers(layers, x, self.grad_checkpointing, ends)
        return maps if intermediates_only else (self.head.convolved(x), maps)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Leave out every layer after the last map that is wanted; `forward_features` then returns that map.

        Args:
            indices: as in `forward_intermediates`.
            prune_norm: without effect, as every layer ends in its own norm.
            prune_head: leave out the head even where it is all that comes after that map; else it then stays.

        Returns:
            The numbers of the maps that are wanted.

        Raises:
            ConfigError: there is no such map.
        """
        taken = taken_levels(self.feature_info, indices)
        last = self.feature_info[max(taken)]
        if not prune_head and last is self.feature_info[-1]:
            return taken
        self.feature_info = self.feature_info[: max(taken) + 1]
        self.stem = nn.Sequential(OrderedDict(list(self.stem.named_children())[: last["layer"] + 1]))
        self.blocks = self.blocks[: last["blocks"]]
        numbered = [(f"{number}" if number > 1 else "", conv) for number, conv in enumerate(self.spec.stem_convs, 1)]
        stem, *more = (
            conv if hasattr(self.stem, f"pool{number}") else replace(conv, pool=False)
            for number, conv in numbered
            if hasattr(self.stem, f"conv{number}")
        )
        blocks = self.spec.blocks[: last["blocks"]]
        side = blocks[-1].out_resolution if blocks else (stem, *more)[-1].out_resolution
        own = self.spec.head
        head = HeadSpec(
            in_channels=last["num_chs"],
            width=0,
            hidden=0,
            activation=own.activation,
            dropout=self.head.dropout.p,
            classes=own.classes,
            resolution=side,
        )
        self.head = Head(head).train(self.training)
        self.spec = replace(self.spec, stem=stem, stem_more=tuple(more), blocks=blocks, head=head)
        self.num_features = last["num_chs"]
        self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or an identity where there is no classifier."""
        return self.head.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one (0 classes: by none), and the pooling where one is named.

        Raises:
            ConfigError: a pooling that this network's head cannot have.
        """
        head, pooling = self.spec.head, self.global_pool.pool_type if global_pool is None else global_pool
        if pooling not in POOLINGS:
            raise timm_fault(f"global_pool: must be one of {', '.join(map(repr, POOLINGS))}, but got {pooling!r}")
        if not pooling and num_classes:
            raise timm_fault(f"global_pool: must be given for a classifier of {num_classes} classes, but got ''")
        if head.flatten and pooling != "avg":
            raise timm_fault(f"global_pool: must be avg, as the head reads every position, but got {pooling!r}")
        if head.hidden and pooling == "catavgmax":
            raise timm_fault(
                f"global_pool: must keep the {self.num_features} inputs of the hidden layer, but got {pooling}"
            )
        self.global_pool = SelectAdaptivePool2d(pool_type=pooling, flatten=bool(pooling)).train(self.training)
        self.num_classes = num_classes
        self.head_hidden_size = head.features * (2 if pooling == "catavgmax" else 1)
        classifier: nn.Module = nn.Identity()
        if num_classes:
            like = next(self.parameters())
            size = (self.head_hidden_size, num_classes)
            classifier = nn.Linear(*size, bias=head.classifier_bias, device=like.device, dtype=like.dtype)
            initialise(classifier)
        self.head.add_module("classifier", classifier.train(self.training))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep of each block its input alone, and run it again in the backward pass: less memory for more time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's groups of layers, for layer-wise learning rates: by block, or `coarse` by reduction."""
        if not coarse:
            return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}
        groups, start = [], 0
        for level, info in enumerate(self.feature_info):
            if start < info["blocks"]:
                numbers = "|".join(map(str, range(start, info["blocks"])))
                groups.append((rf"^blocks\.(?:{numbers})\.", (level,)))
            start = info["blocks"]
        return {"stem": r"^stem", "blocks": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights, or what a checkpoint of a retraining holds; of the latter those that did better.

        A classifier of another number of classes is left as it is, with a warning. Weights for another number of
        `in_chans` do not fit.

        Raises:
            CheckpointError: with `strict`, the other weights are not this architecture's.
        """
        own, weights = self.state_dict(), dict(weights_in(state_dict))
        found = weights.get(f"{CLASSIFIER}.weight")
        if found is not None and len(found) != self.num_classes:
            for name in (f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"):
                weights.pop(name, None)
                if name in own:
                    weights[name] = own[name]
            if self.num_classes:
                _log.warning(
                    "the weights are of a classifier of %d classes; that of %d classes is left as it was initialised",
                    len(found),
                    self.num_classes,
                )
        if strict:
            check_fit(weights, own)
        return super().load_state_dict(weights, strict, assign)


def with_channels(spec: NetworkSpec, in_chans: int | None) -> NetworkSpec:
    """The network for images of another number of channels; None keeps its own."""
    if in_chans is None:
        return spec
    return replace(spec, in_channels=in_chans, stem=replace(spec.stem, in_channels=in_chans))


def layers_of(network: Any) -> list[nn.Module]:
    """What runs before the head, in its order."""
    return [*network.stem, *network.blocks]


def run_layers(
    layers: Sequence[nn.Module], x: Tensor, checkpointing: bool, ends: Sequence[int] = ()
) -> tuple[Tensor, list[Tensor]]:
    """The last layer's output, and those of the layers numbered in `ends`."""
    maps = []
    for number, layer in enumerate(layers):
        x = checkpoint(layer, x) if checkpointing and hasattr(layer, "spec") else layer(x)
        if number in ends:
            maps.append(x)
    return x, maps


class FeatureLevel(TypedDict):
    """The last map of a reduction, in timm's words and two of ours: the layer's number, and the blocks up to it."""

    num_chs: int
    reduction: int
    module: str
    layer: int
    blocks: int


def feature_levels(spec: NetworkSpec) -> list[FeatureLevel]:
    """Of each reduction the last map that has it: channels, reduction, module, layer and number of blocks."""
    stem = []
    for number, conv in enumerate(spec.stem_convs, 1):
        parts = {"conv": conv.stride, "norm": 1, "activation": 1, "pool": 2}
        left_out = {"norm": not conv.norm, "pool": not conv.pool}
        stem += [
            (f"stem.{part}{number if number > 1 else ''}", conv.out_channels, stride)
            for part, stride in parts.items()
            if not left_out.get(part)
        ]
    blocks = [(f"blocks.{index}", block.out_channels, block.stride) for index, block in enumerate(spec.blocks)]
    levels: dict[int, FeatureLevel] = {}
    reduction = 1
    for number, (name, channels, stride) in enumerate(stem + blocks):
        reduction *= stride
        levels[reduction] = FeatureLevel(
            num_chs=channels,
            reduction=reduction,
            module=name,
            layer=number,
            blocks=max(0, number + 1 - len(stem)),
        )
    return list(levels.values())


def taken_levels(levels: Sequence[FeatureLevel], indices: int | Sequence[int] | None) -> list[int]:
    """The numbers of the maps that `indices` asks for: a list of them, the last n, or None for all."""
    numbers = range(len(levels))
    asked = numbers if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
    try:
        taken = [numbers[index] for index in asked]
    except IndexError:
        taken = []
    if not taken:
        reductions = ", ".join(str(level["reduction"]) for level in levels)
        raise timm_fault(
            f"out_indices: must be of the {len(levels)} maps, of reductions {reductions}, but got {indices}"
        )
    return taken


def timm_fault(problem: str) -> ConfigError:
    """An error of what a user gave to the timm model."""
    return ConfigError("timm model se_nas", [problem])


def weights_in(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict itself, or that in a checkpoint of a retraining: of its weights those that did better."""
    if state.get("kind") != KIND:
        return state
    held = state["state"]
    if not isinstance(held.get("network"), dict):
        raise CheckpointError(f"the checkpoint must hold the weights of a network, but holds {', '.join(held)}")
    weights: Mapping[str, Tensor] = held[better_kind(held)]
    return weights
