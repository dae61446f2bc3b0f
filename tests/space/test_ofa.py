"""Published networks of Once-for-All (arXiv 1908.09791) are in its space, with the costs that were published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from se_nas.cost.counts import network_counts
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space

SPACE = load_space("ofa_mbv3")

#: Resolution, multiplier of widths, kernels and expansions of the blocks of stages 2 to 6; then millions of parameters
#: and of multiply-accumulates, as the README of github.com/mit-han-lab/once-for-all has them. The first is
#: as the copy of its configuration in github.com/Alibaba-MIIL/ImageNet21K has it, the others as MMRazor has them.
PUBLISHED = {
    "flops@595M_top1@80.0_finetune@75": (
        (236, 1.2, ("353", "5535", "7535", "3573", "3353"), ("343", "4463", "6634", "6664", "6663")),
        (9.1, 595),
    ),
    "note8_lat@31ms_top1@72.8_finetune@25": (
        (152, 1.0, ("53", "55", "335", "357", "3355"), ("33", "43", "444", "434", "6333")),
        (4.6, 101),
    ),
    "note8_lat@22ms_top1@70.4_finetune@25": (
        (140, 1.0, ("33", "55", "73", "53", "37"), ("33", "33", "43", "34", "66")),
        (4.3, 67),
    ),
}
WITH_SE = (3, 5, 6)


def network_of(name: str) -> NetworkSpec:
    (resolution, multiplier, kernels, expansions), _ = PUBLISHED[name]
    space = replace(SPACE, resolution=resolution)
    picks = {choice.name: choice.options[0] for choice in space.choices}
    picks |= {"width_multiplier": multiplier, "head.hidden": 1280 if multiplier == 1 else 1536}
    for stage, (of_stage, wide) in enumerate(zip(kernels, expansions, strict=True), 2):
        picks[f"stage{stage}.depth"] = len(of_stage)
        for block, (kernel, expansion) in enumerate(zip(of_stage, wide, strict=True), 1):
            picks[f"stage{stage}.block{block}.kernel"] = int(kernel)
            picks[f"stage{stage}.block{block}.expansion"] = int(expansion)
            picks[f"stage{stage}.block{block}.se"] = "r4" if stage in WITH_SE else "none"
    return space.resolve(space.architecture(picks))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_is_in_the_space_with_its_parameters_and_multiply_accumulates(name: str) -> None:
    counts = network_counts(network_of(name))
    parameters, macs = PUBLISHED[name][1]
    assert round(counts.params / 1e6, 1) == parameters
    assert round(counts.macs / 1e6) == macs
