"""Models of torchvision and timm as points of spaces of their own: logits, counts, files, and what is refused."""

from __future__ import annotations

import copy
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import se_nas
from se_nas.errors import ConfigError
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.templates import SETemplate
from tests.laws.test_published_networks import scrambled

SIDE = 32


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    return import_timm()


@pytest.fixture(scope="module")
def torchvision(timm: ModuleType) -> ModuleType:
    return pytest.importorskip("torchvision.models")


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "seresnet18 (timm)", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"),
        "resnetv2_18 (timm)",
        *map(slow, ("efficientnet_v2_s", "efficientnetv2_rw_t (timm)", "resnetv2_50 (timm)", "resnetv2_50d (timm)")),
        *map(
            slow,
            ("resnet50", "seresnet50 (timm)", "mobilenet_v3_large", "efficientnet_b1", "mnasnet1_0", "regnet_x_400mf"),
        ),
        *map(slow, ("resnext50_32x4d (timm)", "resnet50d (timm)", "legacy_seresnet50 (timm)", "regnety_004 (timm)")),
        *map(slow, ("mobilenetv3_small_100 (timm)", "efficientnet_b0 (timm)", "semnasnet_100 (timm)")),
        *map(slow, ("mobilenetv1_100 (timm)", "fbnetc_100 (timm)", "fbnetv3_b (timm)", "resnet26t (timm)")),
    ],
)
def test_a_model_is_a_point_of_its_space_with_its_logits_and_counts(
    name: str, torchvision: ModuleType, timm: ModuleType
) -> None:
    torch.manual_seed(0)
    model = scrambled(
        timm.create_model(name.split()[0]) if name.endswith("(timm)") else torchvision.get_model(name, weights=None)
    )
    found = se_nas.space_of(model, resolution=SIDE, name="mine")
    image = torch.randn(2, 3, SIDE, SIDE).double()  # random deep networks make much of what rounding leaves
    model, network = model.double(), copy.deepcopy(found.network).double()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = model(image)
        macs = counter.get_total_flops() // 4
        assert torch.allclose(network(image), expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)
    counts = se_nas.network_counts(found.space.resolve(found.architecture))
    assert counts.macs == macs
    assert counts.params == sum(parameter.numel() for parameter in model.parameters())
    again = se_nas.parse_space(yaml.safe_load(se_nas.dump_space(found.space)), "dumped")
    assert (again.name, again.digest) == ("mine", found.space.digest)
    assert again.resolve(found.architecture) == found.network.spec
    assert len(found.space.choices) == len(found.network.spec.blocks)


AS_SE_RESNET = {"ratio_of": "block_output", "divisor": 8, "gate": "sigmoid", "position": "standard"}
AS_EFFICIENTNET = {"ratio_of": "block_input", "divisor": 1, "activation": "silu", "gate": "sigmoid"}


@pytest.mark.parametrize(
    ("name", "own", "convention"),
    [
        ("efficientnet_b0", 4, AS_EFFICIENTNET),
        ("mobilenet_v3_small", 4, {"ratio_of": "expanded", "divisor": 8}),
        ("seresnet18", 16, AS_SE_RESNET),
        ("resnet18", None, AS_SE_RESNET),
        ("mobilenet_v2", None, {}),
    ],
)
def test_se_is_computed_as_the_model_computes_its_own_and_as_usual_where_it_has_none(
    name: str, own: int | None, convention: dict[str, Any], torchvision: ModuleType, timm: ModuleType
) -> None:
    model = timm.create_model(name) if name == "seresnet18" else torchvision.get_model(name, weights=None)
    found = se_nas.space_of(model, se=["eca"])
    for slot, block in zip(found.space.slots, found.network.spec.blocks, strict=True):
        options = ("eca", own if block.se is not None else None)
        assert slot.ops[0].template.se == SETemplate(options=options, **convention)
    assert {block.se.ratio for block in found.network.spec.blocks if block.se is not None} == ({own} if own else set())


