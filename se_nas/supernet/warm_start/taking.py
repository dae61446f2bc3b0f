"""Weights of a trained network put into a supernet, so that its point of the space computes what it computed.

Where the supernet has more than the network, the rest starts so that it takes nothing from that: kernels have zeros
around the trained ones; trained channels read nothing of those that are new; blocks behind the trained depth of a stage
put out their input; attention that the network has not has one gate for all images and channels, near 1. So a larger
kernel, expansion, SE ratio or depth is the trained network too, and what is new learns from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from se_nas.space.architecture import Architecture
from se_nas.space.block_plan import block_plan
from se_nas.space.specs import BlockSpec
from se_nas.supernet.elastic_attention import ElasticAttention
from se_nas.supernet.elastic_blocks import ElasticBlock
from se_nas.supernet.supernet import SuperNet


@dataclass(frozen=True)
class Came:
    """What of a trained network a supernet has, by the number of tensors.

    Attributes:
        taken: tensors that came, of which `padded` are parts of larger ones.
        opened: units of attention that the network has not, with gates near 1.
        random: tensors of the supernet in which nothing came and which are no attention, so that they stay random.
    """

    taken: int
    padded: int
    opened: int
    random: int


@torch.no_grad()
def take(supernet: SuperNet, architecture: Architecture, weights: Mapping[str, Tensor]) -> Came:
    """Put the weights of a trained network into a supernet.

    Args:
        architecture: the network's point of the space; its kernels may be larger than the network's.
        weights: of the network, by the names of `layers.network.Network`; a classifier that is not there stays random.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    spec = supernet.space.resolve(architecture)
    places = [
        *_ends("stem", supernet.stem, supernet.stem.sliced(spec.stem_convs)),
        *_ends("head", supernet.head, supernet.head.sliced(spec.head)),
    ]
    used: list[tuple[ElasticBlock, BlockSpec]] = supernet.elements(architecture)
    for number, (elastic, block) in enumerate(used):
        places += _of_block(f"blocks.{number}", elastic, block)
    padded, written, reached = 0, 0, set()
    for name, view, whole in places:
        if name not in weights:
            continue
        tensor = weights[name]
        if whole.dim() > 1:
            whole[: view.shape[0]] = 0
        _centre(view, tensor.shape).copy_(tensor)
        written += 1
        padded += whole.shape != tensor.shape
        reached.add(whole.data_ptr())
    opened = _open_attention(supernet, reached)
    _pass_through(supernet, {id(elastic) for elastic, _ in used})
    random = sum(
        tensor.data_ptr() not in reached
        for name, tensor in supernet.named_parameters()
        if ".se." not in name and not name.endswith(".se")
    )
    return Came(written, padded, opened, random)


Place = tuple[str, Tensor, Tensor]
"""The name of a plain network's tensor, the part of the supernet's that it is, and the whole of that."""


def _ends(prefix: str, module: nn.Module, views: Mapping[str, Tensor]) -> Iterator[Place]:
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, view in views.items():
        yield f"{prefix}.{name}", view, own[name]


def _of_block(prefix: str, elastic: ElasticBlock, block: BlockSpec) -> Iterator[Place]:
    own = dict(elastic.named_parameters()) | dict(elastic.named_buffers())
    unit = {} if block.se is None else dict(elastic.attention(block.se.position).named_parameters())
    for name, view in elastic.sliced(block).items():
        whole = unit.get(name.removeprefix("se."), view) if name.startswith("se.") else own.get(name, view)
        yield f"{prefix}.{name}", view, whole


def _centre(view: Tensor, shape: torch.Size) -> Tensor:
    """The middle of a kernel that is larger than the trained one."""
    if view.shape == shape or view.dim() != 4:
        return view
    rim = (view.shape[-1] - shape[-1]) // 2
    return view[:, :, rim : rim + shape[-1], rim : rim + shape[-1]]


def _open_attention(supernet: SuperNet, reached: set[int]) -> int:
    """Start gates that no trained weights came to at one value near 1, whatever the image; at how many places."""
    count = 0
    for module in supernet.modules():
        if isinstance(module, ElasticAttention):
            fresh = [
                layer for layer in module.opening_layers() if layer.get_parameter("weight").data_ptr() not in reached
            ]
            for layer in fresh:  # the bias is open already
                nn.init.zeros_(layer.get_parameter("weight"))
            count += bool(fresh)
    return count


def _pass_through(supernet: SuperNet, used: set[int]) -> None:
    """Let the blocks that the network has not put out their input, where they add to it."""
    for module in supernet.modules():
        if not isinstance(module, ElasticBlock) or id(module) in used:
            continue
        last = block_plan(module.spec).last
        if module.plan.skip != "input" or last is None:
            continue
        end = f"{last.name}_norm" if last.norm else last.name
        for tensor in cast(nn.Module, getattr(module, end)).parameters():
            nn.init.zeros_(tensor)
