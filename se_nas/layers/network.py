"""A whole network as a plain torch module, built from its NetworkSpec and nothing else."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.blocks import Block
from se_nas.layers.drop_path import DropPath
from se_nas.space.specs import ConvSpec, HeadSpec, NetworkSpec


class Head(nn.Module):
    """What follows the last block: see `HeadSpec`. Maps (B, C, H, W) to (B, classes)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec
        self.activation = ACTIVATIONS[spec.activation]()
        if spec.norm:
            self.norm = nn.BatchNorm2d(spec.in_channels)
        if spec.width:
            conv = nn.Conv2d(spec.in_channels, spec.width, 1, bias=False)
            parts = OrderedDict(conv=conv, norm=nn.BatchNorm2d(spec.width), activation=self.activation)
            self.conv = nn.Sequential(parts)
        for number, (inputs, outputs) in enumerate(spec.linears, 1):
            self.add_module(numbered("hidden", number), nn.Linear(inputs, outputs, bias=spec.hidden_bias))
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.features, spec.classes, bias=spec.classifier_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, classes)."""
        x = self.convolved(x)
        x = self.penultimate(x.flatten(1) if self.spec.flatten else x.mean((2, 3)))
        logits: Tensor = self.classifier(x)
        return logits

    def convolved(self, x: Tensor) -> Tensor:
        """What comes before the mean: (B, C, H, W) to (B, width or C, H', W')."""
        if self.spec.norm:
            x = self.activation(self.norm(x))
        if self.spec.max_pool:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        return self.conv(x) if self.spec.width else x

    def penultimate(self, x: Tensor) -> Tensor:
        """What the classifier reads: (..., pooled) to (..., features)."""
        for number in range(1, len(self.spec.linears) + 1):
            x = self.activation(getattr(self, numbered("hidden", number))(self.dropout(x) if number > 1 else x))
        features: Tensor = self.dropout(x)
        return features


def build_stem(convs: Sequence[ConvSpec]) -> nn.Sequential:
    """The first convolution with norm, activation and the pooling that there may be, and those after it."""
    stem = nn.Sequential()
    for number, spec in enumerate(convs, 1):
        conv = nn.Conv2d(
            spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.kernel // 2, bias=spec.bias
        )
        stem.add_module(numbered("conv", number), conv)
        if spec.norm:
            stem.add_module(numbered("norm", number), nn.BatchNorm2d(spec.out_channels))
        stem.add_module(numbered("activation", number), ACTIVATIONS[spec.activation]())
        if spec.pool:
            ceil = spec.pool == "ceil"
            stem.add_module(numbered("pool", number), nn.MaxPool2d(3, 2, 0 if ceil else 1, ceil_mode=ceil))
    return stem


def numbered(name: str, number: int) -> str:
    """The first of a kind goes by the name alone."""
    return name if number == 1 else f"{name}{number}"


class Network(nn.Module):
    """The network of a specification. Maps images (B, channels, resolution, resolution) to logits (B, classes)."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = build_stem(spec.stem_convs)
        self.blocks = nn.ModuleList(Block(block) for block in spec.blocks)
        self.head = Head(spec.head)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, resolution, resolution) to (B, classes)."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits

    def set_drop_path(self, rate: float) -> None:
        """Drop residual branches in training, block i of n (from 0) with chance `rate` * i / n, as timm's EfficientNet.

        Args:
            rate: in [0, 1). Blocks that have no residual branch are left as they are.
        """
        for index, block in enumerate(self.blocks):
            for part in block.children():
                if isinstance(part, DropPath):
                    part.rate = rate * index / len(self.blocks)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout before the classifier, in [0, 1), in place of the specification's."""
        self.head.dropout.p = rate


def build(spec: NetworkSpec) -> Network:
    """The network of a specification, initialised; its weights are drawn from torch's global generator."""
    network = Network(spec)
    initialise(network)
    return network


#: Modules of a block whose layers are initialised when they are made.
_KEEP = {"se", "whole"}


@torch.no_grad()
def initialise(module: nn.Module, *, zero_last: bool = False) -> None:
    """He initialisation by fan-out for convolutions, as MobileNets train with; draws from torch's global generator.

    Linear layers get N(0, 0.01) and zero bias. Attention units, and the modules of a user's own kinds of block, keep
    what they were built with.

    Args:
        zero_last: scale 0 instead of 1 for the last norm of each residual branch, so that every block starts as its
            shortcut (https://arxiv.org/abs/1706.02677, section 5.1).
    """
    for name, layer in module.named_modules():
        if not _KEEP.isdisjoint(name.split(".")[:-1]):
            continue
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in module.modules() if zero_last else ():
        norm = getattr(block, "project_norm", None)
        if isinstance(norm, nn.BatchNorm2d) and hasattr(block, "drop_path"):  # a residual branch, not a projection
            nn.init.zeros_(norm.weight)
