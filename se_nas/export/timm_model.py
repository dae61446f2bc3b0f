"""A network as a timm model (https://github.com/huggingface/pytorch-image-models): importing this registers `se_nas`.

    import se_nas.export.timm_model  # first: it imports timm even beside a torchvision that does not fit torch
    import timm

    model = timm.create_model("se_nas", architecture="architecture.json", checkpoint_path="weights.pth")
    backbone = timm.create_model("se_nas", architecture="architecture.json", features_only=True, out_indices=(1, 2, 3))

Parameters have the names that they have in `Network`, so that weights pass freely between the two.
"""

from __future__ import annotations

import io
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from se_nas.errors import ArchitectureError, CheckpointError, ConfigError
from se_nas.layers.network import Head, Network, initialise
from se_nas.layers.torchvision_guard import import_timm
from se_nas.records.checkpoint import KIND
from se_nas.records.checksum import checksum_fault, with_checksum
from se_nas.records.files import write_atomic, write_json
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, network_from_dict, save_architecture
from se_nas.space.specs import HeadSpec, NetworkSpec
from se_nas.training.trained_network import check_fit

timm = import_timm()
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d  # noqa: E402
from timm.models import (  # noqa: E402
    FeatureInfo,
    build_model_with_cfg,
    checkpoint,
    generate_default_cfgs,
    register_model,
)

CLASSIFIER = "head.classifier"
POOLINGS = ("avg", "max", "avgmax", "catavgmax", "")
ARCHITECTURE = "architecture.json"
WEIGHTS = "weights.pth"