def test_the_model_stays_as_it_was(torchvision: ModuleType) -> None:
    model = torchvision.get_model("mobilenet_v3_small", weights=None).train()
    before = copy.deepcopy(model.state_dict())
    se_nas.space_of(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ---- other networks of the space


def tiny_efficientnetv2(torchvision: ModuleType) -> nn.Module:
    """Every block that EfficientNetV2 has, few and narrow."""
    fused, mbconv = torchvision.efficientnet.FusedMBConvConfig, torchvision.efficientnet.MBConvConfig
    blocks = [fused(1, 3, 1, 24, 24, 2), fused(4, 3, 2, 24, 32, 2), mbconv(4, 3, 2, 32, 40, 2)]
    model: nn.Module = torchvision.EfficientNet(
        blocks, 0.2, num_classes=7, norm_layer=partial(nn.BatchNorm2d, eps=1e-3), last_channel=64
    )
    return model


def test_an_efficientnetv2_is_a_point_of_its_space(torchvision: ModuleType) -> None:
    torch.manual_seed(0)
    model = scrambled(tiny_efficientnetv2(torchvision)).eval()
    found = se_nas.space_of(model, resolution=SIDE)
    kinds = [block.kind for block in found.network.spec.blocks]
    assert kinds == [*["residual_conv"] * 2, *["fused_mbconv"] * 2, *["mbconv"] * 2]
    image = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.allclose(found.network(image), model(image), atol=1e-4)
    assert found.network.spec.blocks[-1].se is not None
    assert found.space.size == 3**6


def test_several_resolutions_for_a_model_are_refused_in_words(timm: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"^space_of\(ResNet\): resolution: must be one number, but got \[32, 64\]$"):
        se_nas.space_of(timm.create_model("resnet18"), resolution=[32, 64])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "mobilenet_v3_small", "resnetv2_18", "EfficientNetV2"])
def test_a_network_with_more_se_starts_with_the_logits_of_the_model_and_learns(
    name: str, torchvision: ModuleType, timm: ModuleType
) -> None:
    torch.manual_seed(0)
    model = (
        tiny_efficientnetv2(torchvision)
        if name == "EfficientNetV2"
        else timm.create_model(name)
        if name == "resnetv2_18"
        else torchvision.get_model(name, weights=None)
    )
    found = se_nas.space_of(scrambled(model), resolution=SIDE)
    own = found.architecture.as_dict()
    picks = {c.name: c.options[-1] if own[c.name] == "none" else own[c.name] for c in found.space.choices}
    more = found.start(found.space.architecture(picks))
    added = [number for number, block in enumerate(found.network.spec.blocks) if block.se is None]
    assert sum(block.se is not None for block in more.spec.blocks) == len(more.spec.blocks)
    assert added
    image = torch.randn(2, 3, SIDE, SIDE).double()
    with torch.no_grad():
        expected = found.network.double()(image)
    logits = more.double()(image)
    assert torch.allclose(logits, expected, atol=1e-5 * float(expected.abs().max()))
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in more.parameters())
    assert all(more.blocks[number].se.expand.weight.grad.abs().max() > 0 for number in added)


def test_a_network_without_se_starts_with_the_convolutions_of_the_model(torchvision: ModuleType) -> None:
    found = se_nas.space_of(torchvision.get_model("efficientnet_b0", weights=None), resolution=SIDE)
    less = found.start(found.space.architecture({choice.name: "none" for choice in found.space.choices}))
    held = found.network.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in less.state_dict().items())
    assert not any(block.se for block in less.spec.blocks)
    with pytest.raises(se_nas.SeNasError, match="must be of this space"):
        found.start(se_nas.space_of(Tiny()).architecture)


# ---- what is refused


class Tiny(nn.Module):
    """A stem, one MBConv block without expansion, and a classifier."""

    def __init__(self, **other: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.project = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 5)
        for name, module in other.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        y = self.project(self.depthwise(self.stem(x)))
        return self.classifier(torch.flatten(self.pool(y), 1))


class Branching(Tiny):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x if x.sum() > 0 else -x)


