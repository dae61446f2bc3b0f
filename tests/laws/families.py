"""A small space of each family of blocks, with every part that the family has as a choice."""

from __future__ import annotations

from typing import Any

from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space

_SE = {"options": ["none", 2, 4], "ratio_of": "block_output", "divisor": 1, "activation": "silu", "gate": "sigmoid"}

#: Blocks as a file has them, without their SE; each is of 8 input and 16 output channels, then of 16 and 16.
_BLOCKS: dict[str, dict[str, Any]] = {
    "mbconv with expansion 1 beside others": {"kind": "mbconv", "kernel": [3, 5], "expansion": [4, 1, 6]},
    "mbconv that always expands, without its shortcut": {
        "kind": "mbconv",
        "kernel": [3, 5],
        "expansion": [2, 1],
        "always_expands": True,
        "skip": False,
    },
    "mbconv in parts": {
        "kind": "mbconv",
        "expansion": 2,
        "mixed_kernels": [3, 1, 5],
        "expand_parts": 2,
        "project_parts": 3,
    },
    "fused_mbconv": {"kind": "fused_mbconv", "kernel": [1, 3], "expansion": [1, 2]},
    "residual_conv": {"kind": "residual_conv", "kernel": [1, 3]},
    "basic": {"kind": "basic", "kernel": [1, 3], "expansion": [0.5, 1]},
    "basic, padded": {"kind": "basic", "kernel": 3, "expansion": [0.5, 1], "shortcut": "pad"},
    "basic, pooled shortcut": {"kind": "basic", "kernel": [1, 3], "expansion": [0.5, 1], "shortcut": "pooled"},
    "basic, pre-activation": {"kind": "basic", "kernel": [3, 5], "expansion": [1, 2], "preactivation": True},
    "bottleneck, pre-activation": {
        "kind": "bottleneck",
        "kernel": [1, 3],
        "expansion": [0.5, 1],
        "preactivation": True,
        "stride_at": "1x1",
    },
    "bottleneck, grouped": {"kind": "bottleneck", "kernel": [3, 5], "expansion": [0.5, 1], "group_width": 4},
    "bottleneck, SENet-154": {
        "kind": "bottleneck",
        "kernel": 3,
        "expansion": [0.5, 1],
        "group_width": 4,
        "entry": 0.5,
        "shortcut": "conv3x3",
    },
    "conv": {"kind": "conv", "kernel": [1, 3]},
    "separable": {"kind": "separable", "kernel": [3, 5]},
    "shuffle": {"kind": "shuffle", "kernel": [3, 5], "expansion": 0.5, "groups": 2},
    "shuffle, dense": {"kind": "shuffle", "kernel": 3, "expansion": 0.5, "groups": 2, "dense_reduction": True},
    "inception": {"kind": "inception", "kernel": [3, 5], "branches": [[3], [2, 4], [2, 3, 5]], "pool_width": 4},
}
FAMILIES = tuple(_BLOCKS)


def family_space(name: str, position: str = "standard") -> SearchSpace:
    """Two stages of the family's blocks, SE at this position, between a stem and a head that have every part."""
    block = {**_BLOCKS[name], "se": {**_SE, "position": position}}
    stride = 1 if block["kind"] == "inception" else 2  # a branch of a 1x1 alone has none
    return parse_space(
        {
            "name": "family",
            "resolution": 9,
            "channels": 1,
            "classes": 2,
            "channel_divisor": 2,
            "stem": {
                "width": 6,
                "activation": "silu",
                "bias": True,
                "pool": "ceil",
                "then": [{"width": 8, "kernel": 1, "activation": "identity", "norm": False}],
            },
            "stages": [
                {"width": 16, "stride": stride, "depth": [1, 2], "activation": ["silu", "gelu"], "blocks": [block]}
            ],
            "head": {
                "norm": True,
                "max_pool": True,
                "flatten": True,
                "hidden": 5,
                "hidden_layers": 2,
                "activation": "silu",
            },
        },
        name,
    )
