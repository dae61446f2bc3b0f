"""The shipped space of Accel-NASBench has its size, and timm builds the same networks from its own notation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from se_nas.layers.network import Network
from se_nas.layers.pairing import paired_by_order
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.choice import Option
from se_nas.space.yaml.file import load_space
from se_nas.training.initial_weights import InitialWeights

SPACE = load_space(Path(__file__).parents[2] / "search_spaces" / "mnasnet_se.yaml")


#: As anb_eval/configspace/configspace.json and configurationspaces/searchspaces.py of the benchmark's repository have
#: them: expansions, kernels, layers and strides of each stage, and its widths.
EXPANSIONS, KERNELS, STRIDES = (1, 4, 6), (3, 5), (1, 2, 2, 2, 1, 2, 1)
LAYERS = ((1, 2, 3),) * 5 + ((1, 2, 3, 4), (1, 2, 3))
WIDTHS = (16, 24, 40, 80, 112, 192, 320)


def test_every_stage_has_the_options_of_the_benchmark() -> None:
    found = [
        (stage.width, stage.stride, stage.depths, stage.ops[0].expansions, stage.ops[0].kernels, stage.share)
        for stage in SPACE.stages
    ]
    assert found == [
        (width, stride, layers, EXPANSIONS, KERNELS, ("kernel", "expansion", "se"))
        for width, stride, layers in zip(WIDTHS, STRIDES, LAYERS, strict=True)
    ]
    assert all(len(stage.ops) == 1 and stage.ops[0].se.options == (None, 4) for stage in SPACE.stages)


def test_there_are_as_many_networks_as_in_the_benchmark() -> None:
    assert SPACE.size == 36**6 * 48


def stage_in_timm(stage: int, picks: dict[str, Option]) -> str:
    expansion, kernel, depth, se = (picks[f"stage{stage}.{part}"] for part in ("expansion", "kernel", "depth", "se"))
    # timm's "ir" keeps an expansion convolution at expansion 1, which its "ds" has not
    block = "ds" if expansion == 1 else "ir"
    shape = SPACE.stages[stage - 1]
    attention = "" if se == "none" else "_se0.25"
    return f"{block}_r{depth}_k{kernel}_s{shape.stride}_e{expansion}_c{shape.width}{attention}"


@pytest.mark.parametrize("seed", range(3))
def test_timm_s_weights_give_timm_s_outputs(seed: int) -> None:
    import_timm()
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet

    torch.manual_seed(seed)
    architecture = SPACE.sample(np.random.default_rng(seed))
    picks = architecture.as_dict()
    stages = decode_arch_def([[stage_in_timm(stage, picks)] for stage in range(1, 8)])
    theirs = EfficientNet(stages, num_features=1280, stem_size=32, act_layer=nn.SiLU).eval()
    ours = Network(SPACE.resolve(architecture)).eval()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    InitialWeights(paired_by_order(theirs.state_dict(), ours.state_dict()), "").put_into(ours)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
    assert float(expected.abs().max()) > 0
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
