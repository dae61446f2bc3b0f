"""A space around a model that somebody else wrote, with that model as one of its networks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from se_nas.errors import ConfigError, ModelError, short
from se_nas.layers.from_model.blocks import blocks_of
from se_nas.layers.from_model.convention import OwnSE, own_se
from se_nas.layers.from_model.found import FoundBlock, FoundHead, FoundStem, Unit
from se_nas.layers.from_model.start import started
from se_nas.layers.from_model.steps import steps_of
from se_nas.layers.network import Network, numbered
from se_nas.space.architecture import Architecture
from se_nas.space.attention import OF_BARE_RATIO
from se_nas.space.blocks import BLOCKS
from se_nas.space.channels import round_channels
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import SlotOp
from se_nas.space.templates import NO_SE, SEOption
from se_nas.space.yaml.file import parse_space

_SIDE = 64  # pixels of an image on which model and network are compared
_AGREE = 1e-6  # of the largest logit
#: Variants that make no difference in a block which keeps its shape.
_WHERE_SHAPE_CHANGES = ("shortcut", "stride_at")


@dataclass(frozen=True)
class SpaceOfModel:
    """A space around a model, and where the model stands in it.

    Attributes:
        space: networks like the model, in which every block chooses its SE.
        architecture: the model itself as one of them.
        network: that network with the model's weights, in evaluation mode on the CPU; its logits are the model's.
    """

    space: SearchSpace
    architecture: Architecture
    network: Network

    def start(self, architecture: Architecture) -> Network:
        """Another network of the space with the model's weights, to be trained on.

        Where it has SE that the model has not, the gates start open and equal, and the layers beside them take up the
        difference: while they stay so, a network with more SE than the model has the model's logits. SE that the model
        has in another form (another ratio) starts anew.

        Raises:
            ArchitectureError: it is of another space.
        """
        return started(self.network, self.space.resolve(architecture))


def space_of(
    model: nn.Module,
    *,
    resolution: int = 224,
    se: Sequence[SEOption] = (NO_SE, 4, 16),
    name: str | None = None,
) -> SpaceOfModel:
    """The space of a model of torchvision, timm or your own, in which every block chooses its SE.

    It is made of a ResNet (with SE, ResNeXt, ResNet-D and pre-activation), RegNet, MobileNetV2, MobileNetV3, MnasNet,
    EfficientNet or EfficientNetV2, known by what the layers do. Everything but SE stays as the model has it. SE is
    computed as the model computes its own: reduction ratios of the same channels, rounding, activation, gate and place;
    without any, as MobileNetV3 or SE-ResNet does. Before a block of one convolution it stands on what that reads. The
    model is not changed.

    Args:
        model: returns logits (B, classes) of images (B, channels, side, side).
        resolution: side of the square images in pixels.
        se: what every block chooses among, as in a space file (None is "none"); what the model has is added where it
            is missing.
        name: of the space; by default the name of the model's class.

    Raises:
        ModelError: the model is made of something else; the message names the module.
        ConfigError: the options of SE, the resolution or the name are no such.
    """
    source = f"space_of({type(model).__name__})"
    if not isinstance(model, nn.Module):
        raise ModelError(f"{source}: must be an nn.Module, but got {short(model)}")
    given: Sequence[Any] = se if isinstance(se, (list, tuple)) else [se]
    options = [NO_SE if option is None else option for option in given]
    # in double precision, so that what rounding leaves is not taken for another network
    theirs = copy.deepcopy(model).to("cpu", torch.float64).eval()
    try:
        stem, blocks, head = blocks_of(*steps_of(theirs))
        units = own_se(blocks, options)
        _check_all_used(theirs, _layers(stem, blocks, head))
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    found = {
        "name": name or type(model).__name__.lower(),
        "resolution": resolution,
        "channels": stem.units[0].inputs,
        "classes": head.classifier.weight.shape[0],
        "channel_divisor": (divisor := _divisor(blocks)),
        "stem": _stem(stem),
        "stages": _stages(blocks, units, options, divisor),
        "head": _head(head),
    }
    space = parse_space(found, source)
    if len(space.resolutions) > 1:
        raise ConfigError(source, [f"resolution: must be one number, but got {list(space.resolutions)}"])
    architecture = space.architecture(dict(_picks(space, blocks)))
    network = Network(space.resolve(architecture)).double().eval()
    with torch.no_grad():
        _copy_weights(network, stem, blocks, head)
        _check_same(source, theirs, network)
    return SpaceOfModel(space, architecture, network.float())


# ---- the space


def _stem(stem: FoundStem) -> dict[str, Any]:
    first, *then = (
        {
            "width": unit.channels,
            "kernel": unit.kernel,
            "stride": unit.stride,
            "activation": unit.activation,
            "pool": pool,
            "bias": unit.conv.bias is not None,
            "norm": unit.norm is not None,
        }
        for unit, pool in zip(stem.units, stem.pools, strict=True)
    )
    return {**first, "then": then}


def _stages(
    blocks: Sequence[FoundBlock], units: Sequence[OwnSE], se: Sequence[float | str], divisor: int
) -> list[dict[str, Any]]:
    """Blocks that are alike, one after the other, are a stage."""
    stages: list[dict[str, Any]] = []
    for block, unit in zip(blocks, units, strict=True):
        missing = [] if unit.own in se else [unit.own]
        keeps_shape = block.stride == 1 and block.in_channels == block.channels
        before = stages[-1]["blocks"][0] if stages and keeps_shape else {}
        template = {
            "kind": block.kind,
            "kernel": block.kernel,
            **({"expansion": _expansion(block, divisor)} if "expansion" in BLOCKS[block.kind].options else {}),
            **block.form,
            **{name: before[name] for name in _WHERE_SHAPE_CHANGES if name in before},
            "se": {**unit.properties, "options": [*se, *missing]},
        }
        stage = {
            "width": block.channels,
            "stride": block.stride,
            "depth": 1,
            "activation": block.activation,
            "blocks": [template],
        }
        if stages and block.stride == 1 and {**stages[-1], "depth": 1, "stride": 1} == stage:
            stages[-1]["depth"] += 1
        else:
            stages.append(stage)
    return stages


def _head(head: FoundHead) -> dict[str, Any]:
    hidden = head.hidden
    if len({layer.weight.shape[0] for layer in hidden}) > 1 or len({layer.bias is None for layer in hidden}) > 1:
        raise ModelError("must have hidden layers of one width in its head")
    return {
        "width": head.unit.channels if head.unit else 0,
        "hidden": hidden[0].weight.shape[0] if hidden else 0,
        "hidden_layers": max(1, len(hidden)),
        "activation": head.activation,
        "dropout": head.dropout,
        "norm": head.norm is not None,
        "hidden_bias": not hidden or hidden[0].bias is not None,
        "classifier_bias": head.classifier.bias is not None,
    }


def _reference(block: FoundBlock) -> int:
    """The channels of which a block's expansion is a multiple."""
    return block.channels if BLOCKS[block.kind].expansion_of == "block_output" else block.in_channels