default_cfgs = generate_default_cfgs({"se_nas": {"first_conv": "stem.conv", "classifier": CLASSIFIER}})

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
        super().__init__(_with_channels(spec, in_chans))
        initialise(self)
        if drop_rate is not None:
            self.set_dropout(drop_rate)
        self.set_drop_path(drop_path_rate)
        self.in_chans = self.spec.in_channels
        self.num_features = spec.head.width or spec.head.in_channels
        self.feature_info = _feature_levels(spec)
        self.grad_checkpointing = False
        self.to(device=device, dtype=dtype)
        self.reset_classifier(spec.head.classes if num_classes is None else num_classes, global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, num_features, H / reduction, W / reduction)."""
        x, _ = _run(_layers(self), x, self.grad_checkpointing)
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
            raise _fault(f"output_fmt: must be NCHW, but got {output_fmt}")
        ends = [self.feature_info[index]["layer"] for index in _taken(self.feature_info, indices)]
        layers = _layers(self)
        if stop_early and intermediates_only:
            layers = layers[: max(ends) + 1]
        x, maps = _run(layers, x, self.grad_checkpointing, ends)
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
        taken = _taken(self.feature_info, indices)
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
        head = HeadSpec(last["num_chs"], 0, 0, own.activation, self.head.dropout.p, own.classes, side)
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
            raise _fault(f"global_pool: must be one of {', '.join(map(repr, POOLINGS))}, but got {pooling!r}")
        if not pooling and num_classes:
            raise _fault(f"global_pool: must be given for a classifier of {num_classes} classes, but got ''")
        if head.flatten and pooling != "avg":
            raise _fault(f"global_pool: must be avg, as the head reads every position, but got {pooling!r}")
        if head.hidden and pooling == "catavgmax":
            raise _fault(
                f"global_pool: must keep the {self.num_features} inputs of the hidden layer, but got {pooling}"
            )
        self.global_pool = SelectAdaptivePool2d(pool_type=pooling, flatten=bool(pooling)).train(self.training)
        self.num_classes = num_classes
        self.head_hidden_size = head.features * (2 if pooling == "catavgmax" else 1)
        classifier: nn.Module = nn.Identity()
        if num_classes:
            like = next(self.parameters())
            classifier = nn.Linear(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
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
        """Load weights, or what a checkpoint of a retraining holds; of the latter the averaged ones where it has them.

        A classifier of another number of classes is left as it is, with a warning. Weights for another number of
        `in_chans` do not fit.

        Raises:
            CheckpointError: with `strict`, the other weights are not this architecture's.
        """
        own, weights = self.state_dict(), dict(_weights_in(state_dict))
        found = weights.get(f"{CLASSIFIER}.bias")
        if found is not None and len(found) != self.num_classes:
            for name in (f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"):
                weights.pop(name, None)
                if self.num_classes:
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
        taken = _taken(levels, out_indices)
        self.in_chans = network.in_chans
        self.stem = network.stem
        self.blocks = network.blocks[: levels[max(taken)]["blocks"]]
        self.feature_info = FeatureInfo(levels, tuple(taken))
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to maps (B, num_chs, H / reduction, W / reduction), in the order of the network."""
        return _run(_layers(self), x, self.grad_checkpointing, self.feature_info.get("layer"))[1]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """See `TimmNetwork.set_grad_checkpointing`."""
        self.grad_checkpointing = enable

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a whole network's weights, or what a checkpoint of a retraining holds, without what is left out here.

        Raises:
            CheckpointError: with `strict`, the other weights are not this architecture's.
        """
        weights = {name: value for name, value in _weights_in(state_dict).items() if not self._left_out(name)}
        if strict:
            check_fit(weights, self.state_dict())
        return super().load_state_dict(weights, strict, assign)

    def _left_out(self, name: str) -> bool:
        part, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        return part == "head" or (part == "blocks" and number.isdecimal() and int(number) >= len(self.blocks))


def se_nas(
    pretrained: bool = False,
    *,
    architecture: str | os.PathLike[str] | NetworkSpec | Mapping[str, Any] | None = None,
    pretrained_cfg: Any = None,
    features_only: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """What `timm.create_model("se_nas", ...)` calls.

    Args:
        pretrained: load the weights that `pretrained_cfg` names, as for timm's own models.
        architecture: an architecture.json, of which its `network` is built, or a network as NetworkSpec or as
            `NetworkSpec.to_dict` writes it.
        pretrained_cfg: entries that replace those known from the architecture.
        features_only: make a `TimmFeatures`; one of timm's own extractors where `feature_cls` names it.
        kwargs: of `TimmNetwork` or `TimmFeatures`, and of `timm.models.build_model_with_cfg`.

    Weights for another number of `in_chans` are adapted by `pretrained`, as timm does it: by the sum of the colours'
    filters where one channel is wanted. timm's `checkpoint_path` takes a file as it is, and then raises.

    Raises:
        ArchitectureError: the architecture is missing or cannot be read.
        CheckpointError: the weights of `checkpoint_path` do not fit.
    """
    spec = _spec_of(architecture)
    if pretrained_cfg is None or isinstance(pretrained_cfg, Mapping):
        pretrained_cfg = {**_config(spec), **(pretrained_cfg or {})}
    features_by_timm = features_only and "feature_cls" in kwargs
    if features_by_timm:
        kwargs.setdefault("out_indices", tuple(range(len(_feature_levels(spec)))))
    elif features_only:
        kwargs["kwargs_filter"] = ("num_classes", "global_pool", "drop_rate")
    model: Any = build_model_with_cfg(
        TimmFeatures if features_only and not features_by_timm else TimmNetwork,
        "se_nas",
        pretrained,
        pretrained_cfg,
        features_only=features_by_timm,
        pretrained_filter_fn=lambda state, model: _weights_in(state),
        spec=spec,
        **kwargs,
    )
    if features_only:
        config = {key: value for key, value in model.pretrained_cfg.items() if key not in ("num_classes", "classifier")}
        model.pretrained_cfg = model.default_cfg = config
    return model  # type: ignore[no-any-return]


register_model(se_nas)


def write_timm_folder(
    network: Network,
    file: ArchitectureFile,
    out: Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> None:
    """Write what timm needs to build `network` into the folder `out`: architecture.json, weights.pth and config.json.

    The first two are for `timm.create_model("se_nas", architecture=..., checkpoint_path=...)`; with the third
    `timm.create_model("local-dir:FOLDER", pretrained=True)` needs to be told no more.

    Args:
        network: its weights are written, on the CPU.
        file: where the network's architecture comes from; the file written has `network`'s own specification.
        out: made if need be; each file is written atomically.
        mean, std: by channel, of the images that the network was trained on; None for ImageNet's.

    Raises:
        OutputError: the folder cannot be written to.
    """
    spec = network.spec
    save_architecture(out / ARCHITECTURE, replace(file, network=spec))
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in network.state_dict().items()}, buffer)
    write_atomic(out / WEIGHTS, with_checksum(buffer.getvalue()))
    config = {
        "architecture": "se_nas",
        "num_classes": spec.head.classes,
        "model_args": {"architecture": spec.to_dict()},
        "pretrained_cfg": _config(spec)
        | {name: list(v) for name, v in (("mean", mean), ("std", std)) if v is not None},
    }
    write_json(out / "config.json", config)


def load_timm_folder(folder: Path) -> nn.Module:
    """The model of a folder that `write_timm_folder` wrote, in evaluation mode.

    Raises:
        CheckpointError: the weights are altered, which timm's own `checkpoint_path` does not look for.
    """
    architecture, weights = folder / ARCHITECTURE, folder / WEIGHTS
    with weights.open("rb") as file:
        fault = checksum_fault(file)
    if fault is not None:
        raise CheckpointError(f"{weights}: the weights must be those that were exported, but {fault}")
    model: nn.Module = timm.create_model("se_nas", architecture=architecture, checkpoint_path=weights)
    return model.eval()


def _with_channels(spec: NetworkSpec, in_chans: int | None) -> NetworkSpec:
    if in_chans is None:
        return spec
    return replace(spec, in_channels=in_chans, stem=replace(spec.stem, in_channels=in_chans))


def _layers(network: TimmNetwork | TimmFeatures) -> list[nn.Module]:
    """What runs before the head, in its order."""
    return [*network.stem, *network.blocks]


def _run(
    layers: Sequence[nn.Module], x: Tensor, checkpointing: bool, ends: Sequence[int] = ()
) -> tuple[Tensor, list[Tensor]]:
    """The last layer's output, and those of the layers numbered in `ends`."""
    maps = []
    for number, layer in enumerate(layers):
        x = checkpoint(layer, x) if checkpointing and hasattr(layer, "spec") else layer(x)
        if number in ends:
            maps.append(x)
    return x, maps


