"""The layers of the plain module file: `plain_module` copies from here, word for word, those that a network needs.

So this file needs torch alone, nothing in it reads a specification, and its names of weights are those of
`se_nas.layers`. tests/export/test_plain_module.py holds it equal to `layers.blocks`: every kind of block and of
attention in `test_every_kind_of_block_has_its_layer` and `test_every_kind_of_attention_has_its_layer`, whole networks
in `test_it_is_the_network`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Layer(NamedTuple):
    """A convolution of a block, then its norm, activation and channel shuffle between `shuffle` groups.

    With `kernels` it is one of each for as many parts of its channels.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = True
    activation: bool = True
    shuffle: int = 1
    kernels: tuple[int, ...] = ()


class MixedConvolution(nn.ModuleList):
    """Convolutions of the parts of a map's channels, side by side: MixConv (arXiv 1907.09595)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        parts = len(layer.kernels)
        self.ends: list[int] = []
        for index, kernel in enumerate(layer.kernels):
            inputs, outputs = (
                channels // parts + (channels % parts if index == 0 else 0)
                for channels in (layer.in_channels, layer.out_channels)
            )
            groups = inputs if layer.groups > 1 else 1
            self.append(nn.Conv2d(inputs, outputs, kernel, layer.stride, kernel // 2, groups=groups, bias=layer.bias))
            self.ends.append(inputs + (self.ends[-1] if self.ends else 0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        starts = (0, *self.ends[:-1])
        return torch.cat([conv(x[:, a:b]) for conv, a, b in zip(self, starts, self.ends, strict=True)], 1)


class Branch(NamedTuple):
    """Convolutions of a block behind a 3x3 pooling ("mean", "max" or none); one of several branches side by side."""

    layers: list[Layer]
    pool: str | None = None
    stride: int = 1


class Block(nn.Module):
    """A branch of convolutions and what it joins; maps (B, C, H, W) to (B, C', H / stride, W / stride).

    Args:
        body, last: the convolutions before and after SE's position "inside".
        activation: wherever a layer has one.
        skip: what the branch joins: "none"; "input", the block's input; "conv", a convolution of it, `shortcut`; "pad",
            the input subsampled, with `lacking` channels of zeros; each added; or "pool", an average, put before it.
        shortcut_pool: whether a 2x2 average pooling comes before the shortcut's convolution.
        entry_channels: of a norm before all else (0: none).
        entry_pool: whether a 2x2 max-pooling comes first.
        stride: from input to output.
        activates_sum: whether the activation follows the join.
        branches: what runs before the body, side by side; their results are concatenated.
        whole: a module that runs before the body.
        se: the attention of the block, at `se_position`.
    """

    def __init__(
        self,
        body: list[Layer],
        last: Layer | None = None,
        *,
        activation: nn.Module,
        skip: str = "none",
        shortcut: Layer | None = None,
        shortcut_pool: bool = False,
        entry_channels: int = 0,
        entry_pool: bool = False,
        stride: int = 1,
        lacking: int = 0,
        activates_sum: bool = False,
        branches: Sequence[Branch] = (),
        whole: nn.Module | None = None,
        se: nn.Module | None = None,
        se_position: str = "inside",
    ) -> None:
        super().__init__()
        self.branches, self.body, self.last, self.shortcut_layer = branches, body, last, shortcut
        self.activation, self.shortcut_pool = activation, shortcut_pool
        self.skip, self.stride, self.lacking, self.activates_sum = skip, stride, lacking, activates_sum
        self.entry_norm = nn.BatchNorm2d(entry_channels) if entry_channels else None
        self.entry_pool = entry_pool
        for layer in (*(layer for branch in branches for layer in branch.layers), *body, last, shortcut):
            if layer is not None:
                size = (layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.kernel // 2)
                one = not layer.kernels
                conv = nn.Conv2d(*size, groups=layer.groups, bias=layer.bias) if one else MixedConvolution(layer)
                self.add_module(layer.name, conv)
                if layer.norm:
                    self.add_module(f"{layer.name}_norm", nn.BatchNorm2d(layer.out_channels))
        self.whole, self.se, self.se_position = whole, se, se_position

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        source = x if self.entry_norm is None else self.activation(self.entry_norm(x))
        y = self.attend("pre", source)
        if self.entry_pool:
            y = F.max_pool2d(y, 2, 2, ceil_mode=True)
        if self.branches:
            y = torch.cat([self.run_branch(branch, y) for branch in self.branches], 1)
        if self.whole is not None:
            y = self.whole(y)
        for layer in self.body:
            y = self.run(layer, y)
        y = self.attend("inside", y)
        if self.last is not None:
            y = self.run(self.last, y)
        y = self.attend("standard", y)
        if self.skip != "none":
            skip = self.attend("identity", self.joined(x, source))
            y = torch.cat((skip, y), 1) if self.skip == "pool" else skip + y
            y = self.activation(y) if self.activates_sum else y
        return self.attend("post", y)

    def attend(self, position: str, x: Tensor) -> Tensor:
        """The attention, where this is its position."""
        attended: Tensor = x if self.se is None or self.se_position != position else self.se(x)
        return attended

    def run_branch(self, branch: Branch, x: Tensor) -> Tensor:
        """One of the branches."""
        if branch.pool is not None:
            x = (F.avg_pool2d if branch.pool == "mean" else F.max_pool2d)(x, 3, branch.stride, 1)
        for layer in branch.layers:
            x = self.run(layer, x)
        return x

    def run(self, layer: Layer, x: Tensor) -> Tensor:
        """A convolution and what follows it."""
        y: Tensor = getattr(self, layer.name)(x)
        if layer.norm:
            y = getattr(self, f"{layer.name}_norm")(y)
        if layer.activation:
            y = self.activation(y)
        if layer.shuffle == 1:
            return y
        return y.reshape(y.shape[0], layer.shuffle, -1, *y.shape[2:]).transpose(1, 2).flatten(1, 2)

    def joined(self, x: Tensor, source: Tensor) -> Tensor:
        """What the branch joins: x, or something made of it or of its norm."""
        if self.shortcut_layer is not None:
            if self.shortcut_pool:
                source = F.avg_pool2d(source, 2, self.stride, ceil_mode=True, count_include_pad=False)
            return self.run(self.shortcut_layer, source)
        if self.skip == "pool":
            return F.avg_pool2d(x, 3, self.stride, 1)
        if self.skip == "pad":
            return F.pad(source[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.lacking))
        return x


class Stem(nn.Sequential):
    """Convolutions, each with what follows it: norm, activation, 3x3 max-pooling ("ceil": its windows start at 0).

    Args:
        convs: of each convolution its channels in and out, kernel, stride, whether it has a bias and a norm, activation
            and pooling (False: none).
    """

    def __init__(self, *convs: tuple[int, int, int, int, bool, bool, nn.Module, bool | str]) -> None:
        super().__init__()
        for index, (inputs, outputs, kernel, stride, bias, norm, activation, pool) in enumerate(convs):
            number = str(index + 1) if index else ""
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias))
            if norm:
                self.add_module(f"norm{number}", nn.BatchNorm2d(outputs))
            self.add_module(f"activation{number}", activation)
            if pool:
                padding = 0 if pool == "ceil" else 1
                self.add_module(f"pool{number}", nn.MaxPool2d(3, 2, padding, ceil_mode=pool == "ceil"))


class Head(nn.Module):
    """Global mean (or, to `flatten`, every position), linear layers of the widths `hidden`, classifier.

    Before that, where wanted: a norm with activation, a 2x2 max-pooling, a 1x1 convolution to `width` channels.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        activation: nn.Module,
        dropout: float,
        features: int,
        classes: int,
        norm: bool = False,
        max_pool: bool = False,
        width: int = 0,
        flatten: bool = False,
        hidden: tuple[int, ...] = (),
        hidden_bias: bool = True,
        classifier_bias: bool = True,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.norm = nn.BatchNorm2d(in_channels) if norm else None
        self.max_pool, self.flatten = max_pool, flatten
        self.conv = None
        if width:
            conv = nn.Conv2d(in_channels, width, 1, bias=False)
            parts = OrderedDict(conv=conv, norm=nn.BatchNorm2d(width), activation=activation)
            self.conv = nn.Sequential(parts)
        self.linears = ["hidden" if index == 0 else f"hidden{index + 1}" for index in range(len(hidden))]
        for name, outputs in zip(self.linears, hidden, strict=True):
            self.add_module(name, nn.Linear(features, outputs, bias=hidden_bias))
            features = outputs
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes, bias=classifier_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, classes)."""
        if self.norm is not None:
            x = self.activation(self.norm(x))
        if self.max_pool:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        if self.conv is not None:
            x = self.conv(x)
        x = x.flatten(1) if self.flatten else x.mean((2, 3))
        for name in self.linears:
            x = self.activation(getattr(self, name)(x if name == "hidden" else self.dropout(x)))
        logits: Tensor = self.classifier(self.dropout(x))
        return logits