def _divisor(blocks: Sequence[FoundBlock]) -> int:
    """What the expanded channels are multiples of: 8, as in most published networks, or 1."""
    return 8 if all(block.expanded % 8 == 0 or block.expanded == _reference(block) for block in blocks) else 1


def _expansion(block: FoundBlock, divisor: int) -> float:
    """The shortest number that gives a block's expanded channels."""
    reference = _reference(block)
    exact = block.expanded / reference
    for digits in range(12):
        short = round(exact, digits)
        if short > 0 and (short == 1) == (exact == 1) and round_channels(reference * short, divisor) == block.expanded:
            return int(short) if short == int(short) else short
    return exact


def _picks(space: SearchSpace, blocks: Sequence[FoundBlock]) -> Iterator[tuple[str, str]]:
    """The model's own option of each choice."""
    for slot, block in zip(space.slots, blocks, strict=True):
        (op,) = slot.ops
        axis = op.axis("se")
        if axis.choice is not None:
            yield axis.choice, next(str(label) for label in axis.options if _is_own(op, str(label), block))


def _is_own(op: SlotOp, label: str, block: FoundBlock) -> bool:
    built = op.block(se=label)
    if built.se is None or block.se is None:
        return built.se is None and block.se is None
    return built.se.kind == OF_BARE_RATIO.name and built.se_hidden == block.se.reduce.weight.shape[0]