class Pair(Tiny):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def conv(**changed: Any) -> nn.Module:
    of = {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "padding": 1, "groups": 8, "bias": False} | changed
    return nn.Sequential(nn.Conv2d(**of), nn.BatchNorm2d(8), nn.ReLU())


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Tiny(depthwise=conv(dilation=2, padding=2)), r"depthwise\.0 \(Conv2d\) is part of none"),
        (Tiny(depthwise=conv(groups=4)), r"what begins with depthwise\.0 \(Conv2d\) is none"),
        (Tiny(depthwise=conv(bias=True)), r"no bias at each convolution of a block, but depthwise\.0 \(Conv2d\) has"),
        (Tiny(depthwise=nn.GELU()), r"depthwise \(GELU\) is part of none"),
        (Tiny(spare=nn.Linear(2, 2)), r"no weights beside its blocks, but spare \(Linear\) has some"),
        (Tiny(pool=nn.Identity()), r"classifier \(Linear\) is part of none"),
        (Branching(), r"must be traced by torch.fx, but the model cannot be: symbolically traced variables"),
        (Pair(), r"must return the logits alone"),
        (Tiny(classifier=nn.Identity()), r"must end in a classifier, but has none"),
        ("resnet18", r"must be an nn\.Module, but got 'resnet18'"),
        (nn.Linear(3, 3), r"classifier|\(Linear\)|the model"),
    ],
)
def test_what_is_not_known_is_named_in_one_line(model: Any, told: str) -> None:
    with pytest.raises(se_nas.SeNasError, match=told) as caught:
        se_nas.space_of(model)
    assert str(caught.value).startswith(f"space_of({type(model).__name__}): must ")
    assert "\n" not in str(caught.value)


def test_a_tiny_model_of_its_own_is_a_space() -> None:
    found = se_nas.space_of(Tiny(), se=["none", 2])
    assert [block.kind for block in found.network.spec.blocks] == ["mbconv"]
    assert found.space.size == 1 + 1
    again = se_nas.space_of(Tiny(), se=(None, 2.0))
    assert again.space.digest == found.space.digest
    assert se_nas.space_of(Tiny(), se="eca").space.stages[0].ops[0].se.options == ("eca", None)


class Functional(nn.Module):
    """An activation that a module calls as a function."""

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, **self.options)
        return y


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.GELU(), "gelu"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.LeakyReLU(inplace=True), "leaky_relu"),
        (nn.Mish(inplace=True), "mish"),
        (Functional(F.gelu), "gelu"),
        (Functional(F.elu, inplace=True), "elu"),
        (nn.LeakyReLU(0.2), None),
        (Functional(F.gelu, approximate="tanh"), None),
    ],
)
def test_an_activation_is_known_by_its_function_and_by_its_options(module: nn.Module, name: str | None) -> None:
    own = conv()
    own[2] = module
    if name is None:
        with pytest.raises(se_nas.SeNasError, match=r"depthwise\.2"):
            se_nas.space_of(Tiny(depthwise=own))
    else:
        (block,) = se_nas.space_of(Tiny(depthwise=own)).network.spec.blocks
        assert block.activation == name


def test_a_densenet_and_a_transformer_are_refused_by_the_module(torchvision: ModuleType) -> None:
    densenet = torchvision.DenseNet(growth_rate=8, block_config=(1, 1), num_init_features=16)
    transformer = torchvision.VisionTransformer(32, 8, 1, 2, 16, 32)
    with pytest.raises(se_nas.SeNasError, match=r"features\.denseblock1\.denselayer1 \(_DenseLayer: cat\) is part of"):
        se_nas.space_of(densenet)
    with pytest.raises(se_nas.SeNasError, match=r"\(VisionTransformer: class_token\) is part of none"):
        se_nas.space_of(transformer)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"se": ["none", 0.5]}, r"space_of\(Tiny\): stages\[0\].blocks\[0\].se.options\[1\]: must be"),
        ({"se": []}, None),
        ({"resolution": 0}, r"space_of\(Tiny\): resolution: must be"),
        ({"name": "a/b"}, r"space_of\(Tiny\): name: must be"),
    ],
)
def test_options_are_checked_as_those_of_a_file(changes: dict[str, Any], told: str | None) -> None:
    if told is None:
        assert se_nas.space_of(Tiny(), **changes).space.size == 1
        return
    with pytest.raises(se_nas.SeNasError, match=told):
        se_nas.space_of(Tiny(), **changes)
