"""SE's relatives against their papers' formulas and timm's modules, given the same weights."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.attention import build_attention
from se_nas.layers.attention.cbam import CBAM
from se_nas.layers.attention.eca import EfficientChannelAttention
from se_nas.layers.attention.ese import EffectiveSE
from se_nas.layers.attention.se import SqueezeExcite
from se_nas.layers.attention.spatial import SpatialAttention
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.specs import SESpec
from se_nas.space.vocabulary import Position
from tests.helpers.example_blocks import block_spec

KINDS = tuple(ATTENTION)
TIMM_GATES = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def images(channels: int = 6) -> Tensor:
    return torch.randn(3, channels, 5, 4, dtype=torch.float64, requires_grad=True)


def check(unit: nn.Module, reference: nn.Module | None, formula, x: Tensor) -> None:
    """Outputs and gradients of the image and of every weight, against the formula, and timm's output."""
    out, expected = unit(x), formula(x)
    torch.testing.assert_close(out, expected)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    inputs = [x, *unit.parameters()]
    found = torch.autograd.grad(out, inputs, weight)
    for a, b in zip(found, torch.autograd.grad(expected, inputs, weight), strict=True):
        torch.testing.assert_close(a, b)
    if reference is not None:
        torch.testing.assert_close(reference(x), out)


def pooled(x: Tensor, squeeze: str) -> Tensor:
    return x.mean((2, 3)) if squeeze == "mean" else x.flatten(2).max(2).values


@pytest.mark.parametrize("squeeze", ["mean", "max"])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("channels", [6, 40, 512])
def test_eca_is_its_formula_and_timm_s(channels: int, gate: str, squeeze: str) -> None:
    import_timm()
    from timm.layers import EcaModule

    unit = EfficientChannelAttention(channels, gate, squeeze).double()
    theirs = EcaModule(channels, gate_layer=TIMM_GATES[gate]).double()
    theirs.conv.load_state_dict(unit.across.state_dict())
    kernel = unit.across.weight.flatten()
    reach = len(kernel) // 2

    def formula(x: Tensor) -> Tensor:
        z = F.pad(pooled(x, squeeze), (reach, reach))
        s = sum(k * z[:, i : i + channels] for i, k in enumerate(kernel))
        return x * GATES[gate](s)[:, :, None, None]

    check(unit, theirs if squeeze == "mean" else None, formula, images(channels))


def test_eca_s_kernel_is_the_paper_s_and_timm_s() -> None:
    import_timm()
    from timm.layers import EcaModule

    for channels in (1, 2, 8, 24, 64, 127, 128, 255, 256, 512, 960, 2048):
        assert eca_kernel(channels) == EcaModule(channels).conv.kernel_size[0]
    assert (eca_kernel(64), eca_kernel(256), eca_kernel(2048)) == (3, 5, 7)


@pytest.mark.parametrize("squeeze", ["mean", "max"])
@pytest.mark.parametrize("gate", GATES)
def test_effective_se_is_its_formula_and_timm_s(gate: str, squeeze: str) -> None:
    import_timm()
    from timm.layers import EffectiveSEModule

    unit = EffectiveSE(6, gate, squeeze).double()
    theirs = EffectiveSEModule(6, gate_layer=TIMM_GATES[gate]).double()
    with torch.no_grad():
        theirs.fc.weight.copy_(unit.excite.weight[:, :, None, None])
        theirs.fc.bias.copy_(unit.excite.bias)

    def formula(x: Tensor) -> Tensor:
        z = pooled(x, squeeze)
        return x * GATES[gate](z @ unit.excite.weight.T + unit.excite.bias)[:, :, None, None]

    check(unit, theirs if squeeze == "mean" else None, formula, images())


def spatial_formula(conv: nn.Conv2d, gate: str, x: Tensor) -> Tensor:
    """CBAM, eq. 3: one 7x7 convolution over the mean and the maximum of the channels."""
    both = torch.stack((x.sum(1) / x.shape[1], x.max(1).values), 1)
    patches = F.unfold(both, 7, padding=3)
    s = conv.weight.flatten() @ patches + conv.bias
    return x * GATES[gate](s).view(len(x), 1, *x.shape[2:])


def without_norm(theirs: nn.Module, conv: nn.Conv2d) -> nn.Module:
    """timm's norm in the spatial part as the bias that it folds to."""
    theirs.conv.bn.eps = 0.0
    theirs.conv.bn.bias = nn.Parameter(conv.bias.detach().clone())
    theirs.conv.conv.load_state_dict({"weight": conv.weight})
    return theirs.double().eval()


@pytest.mark.parametrize("gate", GATES)
def test_spatial_attention_is_its_formula_and_timm_s(gate: str) -> None:
    import_timm()
    from timm.layers.cbam import SpatialAttn

    unit = SpatialAttention(gate).double()
    theirs = without_norm(SpatialAttn(), unit.spatial)
    reference = theirs if gate == "sigmoid" else None
    check(unit, reference, lambda x: spatial_formula(unit.spatial, gate, x), images())


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("gate", GATES)
def test_cbam_is_its_formula_and_timm_s(gate: str, activation: str) -> None:
    import_timm()
    from timm.layers.cbam import CbamModule

    unit = CBAM(6, 3, activation, gate).double()
    with torch.no_grad():  # timm's linear maps have no bias
        for linear in (unit.reduce, unit.expand):
            linear.bias.zero_()
    theirs = CbamModule(6, rd_channels=3)
    without_norm(theirs.spatial, unit.spatial)
    theirs = theirs.double().eval()
    with torch.no_grad():
        theirs.channel.fc1.weight.copy_(unit.reduce.weight[:, :, None, None])
        theirs.channel.fc2.weight.copy_(unit.expand.weight[:, :, None, None])
    reference = theirs if (gate, activation) == ("sigmoid", "relu") else None

    def formula(x: Tensor) -> Tensor:
        def excite(z: Tensor) -> Tensor:
            hidden = ACTIVATIONS[activation]()(z @ unit.reduce.weight.T + unit.reduce.bias)
            return hidden @ unit.expand.weight.T + unit.expand.bias

        s = GATES[gate](excite(pooled(x, "mean")) + excite(pooled(x, "max")))
        return spatial_formula(unit.spatial, gate, x * s[:, :, None, None])

    check(unit, reference, formula, images())
    with torch.no_grad():  # with a bias, which counts once for the means and once for the maxima
        unit.expand.bias.normal_()
        unit.reduce.bias.normal_()
    check(unit, None, formula, images())