# ---- the weights


def _copy_weights(network: Network, stem: FoundStem, blocks: Sequence[FoundBlock], head: FoundHead) -> None:
    for number, unit in enumerate(stem.units, 1):
        parts = dict(network.stem.named_children())
        _copy_unit(unit, parts[numbered("conv", number)], parts.get(numbered("norm", number)))
    for module, block in zip(network.blocks, blocks, strict=True):
        ours: Any = module
        for unit, layer in zip(block.units, ours.plan.layers, strict=True):
            _copy_unit(unit, getattr(ours, layer.name), getattr(ours, f"{layer.name}_norm", None))
        if block.entry is not None:
            _copy_norm(block.entry, ours.entry_norm)
        if block.se is not None:
            _copy_layer(block.se.reduce, ours.se.reduce)
            _copy_layer(block.se.expand, ours.se.expand)
    if head.norm is not None:
        _copy_norm(head.norm, network.head.norm)
    if head.unit is not None:
        _copy_unit(head.unit, network.head.conv.conv, network.head.conv.norm)
    for number, hidden in enumerate(head.hidden, 1):
        _copy_layer(hidden, getattr(network.head, numbered("hidden", number)))
    _copy_layer(head.classifier, network.head.classifier)


def _copy_unit(unit: Unit, conv: Any, norm: Any) -> None:
    _copy_layer(unit.conv, conv)
    if unit.norm is not None:
        _copy_norm(unit.norm, norm)


def _copy_norm(theirs: Any, ours: Any) -> None:
    _copy_layer(theirs, ours)
    ours.running_mean.copy_(theirs.running_mean)
    # of another epsilon: the variance takes up the difference, so that their sum stays
    ours.running_var.copy_(theirs.running_var + (theirs.eps - ours.eps))


def _copy_layer(theirs: Any, ours: Any) -> None:
    """A convolution, a linear map or a norm; linear maps and 1x1 convolutions stand for each other."""
    ours.weight.copy_(theirs.weight.reshape(ours.weight.shape))
    if ours.bias is not None:
        ours.bias.copy_(theirs.bias)


# ---- checks


def _layers(stem: FoundStem, blocks: Sequence[FoundBlock], head: FoundHead) -> Iterator[Any]:
    units = [*stem.units, *(unit for block in blocks for unit in block.units), *([head.unit] if head.unit else [])]
    for unit in units:
        yield from (unit.conv, unit.norm)
    for block in blocks:
        yield block.entry
        if block.se is not None:
            yield from (block.se.reduce, block.se.expand)
    yield from (head.norm, *head.hidden, head.classifier)


def _check_all_used(model: nn.Module, layers: Iterator[Any]) -> None:
    """Raise ModelError for a module with weights that the logits do not depend on, or that is run twice."""
    taken: set[int] = set()
    for layer in layers:
        if layer is not None and id(layer) in taken:
            path = next(path for path, module in model.named_modules() if module is layer)
            raise ModelError(f"must run each module once, but runs {path} ({type(layer).__name__}) twice")
        taken.add(id(layer))
    for path, module in model.named_modules():
        if id(module) not in taken and next(module.parameters(recurse=False), None) is not None:
            raise ModelError(f"must have no weights beside its blocks, but {path} ({type(module).__name__}) has some")


def _check_same(source: str, theirs: nn.Module, ours: Network) -> None:
    """Raise ModelError where the network is not the model."""
    channels = ours.spec.in_channels
    image = torch.rand(1, channels, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = theirs(image)
    difference, scale = float((ours(image) - expected).abs().max()), float(expected.abs().max())
    if not difference <= _AGREE * scale:
        raise ModelError(f"{source}: must have the logits of its network, but they differ by {difference:.3g}")
