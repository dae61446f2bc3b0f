"""Published networks as spaces of one network: their counts, and with timm's weights timm's outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from se_nas.cost.counts import network_counts
from se_nas.layers.network import Network
from se_nas.layers.pairing import paired_by_order
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.block_plan import block_plan
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space
from se_nas.training.initial_weights import InitialWeights
from tests.laws.shipped import BASELINES
from tests.laws.test_counts import check_every_count


@dataclass(frozen=True)
class Published:
    """What others say of a network.

    Attributes:
        params: exact; timm's where timm has the network.
        timm_name: None where timm has no such network.
        mega_macs: millions of multiply-accumulates in its paper, or in that of SE; None where they give none.
        within: relative tolerance of these, which are rounded to two or three digits.
        mega_params: parameters in its paper, rounded; for networks that timm has not.
        strides_in_1x1: whether the paper's form, of which `mega_macs` are, has its strides elsewhere than the file.
    """

    params: int
    timm_name: str | None = None
    mega_macs: float | None = None
    within: float = 0.005
    mega_params: float | None = None
    strides_in_1x1: bool = False


def _resnet(timm_name: str, params: int, mega_macs: float) -> Published:
    return Published(params, timm_name, mega_macs, strides_in_1x1=True)


PUBLISHED = {
    # arXiv 1709.01507, table 2
    "resnet50": _resnet("resnet50", 25_557_032, 3860),
    "resnet101": _resnet("resnet101", 44_549_160, 7580),
    "resnet152": _resnet("resnet152", 60_192_808, 11_300),
    "se_resnet50": _resnet("seresnet50", 28_088_024, 3870),
    "se_resnet50_paper": Published(28_088_024, "legacy_seresnet50", 3870),
    "se_resnet101": _resnet("seresnet101", 49_326_872, 7600),
    "se_resnet152": _resnet("seresnet152", 66_821_848, 11_320),
    "resnext50_32x4d": Published(25_028_904, "resnext50_32x4d", 4240),
    "resnext101_32x4d": Published(44_177_704, "resnext101_32x4d", 7990),
    "se_resnext50_32x4d": Published(27_559_896, "seresnext50_32x4d", 4250),
    "se_resnext101_32x4d": Published(48_955_416, "seresnext101_32x4d", 8000),
    "senet154": Published(115_088_984, "legacy_senet154"),
    "vgg16_bn": Published(138_365_992, "vgg16_bn", 15_470),
    "se_vgg16_bn": Published(138_596_204, None, 15_480),
    "bn_inception": Published(11_285_224, None, 2030),
    "se_bn_inception": Published(11_931_622, None, 2040),
    # table 3; SE's paper has ShuffleNet at 140 M and MobileNet at 569 M, of which SE is to take 2 M and 3 M
    "mobilenetv1": Published(4_231_976, "mobilenetv1_100", 569),
    "se_mobilenetv1": Published(4_718_044, None, 572, mega_params=4.7),
    "shufflenetv1": Published(1_865_728, None, 137, mega_params=1.8),  # arXiv 1707.01083, table 1
    "se_shufflenetv1": Published(2_521_444, None, 142, 0.03, mega_params=2.4),
    # their papers have 1.7 M, 1.7 M and 11.0 M parameters
    "resnet110": Published(1_727_962, mega_params=1.7),
    "se_resnet110": Published(1_742_200),
    "resnet164": Published(1_703_258, mega_params=1.7),
    "se_resnet164": Published(1_905_362),
    "wrn_16_8": Published(10_961_370, mega_params=11.0),
    "se_wrn_16_8": Published(11_049_290),
    "mobilenetv2": Published(3_504_872, "mobilenetv2_100", 300),
    "mobilenetv3_large": Published(5_483_032, "mobilenetv3_large_100", 219, 0.02),
    "mobilenetv3_small": Published(2_542_856, "mobilenetv3_small_100", 56, 0.01),
    "efficientnet_b0": Published(5_288_548, "efficientnet_b0", 390, 0.02),
    "efficientnet_b1": Published(7_794_184, "efficientnet_b1", 700, 0.02),
    "mnasnet_a1": Published(3_887_038, "semnasnet_100", 312),
    "mnasnet_b1": Published(4_383_312, "mnasnet_100", 315),
    "single_path_nas": Published(4_421_616, "spnasnet_100"),
    "fbnet_c": Published(5_572_200, "fbnetc_100", 375, 0.03),
    "fbnetv3_b": Published(8_598_464, "fbnetv3_b"),
    "mobilenet_edgetpu": Published(4_091_432, "mobilenet_edgetpu_100", 990),
    "pp_lcnet": Published(2_953_800, "lcnet_100", 161, 0.04),
    "mixnet_s": Published(4_134_606, "mixnet_s", 256, 0.07),
    "regnetx_400mf": Published(5_157_512, "regnetx_004", 400, 0.01),
    "regnety_400mf": Published(4_344_144, "regnety_004", 400),
    "resnet50d": Published(25_576_264, "resnet50d", 4300, 0.01),
    "ecaresnet50d": Published(25_576_350, "ecaresnet50d"),
    "resnetrs50": Published(35_691_912, "resnetrs50"),
}

#: Networks that others build too: ours, and its name in timm.
IN_TIMM = {name: published.timm_name for name, published in PUBLISHED.items() if published.timm_name}

#: Those of which every part is in another, or that are another but for their depth; their outputs are compared with
#: -m slow, and their counts always.
LIKE_OTHERS = (
    *("ecaresnet50d", "resnetrs50", "efficientnet_b1"),
    *("resnet101", "resnet152", "se_resnet101", "se_resnet152", "resnext101_32x4d", "se_resnext101_32x4d"),
)


def space_of(name: str) -> SearchSpace:
    return load_space(next(path for path in BASELINES if path.stem == name))


def text_of(name: str) -> str:
    return next(path for path in BASELINES if path.stem == name).read_text().replace("\n#", "\n")


def spec_of(name: str, *, strides_in_1x1: bool = False) -> NetworkSpec:
    space = space_of(name)
    spec = space.resolve(space.architecture({}))
    if not strides_in_1x1:
        return spec
    blocks = tuple(replace(block, form=replace(block.form, stride_at="1x1")) for block in spec.blocks)
    return replace(spec, blocks=blocks, stem=replace(spec.stem, pool="ceil"))


def scrambled(theirs: nn.Module) -> nn.Module:
    """The same network with norms that are told apart; timm starts the last one of a ResNet's branch at 0."""
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return theirs.eval()


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    return import_timm()