@pytest.mark.parametrize("squeeze", ["mean", "max", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str, squeeze: str) -> None:
    spec = SESpec(ratio=2, squeeze=squeeze, activation="silu", gate="sigmoid", kind=kind)
    unit = build_attention(spec.unit(4, 2, 3)).double()
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in unit.named_parameters()]
        return torch.func.functional_call(unit, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *unit.parameters()))


@pytest.mark.parametrize("kind", ["eca", "ese"])
def test_without_a_squeeze_a_position_is_all_that_its_gate_sees(kind: str) -> None:
    spec = SESpec(ratio=1, squeeze="none", kind=kind)
    unit, squeezing = (build_attention(s.unit(6, 0, 5)).double() for s in (spec, SESpec(ratio=1, kind=kind)))
    squeezing.load_state_dict(unit.state_dict())
    x = images()
    for row in range(5):
        alone = x[:, :, row : row + 1, :1]
        torch.testing.assert_close(unit(x)[:, :, row : row + 1, :1], squeezing(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_is_of_its_kind_and_says_its_gates(kind: str) -> None:
    classes = {
        "se": SqueezeExcite,
        "eca": EfficientChannelAttention,
        "ese": EffectiveSE,
        "cbam": CBAM,
        "spatial": SpatialAttention,
    }
    unit = build_attention(SESpec(ratio=2, gate="sigmoid", kind=kind).unit(6, 3, 5)).double()
    assert type(unit) is classes[kind]
    x = images()
    for twin in (copy.deepcopy(unit), pickle.loads(pickle.dumps(unit))):
        torch.testing.assert_close(twin(x), unit(x))
    gates = unit.gates(x)  # a channel's, or a position's last
    torch.testing.assert_close(unit(x), x * (gates[:, :, None, None] if gates.dim() == 2 else gates.movedim(-1, 1)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_keeps_the_map_s_form(kind: str, layout: torch.memory_format) -> None:
    unit = build_attention(SESpec(ratio=2, kind=kind).unit(8, 4, 5))
    x = torch.randn(2, 8, 5, 6).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        y = unit(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert y.is_contiguous(memory_format=layout)
    compiled = torch.export.export(unit, (x,)).module()
    torch.testing.assert_close(compiled(x), unit(x))


@pytest.mark.parametrize("position", ["inside", "standard", "pre", "post", "identity"])
def test_a_block_attends_at_its_position_alone(position: Position) -> None:
    from se_nas.layers.blocks import Block

    spec = block_spec(
        "bottleneck",
        6,
        6,
        resolution=5,
        expanded=4,
        se=SESpec(ratio=2, ratio_of="block_output", divisor=1, position=position),
    )
    block = Block(spec).double()
    places: tuple[Position, ...] = ("inside", "standard", "pre", "post", "identity")
    x = images(block.spec.se_channels)
    for place in places:
        attended = block.attend(place, x)
        if place == position:
            torch.testing.assert_close(attended, block.se(x))
        else:
            assert attended is x


def unit_of(kind: str, squeeze: str = "mean") -> nn.Module:
    spec = SESpec(ratio=2, divisor=1, kind=kind, squeeze=squeeze)
    unit = block_spec("mbconv", 8, 8, resolution=4, expanded=16, se=spec).unit
    assert unit is not None
    return build_attention(unit)


def layers_called(unit: nn.Module, x: Tensor) -> list[str]:
    called = []
    for name, layer in unit.named_children():
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
    unit(x)
    return sorted(set(called))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_called_as_a_module_so_that_a_hook_sees_it(kind: str, training: bool) -> None:
    unit = unit_of(kind).train(training)
    assert layers_called(unit, torch.randn(2, 16, 4, 4)) == sorted(dict(unit.named_children()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_modules_and_what_takes_their_place_in_training_agree_in_values_and_gradients(kind: str) -> None:
    unit, x = unit_of(kind).double(), torch.randn(2, 16, 4, 4, dtype=torch.float64, requires_grad=True)
    results = []
    for training in (True, False):
        out = unit.train(training)(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *unit.parameters()])])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("eca", "spatial")])
def test_linear_layers_can_be_quantised_dynamically(kind: str) -> None:
    unit, x = unit_of(kind).eval(), torch.randn(2, 16, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of a newer package to quantise with
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(unit), {nn.Linear}, dtype=torch.qint8)
    assert not any(type(layer) is nn.Linear for layer in quantised.modules())
    with torch.inference_mode():
        difference = (quantised(x) - unit(x)).abs().max()
    assert 0 < difference < 0.1 * float(x.abs().max())


def test_a_stand_in_for_a_layer_counts_in_training_too() -> None:
    class Doubled(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer, self.weight, self.bias = layer, layer.weight, layer.bias

        def forward(self, z: Tensor) -> Tensor:
            return 2 * self.layer(z)

    unit, x = unit_of("se").train(), torch.randn(2, 16, 4, 4)
    before = unit(x)
    unit.expand = Doubled(unit.expand)
    assert not torch.allclose(unit(x), before)
