"""Mixed gates against writing the mixture out, and their own backward against finite differences and autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATION_GRADIENTS, ACTIVATIONS, GATES, activation_function
from se_nas.supernet.attention.cbam import CBAMLinears
from se_nas.supernet.attention.eca import ECAPart
from se_nas.supernet.attention.ese import EffectiveSEPart
from se_nas.supernet.mixed_gate import MixedGate, UnitFunctions
from se_nas.supernet.mixture import prefix_masks
from se_nas.supernet.two_linears import TwoLinears

CHANNELS = 5
WIDTHS = (4, 3, 1)
PLAIN = UnitFunctions(("mean",), ("silu",), ("sigmoid",))
MASK = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.0])
SE, ECA, ESE = (TwoLinears(WIDTHS, CHANNELS),), (ECAPart(),), (EffectiveSEPart(),)
CBAM = (CBAMLinears(WIDTHS, CHANNELS),)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def linears() -> list[Tensor]:
    return [torch.randn(size) for size in ((4, CHANNELS), (4,), (CHANNELS, 4), (CHANNELS,))]


def tensors_of(gate: MixedGate) -> list[Tensor]:
    """Some for every one that the gate depends on, in float64."""
    own = {
        TwoLinears: [prefix_masks(WIDTHS) * 0.9, *linears()],
        CBAMLinears: [prefix_masks(WIDTHS) * 0.9, *linears()],
        ECAPart: [torch.randn(1, 1, 3)],
        EffectiveSEPart: [torch.randn(CHANNELS, CHANNELS), torch.randn(CHANNELS)],
    }
    options = sum(len(WIDTHS) if isinstance(part, TwoLinears) else 1 for part in gate.parts)
    found = [torch.rand(1)[0]] * gate.none + [MASK] * gate.mask
    found += [torch.rand(len(names)) for names in gate.functions if len(names) > 1]
    found += [torch.rand(options), *(tensor for part in gate.parts for tensor in own[type(part)])]
    return [tensor.double().requires_grad_() for tensor in found]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(2, CHANNELS), (2, 3, 3, CHANNELS)])
def test_a_mixed_gate_is_the_sum_of_the_gates(masked: bool, shape: tuple[int, ...]) -> None:
    z, (w1, b1, w2, b2) = torch.randn(shape), linears()
    across, w, b = torch.randn(1, 1, 3), torch.randn(CHANNELS, CHANNELS), torch.randn(CHANNELS)
    none, *ratios, eca, ese = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.05, 0.25])
    weights = torch.stack([*ratios, eca, ese])
    tensors = [none, *([MASK] if masked else []), weights, prefix_masks(WIDTHS), w1, b1, w2, b2, across, w, b]
    found = MixedGate(True, masked, PLAIN, SE + ECA + ESE)(z, *tensors)
    seen = z * MASK if masked else z
    expected = none * torch.ones(shape)
    for weight, width in zip(ratios, WIDTHS, strict=True):
        hidden = F.silu(seen @ w1[:width].T + b1[:width])
        expected = expected + weight * torch.sigmoid(hidden @ w2[:, :width].T + b2)
    around = F.pad(seen, (1, 1))
    neighbours = sum(k * around[..., i : i + CHANNELS] for i, k in enumerate(across.flatten()))
    expected = expected + eca * torch.sigmoid(neighbours) + ese * torch.sigmoid(seen @ w.T + b)
    torch.testing.assert_close(found, expected * MASK if masked else expected)


def test_options_of_few_hidden_units_are_products_of_their_own() -> None:
    widths, channels = (64, 32, 32, 8, 4), 256
    z, masks = torch.randn(3, channels, dtype=torch.float64), prefix_masks(widths).double()
    maps = [torch.randn(size, dtype=torch.float64) for size in ((64, channels), (64,), (channels, 64), (channels,))]
    tensors = [t.requires_grad_() for t in (torch.rand(5, dtype=torch.float64), masks, *maps)]
    found, expected = (
        MixedGate(False, False, PLAIN, (TwoLinears(told, channels),))(z, *tensors) for told in (widths, [64] * 5)
    )
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(*(torch.autograd.grad(g.square().sum(), tensors) for g in (found, expected)), strict=True):
        present = prefix_masks(widths) if ours.shape == masks.shape else 1  # what no size has may have no gradient
        torch.testing.assert_close(ours * present, theirs * present)


def test_functions_are_averaged_where_they_stand() -> None:
    functions = UnitFunctions(("max", "mean"), ("silu", "relu"), tuple(GATES))
    of_maximum, of_mean = torch.tensor([0.3, 0.7])
    activations, gates = torch.tensor([0.4, 0.6]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    means, maxima, (w1, b1, w2, b2) = torch.randn(2, CHANNELS), torch.randn(2, CHANNELS), linears()
    given = (torch.stack((of_maximum, of_mean)), activations, gates, torch.ones(1), torch.ones(1, 4), w1, b1, w2, b2)
    found = MixedGate(False, False, functions, SE)(torch.stack((means, maxima)), *given)
    first = (of_mean * means + of_maximum * maxima) @ w1.T + b1
    excited = (activations[0] * F.silu(first) + activations[1] * F.relu(first)) @ w2.T + b2
    expected = sum(share * GATES[name](excited) for name, share in zip(functions.gates, gates, strict=True))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_a_mixed_gate_of_cbam_is_the_sum_of_its_gates(masked: bool) -> None:
    means, maxima, (w1, b1, w2, b2) = torch.randn(2, CHANNELS), torch.randn(2, CHANNELS), linears()
    weights = torch.tensor([0.2, 0.3, 0.5])
    gate = MixedGate(False, masked, PLAIN._replace(squeezes=("mean_and_max",)), CBAM)
    tensors = [*([MASK] if masked else []), weights, prefix_masks(WIDTHS), w1, b1, w2, b2]
    expected = torch.zeros(2, CHANNELS)
    for weight, width in zip(weights, WIDTHS, strict=True):
        excitations = []
        for z in (means, maxima):
            hidden = F.silu((z * MASK if masked else z) @ w1[:width].T + b1[:width])
            excitations.append(hidden @ w2[:, :width].T + b2)
        expected = expected + weight * torch.sigmoid(sum(excitations))
    found = gate(torch.stack((means, maxima)), *tensors)
    torch.testing.assert_close(found, expected * MASK if masked else expected)


EVERY = SE + ECA + ESE
PAIR = (2, 3, CHANNELS)
GATE_CASES = {
    "one function each": (MixedGate(True, False, PLAIN, EVERY), (3, CHANNELS)),
    "of positions": (MixedGate(True, True, PLAIN, EVERY), (2, 2, 3, CHANNELS)),
    "all": (MixedGate(True, True, UnitFunctions(("mean", "max"), ("relu", "silu"), tuple(GATES)), EVERY), PAIR),
    "maxima first": (MixedGate(False, False, UnitFunctions(("max", "mean"), ("silu",), ("relu",)), SE), PAIR),
    "also of positions": (
        MixedGate(False, True, UnitFunctions(("mean", "none", "max"), ("silu",), ("tanh", "relu")), SE + ESE),
        (2, 2, 3, CHANNELS),
    ),
    "activations that no kind reads": (MixedGate(True, False, PLAIN._replace(activations=("relu", "silu")), ECA), PAIR),
    "hard": (MixedGate(True, False, PLAIN._replace(gates=("hard_sigmoid",)), ESE), (3, CHANNELS)),
    "cbam": (MixedGate(False, True, PLAIN._replace(squeezes=("mean_and_max",)), CBAM), PAIR),
}


@pytest.mark.parametrize("case", GATE_CASES)
def test_its_own_backward_passes_gradcheck_and_is_autograd_s(case: str) -> None:
    gate, shape = GATE_CASES[case]
    z, tensors = torch.randn(shape, dtype=torch.float64, requires_grad=True), tensors_of(gate)
    assert torch.autograd.gradcheck(gate, (z, *tensors))
    plain, _ = gate.forward(z, *tensors)
    torch.testing.assert_close(gate(z, *tensors), plain)
    torch.testing.assert_close(vmap(lambda z: gate(z, *tensors))(torch.stack((z, z)))[1], plain)
    found, expected = (
        torch.autograd.grad(scale.square().sum(), (z, *tensors), allow_unused=True, materialize_grads=True)
        for scale in (gate(z, *tensors), plain)
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_in_place_between_forward_and_backward_is_noticed() -> None:
    gate = MixedGate(True, False, PLAIN, EVERY)
    tensors = tensors_of(gate)
    scale = gate(torch.randn(3, CHANNELS, dtype=torch.float64), *tensors)
    with torch.no_grad():
        tensors[-1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        scale.sum().backward()


def test_under_autocast_it_is_of_full_precision() -> None:
    gate, _ = GATE_CASES["one function each"]
    tensors = [tensor.detach().float().requires_grad_() for tensor in tensors_of(gate)]
    z = torch.randn(3, CHANNELS).bfloat16().requires_grad_()
    expected = gate(z.float(), *tensors)
    with torch.autocast("cpu", torch.bfloat16):
        found = gate(z, *tensors)
    torch.testing.assert_close(found, expected)
    of_z, *ours = torch.autograd.grad(found.sum(), [z, *tensors])
    torch.testing.assert_close(ours, list(torch.autograd.grad(expected.sum(), tensors)))
    assert of_z.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_of_an_activation_is_autograd_s(name: str) -> None:
    x = (4 * torch.randn(50, dtype=torch.float64)).requires_grad_()
    grad = torch.randn_like(x)
    (expected,) = torch.autograd.grad(activation_function(name)(x) * 1, x, grad)
    torch.testing.assert_close(ACTIVATION_GRADIENTS[name](grad, x.detach()), expected)
