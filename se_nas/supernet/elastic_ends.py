"""The stem and the head with the weights of all their widths: the plain modules at their largest, run sliced or mixed.

Channels that a width leaves out are the last. A mixture masks them in the weight and bias of the norm that ends a
convolution, or of the linear layer, so that they are 0 in all that is behind it and cost no pass of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from se_nas.layers.network import Head, build_stem, numbered
from se_nas.space.choice import Axis
from se_nas.space.slots.width import Width
from se_nas.space.specs import ConvSpec, HeadSpec
from se_nas.supernet.mixture import fold_mask, prefix_masks

Probability = Callable[[Axis], Tensor]


class ElasticStem(nn.Sequential):
    """The stem under all its widths."""

    def __init__(self, convs: Sequence[ConvSpec], widths: Sequence[Width]) -> None:
        super().__init__(OrderedDict(build_stem(convs).named_children()))
        self.convs = tuple(convs)
        places = enumerate(zip(convs, widths, strict=True), 1)
        named = {numbered("norm" if conv.norm else "conv", n): width for n, (conv, width) in places}
        self._masked = _register_masks(self, named)

    def sliced(self, convs: tuple[ConvSpec, ...]) -> dict[str, Tensor]:
        """Views of the weights and statistics of one stem, under the plain stem's names."""
        return _cut(self, _stem_shapes(convs))

    def run_sliced(self, x: Tensor, convs: tuple[ConvSpec, ...]) -> Tensor:
        """One stem at its own cost."""
        return _run(self, x, {} if convs == self.convs else self.sliced(convs))

    def run_mixed(self, x: Tensor, probability: Probability) -> Tensor:
        """The mixture of every width at about the cost of the largest."""
        return _run(self, x, _mixed(self, self._masked, probability))


class ElasticHead(Head):
    """The head under all its widths, and all those of the last stage, whose channels it reads."""

    def __init__(self, spec: HeadSpec, before: Width, width: Width, hidden: Width) -> None:
        super().__init__(spec)
        named = ({"norm": before} if spec.norm else {}) | ({"conv.norm": width} if spec.width else {})
        named |= {numbered("hidden", number): hidden for number in range(1, len(spec.linears) + 1)}
        self._masked = _register_masks(self, named)

    def sliced(self, spec: HeadSpec) -> dict[str, Tensor]:
        """Views of the weights and statistics of one head, under the plain head's names."""
        return _cut(self, _head_shapes(spec))

    def run_sliced(self, x: Tensor, spec: HeadSpec) -> Tensor:
        """One head at its own cost."""
        return _run(self, x, {} if spec == self.spec else self.sliced(spec))

    def run_mixed(self, x: Tensor, probability: Probability) -> Tensor:
        """The mixture of every width at about the cost of the largest."""
        return _run(self, x, _mixed(self, self._masked, probability))


def _register_masks(module: nn.Module, named: Mapping[str, Width]) -> dict[str, tuple[str, Axis]]:
    """Masks of the parts whose width is a choice: for each part the name of its buffer, and what decides."""
    found = {}
    for name, width in named.items():
        if width.varies:
            found[name] = (f"{name.replace('.', '_')}_widths", width.axis)
            module.register_buffer(found[name][0], prefix_masks(width.channels), persistent=False)
    return found


def _mixed(module: nn.Module, masked: Mapping[str, tuple[str, Axis]], probability: Probability) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, (buffer, axis) in masked.items():
        own = {f"{name}.{part}": tensor for part, tensor in module.get_submodule(name).named_parameters()}
        tensors |= fold_mask(own, torch.mv(module.get_buffer(buffer).t(), probability(axis)))
    return tensors


def _run(module: nn.Module, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """The module with these in place of its own tensors."""
    y: Tensor = functional_call(module, tensors, (x,)) if tensors else module(x)
    return y


def _cut(module: nn.Module, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The first of the module's own tensors in every dimension."""
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: own[name][tuple(slice(size) for size in shape)] for name, shape in shapes.items()}


@cache
def _stem_shapes(convs: tuple[ConvSpec, ...]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return _shapes(build_stem(convs))


@cache
def _head_shapes(spec: HeadSpec) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return _shapes(Head(spec))


def _shapes(plain: nn.Module) -> dict[str, torch.Size]:
    """Of all tensors but the norms' step counters, which nothing here reads."""
    every = plain.state_dict()
    return {name: tensor.shape for name, tensor in every.items() if not name.endswith("num_batches_tracked")}
