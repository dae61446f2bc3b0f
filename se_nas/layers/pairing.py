"""Tensors of others for a network of ours, paired by their order: both list their layers in the order they run.

timm (https://github.com/huggingface/pytorch-image-models) names the parts of every family in its own way, but its state
dicts are in the order of its networks' layers, as ours are. So tensors are paired by their order and checked by their
kind and shape, and by nothing else. Strides, paddings, poolings, activations and the epsilon of a norm have no weights:
that they are the same is for whoever names the file. A model that differs in these alone loads without a word and gives
wrong outputs: timm's tf_mobilenetv3_large_100 in mobilenetv3_large, tf_efficientnet_b0 in efficientnet_b0,
legacy_seresnet50 in se_resnet50. Each file in search_spaces/baselines names in its header the model that it equals
("timm: resnet50"), where timm has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.errors import CheckpointError
from se_nas.layers.blocks import Block
from se_nas.layers.network import Head, build_stem
from se_nas.records.checkpoint import check_finite
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec

CLASSIFIER = "head.classifier."

#: A norm's count of batches, which old checkpoints lack and which nothing here reads.
_COUNT = "num_batches_tracked"

Part = tuple[str, tuple[int, ...]]
"""What a tensor is to its layer (weight, bias, running_mean, running_var), and its shape."""


def paired_by_order(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, smaller_kernels: bool = False
) -> dict[str, Tensor]:
    """The tensors of a state dict by the names of the network's own, but for a classifier of other classes.

    Linear maps and 1x1 convolutions stand for each other.

    Args:
        smaller_kernels: whether kernels may be smaller than the network's, and are given zeros around them.

    Raises:
        CheckpointError: the state dict is of another architecture.
    """
    ours = [name for name in own if not name.endswith(_COUNT)]
    theirs = [name for name in state if not name.endswith(_COUNT)]
    found: dict[str, Tensor] = {}
    for name, other in zip(ours, theirs, strict=False):
        shape, got = tuple(own[name].shape), tuple(state[other].shape)
        if name.startswith(CLASSIFIER) and shape[:1] != got[:1] and prod(shape[1:]) == prod(got[1:]):
            continue
        fits = _holds(shape, got) if smaller_kernels else _stands_for(got, shape)
        if _part(name) != _part(other) or not fits:
            raise CheckpointError(
                f"the weights must be of this architecture, with {name} of shape {shape}, but got {other} of {got}"
            )
        found[name] = with_zeros_around(state[other], shape)
    if len(ours) != len(theirs):
        must = f"the weights must be of this architecture, with {len(ours)} tensors"
        raise CheckpointError(f"{must}, but got {len(theirs)}")
    check_finite(state)
    return found


def with_zeros_around(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor in a shape that it stands for, with zeros around its kernels where that has larger ones."""
    if tensor.dim() == len(shape) == 4 and tuple(tensor.shape) != tuple(shape):
        height, width = ((shape[dim] - tensor.shape[dim]) // 2 for dim in (2, 3))
        return F.pad(tensor, (width, width, height, height))
    return tensor.reshape(tuple(shape))


def _part(name: str) -> str:
    """What a tensor is to its layer: weight, bias, running_mean, running_var."""
    return name.rpartition(".")[2]


def _stands_for(got: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor can be one of that shape: the same, or one of them a linear map and the other a convolution."""
    linear_and_convolution = {len(got), len(shape)} == {2, 4}
    return got == shape or (linear_and_convolution and got[0] == shape[0] and prod(got) == prod(shape))


class StateDictInOrder:
    """A network of which the tensors are known, in order; see `se_nas.space.points.given.Given`.

    Attributes:
        furthest: how many tensors some network had in common with it, as far as it was asked.
    """

    resolution: int | None = None  # no tensor tells it

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.names = [name for name in state if not name.endswith(_COUNT)]
        self.furthest = 0
        self.parts: list[Part] = [
            (_part(name), tuple(value.shape)) for name, value in state.items() if not name.endswith(_COUNT)
        ]

    def after_stem(self, convs: Sequence[ConvSpec]) -> int | None:
        """See `Given`."""
        return self._behind(_parts_of_stem(tuple(convs)), 0)

    def after_block(self, block: BlockSpec, at: int) -> int | None:
        """See `Given`."""
        return self._behind(_parts_of_block(block), at)

    def ends_with(self, head: HeadSpec, at: int) -> bool:
        """See `Given`."""
        *parts, classifier = _parts_of_head(replace(head, classifier_bias=False))
        behind = self._behind(parts, at)
        if behind is None:
            return False
        left = self.parts[behind:]
        names = ["weight", "bias"] if head.classifier_bias else ["weight"]
        return [name for name, _ in left] == names and prod(left[0][1][1:]) == prod(classifier[1][1:])

    def misfit(self) -> str:
        """See `Given`."""
        if self.furthest == len(self.parts):
            return f"end after {self.names[-1]}, where none of these does"
        return f"have {self.names[self.furthest]} of shape {self.parts[self.furthest][1]} where none of these has one"

    def _behind(self, parts: Sequence[Part], at: int) -> int | None:
        for number, (name, shape) in enumerate(parts, at):
            if number == len(self.parts) or self.parts[number][0] != name or not _holds(shape, self.parts[number][1]):
                return None
            self.furthest = max(self.furthest, number + 1)
        return at + len(parts)


def _holds(shape: tuple[int, ...], got: tuple[int, ...]) -> bool:
    """Whether a tensor of a shape can have the given one in the middle of its kernels."""
    if len(shape) == len(got) == 4:
        return shape[:2] == got[:2] and shape[2] >= got[2] and shape[3] >= got[3]
    return _stands_for(got, shape)


def _parts(module: nn.Module) -> list[Part]:
    state = module.state_dict()
    return [(_part(name), tuple(value.shape)) for name, value in state.items() if not name.endswith(_COUNT)]


@cache
def _parts_of_stem(convs: tuple[ConvSpec, ...]) -> list[Part]:
    with torch.device("meta"):
        return _parts(build_stem(convs))


@cache
def _parts_of_block(block: BlockSpec) -> list[Part]:
    with torch.device("meta"):
        return _parts(Block(block))


@cache
def _parts_of_head(head: HeadSpec) -> list[Part]:
    with torch.device("meta"):
        return _parts(Head(head))
