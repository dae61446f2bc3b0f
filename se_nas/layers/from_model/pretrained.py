"""Models of timm by their names, with timm's weights or without."""

from __future__ import annotations

from typing import Any

from torch import nn

from se_nas.errors import CheckpointError, ConfigError, cut, did_you_mean
from se_nas.layers.torchvision_guard import import_timm


def timm_model(name: str, source: str, *, pretrained: bool, classes: int | None = None) -> nn.Module:
    """The timm model of a name, in evaluation mode.

    Args:
        source: what asks for it, named where there is no such model.
        pretrained: whether it has the weights that timm has for it, which are downloaded where they are not here yet.
        classes: how many it tells apart; None for as many as timm's weights do.

    Raises:
        ConfigError: timm has no such model.
        CheckpointError: there are no weights, or they cannot be had.
    """
    timm = import_timm()
    if not timm.is_model(name):
        raise ConfigError(source, [f"must be a timm model, but got {name!r}{did_you_mean(name, timm.list_models())}"])
    more: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **more)
    except Exception as error:  # whatever the hub's client raises: no network, no such file, a proxy's page
        if not pretrained:
            raise
        first = cut(" ".join(str(error).split()), 200)
        must = f"timm's weights of {name} must be on this machine, or within reach of it"
        raise CheckpointError(f"{must}, but got {type(error).__name__}: {first}") from error
    return model.eval()


def licence_of(model: nn.Module) -> str | None:
    """What timm says of the licence of a model's weights."""
    found: Any = getattr(model, "pretrained_cfg", None) or {}
    licence = found.get("license")
    return str(licence) if licence else None
