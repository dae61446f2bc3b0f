"""A network as a timm model (https://github.com/huggingface/pytorch-image-models): importing this registers `se_nas`.

    import se_nas.export.timm_model  # first: it imports timm even beside a torchvision that does not fit torch
    import timm

    model = timm.create_model("se_nas", architecture="architecture.json", checkpoint_path="weights.pth")
    backbone = timm.create_model("se_nas", architecture="architecture.json", features_only=True, out_indices=(1, 2, 3))

Parameters have the names that they have in `Network`, so that weights pass freely between the two. What the images went
through (`timm.data.resolve_model_data_config`) is read from what lies beside the architecture's file: config.json of an
export, or data.json of a retraining.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, PositiveInt
from torch import nn

from se_nas.errors import ArchitectureError, ConfigError
from se_nas.export.record import Normalisation, normalisation_of
from se_nas.export.timm_features import TimmFeatures
from se_nas.export.timm_network import CLASSIFIER, TimmNetwork, feature_levels, weights_in
from se_nas.layers.torchvision_guard import import_timm
from se_nas.records.fields import Number, Share
from se_nas.records.record import Record, read_record
from se_nas.space.architecture_file import load_architecture, network_from_dict
from se_nas.space.specs import NetworkSpec
from se_nas.training.trained_network import DataCard

timm = import_timm()
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model  # noqa: E402

CONFIG = "config.json"

_log = logging.getLogger(__name__)

default_cfgs = generate_default_cfgs({"se_nas": {"first_conv": "stem.conv", "classifier": CLASSIFIER}})


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
        pretrained_cfg = {**pretrained_config(spec), **_known_beside(architecture, spec), **(pretrained_cfg or {})}
    features_by_timm = features_only and "feature_cls" in kwargs
    if features_by_timm:
        kwargs.setdefault("out_indices", tuple(range(len(feature_levels(spec)))))
    elif features_only:
        kwargs["kwargs_filter"] = ("num_classes", "global_pool", "drop_rate")
    model: Any = build_model_with_cfg(
        TimmFeatures if features_only and not features_by_timm else TimmNetwork,
        "se_nas",
        pretrained,
        pretrained_cfg,
        features_only=features_by_timm,
        pretrained_filter_fn=lambda state, model: weights_in(state),
        spec=spec,
        **kwargs,
    )
    if features_only:
        config = {key: value for key, value in model.pretrained_cfg.items() if key not in ("num_classes", "classifier")}
        model.pretrained_cfg = model.default_cfg = config
    return model  # type: ignore[no-any-return]


register_model(se_nas)


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


class _Images(Record):
    """Of an exported model's `pretrained_cfg` in config.json, what its images went through."""

    model_config = ConfigDict(extra="ignore")
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    input_size: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    crop_pct: Share | None = None
    interpolation: str | None = None
    label_names: tuple[str, ...] | None = None


class _Config(Record):
    model_config = ConfigDict(extra="ignore")
    pretrained_cfg: _Images


def _known_beside(architecture: object, spec: NetworkSpec) -> dict[str, Any]:
    """What lies beside an architecture's file of the images that its network was trained on, as timm has it."""
    if not isinstance(architecture, (str, os.PathLike)):
        return {}
    folder = Path(architecture).parent
    if (card := DataCard.load(folder)) is not None:
        return image_config(spec, normalisation_of(card))
    try:
        return read_record(_Config, folder / CONFIG).pretrained_cfg.plain()
    except ConfigError as error:
        _log.warning(
            "nothing beside %s says what its images went through (%s): mean, std and crop are timm's, of ImageNet",
            architecture,
            "; ".join(error.problems),
        )
        return {}


def image_config(spec: NetworkSpec, images: Normalisation) -> dict[str, Any]:
    """What images went through as entries of timm's `pretrained_cfg`."""
    side = images.resolution or spec.resolution
    entries: dict[str, Any] = {
        "mean": list(images.mean),
        "std": list(images.std),
        "input_size": [spec.in_channels, side, side],
        "crop_pct": images.crop,
        "interpolation": images.interpolation,
        "label_names": None if images.class_names is None else list(images.class_names),
    }
    return {name: value for name, value in entries.items() if value is not None}


def pretrained_config(spec: NetworkSpec) -> dict[str, object]:
    """The entries of timm's `default_cfg` that follow from a network; mean and deviation are timm's, ImageNet's."""
    return {
        "input_size": (spec.in_channels, spec.resolution, spec.resolution),
        "pool_size": (spec.head.pooled_resolution, spec.head.pooled_resolution),
        "num_classes": spec.head.classes,
        "first_conv": "stem.conv",
        "classifier": CLASSIFIER,
    }
