"""Spaces with widths or resolutions hold what they say: published AlphaNets (arXiv 2102.07954), CIFAR's networks."""

from __future__ import annotations

import numpy as np
import pytest

from se_nas.cost.counts import network_counts
from se_nas.space.choice import Option
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space

SPACE = load_space("alphanet")

#: From the authors' repository: resolution; widths of the stem and the stages; kernel, expansion and depth of each
#: stage; and the millions of multiply-accumulates that it says.
PUBLISHED = {
    "A0": (192, (16, 16, 24, 32, 64, 112, 192, 216), (3, 3, 3, 3, 3, 3, 3), (4, 4, 4, 4), (1, 3, 3, 3, 3, 3), 203),
    "A1": (224, (16, 16, 24, 32, 64, 112, 192, 216), (3, 3, 3, 5, 3, 5, 3), (4, 4, 4, 4), (1, 3, 3, 3, 3, 3), 279),
    "A2": (224, (16, 16, 24, 32, 64, 112, 200, 224), (3, 3, 3, 3, 3, 5, 3), (4, 5, 4, 4), (1, 3, 3, 3, 3, 4), 317),
    "A3": (224, (16, 16, 24, 32, 64, 112, 208, 224), (3, 3, 3, 5, 3, 3, 3), (4, 4, 4, 4), (2, 3, 3, 4, 3, 5), 357),
    "A4": (256, (16, 16, 24, 32, 64, 112, 192, 216), (3, 3, 3, 5, 3, 5, 3), (4, 4, 5, 4), (1, 3, 3, 4, 3, 5), 444),
    "A5": (256, (16, 16, 24, 32, 64, 112, 208, 216), (3, 3, 3, 3, 3, 5, 3), (4, 4, 5, 4), (1, 3, 3, 4, 4, 5), 491),
    "A5 base": (288, (16, 16, 24, 32, 64, 112, 200, 216), (3, 3, 5, 5, 3, 3, 3), (4, 4, 4, 5), (2, 3, 4, 3, 3, 5), 596),
    "A6": (288, (16, 16, 24, 32, 64, 112, 216, 224), (3, 3, 3, 3, 3, 5, 3), (4, 6, 5, 4), (1, 3, 3, 4, 4, 6), 709),
}
WITH_SE = (3, 5, 6, 7)


def network_of(name: str) -> NetworkSpec:
    resolution, (stem, *widths), kernels, expansions, depths, _ = PUBLISHED[name]
    picks = {
        "resolution": resolution,
        "stem.width": stem,
        "head.width": 6 * widths[-1],
        "head.hidden": 1792 if name == "A0" else 1984,
    }
    picks |= {f"stage{s}.width": width for s, width in enumerate(widths, 1)}
    picks |= {f"stage{s}.kernel": kernel for s, kernel in enumerate(kernels, 1)}
    picks |= {f"stage{s}.expansion": expansion for s, expansion in enumerate(expansions, 2)}
    picks |= {f"stage{s}.depth": depth for s, depth in enumerate(depths, 1)}
    for choice in SPACE.choices:
        if choice.place.part == "se":
            picks[choice.name] = "r4" if choice.place.stage in WITH_SE else "none"
    return SPACE.resolve(SPACE.architecture(picks))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_alphanet_is_in_the_space_with_its_multiply_accumulates(name: str) -> None:
    """But for the 1x1 convolutions of shortcuts where the width changes, which this space's blocks do not have."""
    network = network_of(name)
    shortcuts = sum(
        block.in_channels * block.out_channels * block.out_resolution**2
        for block in network.blocks
        if block.in_channels != block.out_channels
    )
    assert (network_counts(network).macs + shortcuts) / 1e6 == pytest.approx(PUBLISHED[name][-1], rel=0.003)
    assert shortcuts < 0.025 * network_counts(network).macs


@pytest.mark.parametrize(
    ("name", "wide", "picks"),
    [
        ("mbconv_cifar_small", "mbconv_cifar_resolutions", {"resolution": 32}),
        ("mbconv_imagenet", "mbconv_imagenet_widths", {"resolution": 224, "width_multiplier": 1.0}),
        ("cifar_tiny", "cifar_tiny_widths", {"stage1.width": 16, "stage2.width": 24, "stage3.width": 48}),
        (
            "mbconv_cifar",
            "mbconv_cifar_widths",
            {f"stage{n}.width": width for n, width in enumerate((16, 24, 40, 80, 128), 1)} | {"head.width": 512},
        ),
    ],
)
def test_a_network_of_a_space_is_in_the_one_with_widths_or_resolutions(
    name: str, wide: str, picks: dict[str, Option]
) -> None:
    plain, several = load_space(name), load_space(wide)
    rng = np.random.default_rng(0)
    for _ in range(20):
        architecture = plain.sample(rng)
        found = several.architecture({**picks, **architecture.as_dict()})
        assert several.resolve(found) == plain.resolve(architecture)