def _feature_levels(spec: NetworkSpec) -> list[dict[str, Any]]:
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
    levels: dict[int, dict[str, Any]] = {}
    reduction = 1
    for number, (name, channels, stride) in enumerate(stem + blocks):
        reduction *= stride
        level = {"num_chs": channels, "reduction": reduction, "module": name}
        levels[reduction] = {**level, "layer": number, "blocks": max(0, number + 1 - len(stem))}
    return list(levels.values())


def _taken(levels: Sequence[Mapping[str, Any]], indices: int | Sequence[int] | None) -> list[int]:
    """The numbers of the maps that `indices` asks for: a list of them, the last n, or None for all."""
    numbers = range(len(levels))
    asked = numbers if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
    try:
        taken = [numbers[index] for index in asked]
    except IndexError:
        taken = []
    if not taken:
        reductions = ", ".join(str(level["reduction"]) for level in levels)
        raise _fault(f"out_indices: must be of the {len(levels)} maps, of reductions {reductions}, but got {indices}")
    return taken


def _fault(problem: str) -> ConfigError:
    return ConfigError("timm model se_nas", [problem])


def _spec_of(architecture: object) -> NetworkSpec:
    if isinstance(architecture, NetworkSpec):
        return architecture
    if isinstance(architecture, (str, os.PathLike)):
        return load_architecture(architecture).network
    if isinstance(architecture, Mapping):
        return network_from_dict(architecture, "architecture")
    raise ArchitectureError(
        "a timm model of se_nas must be given architecture=, the path of an architecture.json or a network, "
        f"but got {architecture!r}"
    )


def _config(spec: NetworkSpec) -> dict[str, Any]:
    """The entries of timm's `default_cfg` that follow from a network; mean and deviation are timm's, ImageNet's."""
    return {
        "input_size": (spec.in_channels, spec.resolution, spec.resolution),
        "pool_size": (spec.head.pooled_resolution, spec.head.pooled_resolution),
        "num_classes": spec.head.classes,
        "first_conv": "stem.conv",
        "classifier": CLASSIFIER,
    }


def _weights_in(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict itself, or that in a checkpoint of a retraining: its averaged weights where it has them."""
    if state.get("kind") != KIND:
        return state
    held = state["state"]
    if not isinstance(held.get("network"), dict):
        raise CheckpointError(f"the checkpoint must hold the weights of a network, but holds {', '.join(held)}")
    weights: Mapping[str, Tensor] = held.get("average") or held["network"]
    return weights