def test_every_baseline_is_here() -> None:
    assert {path.stem for path in BASELINES} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_space_has_one_network_with_the_published_counts(name: str) -> None:
    space, published = space_of(name), PUBLISHED[name]
    assert (space.name, space.size, space.choices) == (name, 1, ())
    params = network_counts(spec_of(name)).params
    assert params == published.params
    if published.mega_params is not None:
        assert params / 1e6 == pytest.approx(published.mega_params, rel=0.06)
    if published.mega_macs is not None:
        macs = network_counts(spec_of(name, strides_in_1x1=published.strides_in_1x1)).macs
        assert macs / 1e6 == pytest.approx(published.mega_macs, rel=published.within)


def test_bn_inception_with_the_biases_of_its_published_weights_has_their_parameters() -> None:
    spec = spec_of("bn_inception")
    convs = [*spec.stem_convs, *(layer for block in spec.blocks for layer in block_plan(block).layers)]
    assert network_counts(spec).params + sum(conv.out_channels for conv in convs) == 11_295_240


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_a_baseline_s_header_says_its_source_command_and_size(path: Path) -> None:
    header = " ".join(line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    spec = spec_of(path.stem)
    counts, side = network_counts(spec), spec.resolution
    assert re.search(r"arXiv \d{4}\.\d{4,5}", header)
    assert f"se-nas retrain search_spaces/baselines/{path.name} " in header
    assert f" {counts.params:,} parameters, {counts.macs / 1e6:,.0f} M multiply-accumulates at {side}x{side}." in header
    timm_name = PUBLISHED[path.stem].timm_name
    assert re.findall(r"^# timm: (\w+)$", path.read_text(), re.MULTILINE) == ([timm_name] if timm_name else [])


def test_the_paper_s_form_of_se_resnet50_differs_from_timm_s_in_strides_and_pooling_alone() -> None:
    assert spec_of("se_resnet50_paper") == spec_of("se_resnet50", strides_in_1x1=True) != spec_of("se_resnet50")


@pytest.mark.parametrize(("name", "paper"), [("shufflenetv1", 140), ("se_shufflenetv1", 142)])
def test_a_header_says_that_the_macs_of_se_s_paper_are_not_met(name: str, paper: int) -> None:
    header = " ".join(text_of(name).split())
    mega_macs = network_counts(spec_of(name)).macs / 1e6
    assert abs(mega_macs - paper) > 2
    assert f"The {paper} M of SE's paper" in header
    assert f"are not met: it has {mega_macs:.1f} M" in header


@pytest.mark.parametrize("name", ["se_resnet50", "se_shufflenetv1", "se_bn_inception", "se_wrn_16_8"])
def test_every_count_agrees_for_a_network_of_joined_branches(name: str) -> None:
    space = space_of(name)
    check_every_count(space, space.architecture({}))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LIKE_OTHERS else []) for name in IN_TIMM]
)
def test_timm_s_weights_give_timm_s_outputs(name: str, timm: ModuleType) -> None:
    torch.manual_seed(0)
    theirs = scrambled(timm.create_model(IN_TIMM[name]))
    assert sum(p.numel() for p in theirs.parameters()) == PUBLISHED[name].params
    spec = spec_of(name)
    ours = Network(spec).eval()
    InitialWeights(paired_by_order(theirs.state_dict(), ours.state_dict()), "").put_into(ours)
    side = spec.resolution if spec.head.flatten else 64
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) < 1e-4 * scale
        units = [block.se for block in ours.blocks if hasattr(block, "se")]
        for parameter in (p for unit in units for p in unit.parameters()):
            parameter.add_(1.0)
        assert not units or float((ours(image) - expected).abs().max()) > 1e-2 * scale
