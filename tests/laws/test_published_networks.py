"""Published networks as specifications: their parameters are timm's, and with timm's weights so are their outputs."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from se_nas.cost.counts import network_counts
from se_nas.layers.network import Network
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.specs import Activation, BlockSpec, ConvSpec, HeadSpec, NetworkSpec, SESpec

Row = tuple[int, int, int, int, SESpec | None, Activation]  # kernel, expanded, output, stride, SE, activation


def network(
    stem: int, stem_activation: Activation, rows: list[Row], head: tuple[int, int], head_activation: Activation
) -> NetworkSpec:
    blocks, channels, resolution = [], stem, 112
    for kernel, expanded, width, stride, se, activation in rows:
        block = BlockSpec("mbconv", channels, width, stride, resolution, kernel, expanded, activation, se)
        blocks.append(block)
        channels, resolution = width, block.out_resolution
    return NetworkSpec(
        224,
        3,
        ConvSpec(3, stem, 3, 2, stem_activation, 224),
        tuple(blocks),
        HeadSpec(channels, *head, head_activation, 0.0, 1000, resolution),
    )


def mobilenetv3_large() -> NetworkSpec:
    """arXiv 1905.02244, table 1."""
    se = SESpec(4, "expanded", 8, "mean", "relu", "hard_sigmoid")
    return network(
        16,
        "hard_swish",
        [
            (3, 16, 16, 1, None, "relu"),
            (3, 64, 24, 2, None, "relu"),
            (3, 72, 24, 1, None, "relu"),
            (5, 72, 40, 2, se, "relu"),
            (5, 120, 40, 1, se, "relu"),
            (5, 120, 40, 1, se, "relu"),
            (3, 240, 80, 2, None, "hard_swish"),
            (3, 200, 80, 1, None, "hard_swish"),
            (3, 184, 80, 1, None, "hard_swish"),
            (3, 184, 80, 1, None, "hard_swish"),
            (3, 480, 112, 1, se, "hard_swish"),
            (3, 672, 112, 1, se, "hard_swish"),
            (5, 672, 160, 2, se, "hard_swish"),
            (5, 960, 160, 1, se, "hard_swish"),
            (5, 960, 160, 1, se, "hard_swish"),
        ],
        (960, 1280),
        "hard_swish",
    )


def mobilenetv3_small() -> NetworkSpec:
    """arXiv 1905.02244, table 2; timm's head is narrower than MobileNetV3-Large's."""
    se = SESpec(4, "expanded", 8, "mean", "relu", "hard_sigmoid")
    return network(
        16,
        "hard_swish",
        [
            (3, 16, 16, 2, se, "relu"),
            (3, 72, 24, 2, None, "relu"),
            (3, 88, 24, 1, None, "relu"),
            (5, 96, 40, 2, se, "hard_swish"),
            (5, 240, 40, 1, se, "hard_swish"),
            (5, 240, 40, 1, se, "hard_swish"),
            (5, 120, 48, 1, se, "hard_swish"),
            (5, 144, 48, 1, se, "hard_swish"),
            (5, 288, 96, 2, se, "hard_swish"),
            (5, 576, 96, 1, se, "hard_swish"),
            (5, 576, 96, 1, se, "hard_swish"),
        ],
        (576, 1024),
        "hard_swish",
    )


def stages(channels: int, table: list[tuple[int, float, int, int, int, SESpec | None]], act: Activation) -> list[Row]:
    """Rows of stages given as (kernel, expansion, output, depth, stride, SE)."""
    rows: list[Row] = []
    for kernel, expansion, width, depth, stride, se in table:
        for index in range(depth):
            rows.append((kernel, int(channels * expansion), width, stride if index == 0 else 1, se, act))
            channels = width
    return rows


def efficientnet_b0() -> NetworkSpec:
    """arXiv 1905.11946, table 1."""
    se = SESpec(4, "block_input", 1, "mean", "silu", "sigmoid")
    table = [
        (3, 1, 16, 1, 1, se),
        (3, 6, 24, 2, 2, se),
        (5, 6, 40, 2, 2, se),
        (3, 6, 80, 3, 2, se),
        (5, 6, 112, 3, 1, se),
        (5, 6, 192, 4, 2, se),
        (3, 6, 320, 1, 1, se),
    ]
    return network(32, "silu", stages(32, table, "silu"), (1280, 0), "silu")


def mnasnet_a1() -> NetworkSpec:
    """arXiv 1807.11626, figure 7."""
    se = SESpec(4, "block_input", 1, "mean", "relu", "sigmoid")
    table: list[tuple[int, float, int, int, int, SESpec | None]] = [
        (3, 1, 16, 1, 1, None),
        (3, 6, 24, 2, 2, None),
        (5, 3, 40, 3, 2, se),
        (3, 6, 80, 4, 2, None),
        (3, 6, 112, 2, 1, se),
        (5, 6, 160, 3, 2, se),
        (3, 6, 320, 1, 1, None),
    ]
    return network(32, "relu", stages(32, table, "relu"), (1280, 0), "relu")


PUBLISHED: dict[str, tuple[Callable[[], NetworkSpec], int]] = {
    "mobilenetv3_large_100": (mobilenetv3_large, 5_483_032),
    "mobilenetv3_small_100": (mobilenetv3_small, 2_542_856),
    "efficientnet_b0": (efficientnet_b0, 5_288_548),
    "semnasnet_100": (mnasnet_a1, 3_887_038),
}


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    return import_timm()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    make, params = PUBLISHED[name]
    assert network_counts(make()).params == params


def test_macs_are_the_published_ones() -> None:
    """217 M with MobileNetV3-Large's head and about 390 M for EfficientNet-B0, as their papers round them."""
    assert network_counts(mobilenetv3_large()).macs == pytest.approx(217e6, rel=0.01)
    assert network_counts(efficientnet_b0()).macs == pytest.approx(390e6, rel=0.02)


@pytest.mark.parametrize("name", PUBLISHED)
def test_timm_s_weights_give_timm_s_outputs(name: str, timm: ModuleType) -> None:
    make, params = PUBLISHED[name]
    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    assert sum(p.numel() for p in theirs.parameters()) == params
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    spec = make()
    ours = Network(spec).eval()
    own, other = ours.state_dict(), theirs.state_dict()
    assert len(own) == len(other)
    # both list their layers in the order they run; timm writes SE's and the head's linear maps as 1x1 convolutions
    ours.load_state_dict(
        {name: value.reshape(own[name].shape) for name, value in zip(own, other.values(), strict=True)}
    )
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
        for block in ours.blocks:
            if hasattr(block, "se"):
                block.se.expand.bias.add_(1.0)
        without_their_gates = ours(image)
    scale = float(expected.abs().max())
    assert float((found - expected).abs().max()) < 1e-4 * scale
    assert float((without_their_gates - expected).abs().max()) > 1e-2 * scale
