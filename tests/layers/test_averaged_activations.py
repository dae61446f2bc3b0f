"""The average of activations is the sum written out, its own backward the derivative, and it keeps one map."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from se_nas.layers import averaged_activations as code
from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.averaged_activations import averaged_activations

NAMES = [*itertools.combinations(("relu", "hard_swish", "silu"), 2), tuple(ACTIVATIONS)]
FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def written_out(names: tuple[str, ...], weights: Tensor, x: Tensor) -> Tensor:
    return torch.stack([w * ACTIVATIONS[name]()(x) for w, name in zip(weights, names, strict=True)]).sum(0)


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
@pytest.mark.parametrize("layout", FORMATS)
def test_it_is_the_sum_and_passes_gradcheck(
    names: tuple[str, ...], layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_PART_BYTES", 56)  # in parts, the last of which is smaller
    torch.manual_seed(0)
    weights = torch.rand(len(names), dtype=torch.float64).requires_grad_()
    x = (4 * torch.randn(2, 3, 3, 2, dtype=torch.float64)).to(memory_format=FORMATS[layout]).requires_grad_()
    expected = written_out(names, weights, x)
    found = averaged_activations(names, weights, x)
    torch.testing.assert_close(found, expected)
    assert found.stride() == x.stride()
    with torch.no_grad():
        torch.testing.assert_close(averaged_activations(names, weights, x), expected)
    assert torch.autograd.gradcheck(lambda *given: averaged_activations(names, *given), (weights, x))
    several = vmap(lambda given: averaged_activations(names, weights, given))(torch.stack((x, x)))
    torch.testing.assert_close(several[1], expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_alone_it_is_the_activation_bit_for_bit(name: str) -> None:
    others = tuple(other for other in ACTIVATIONS if other != name)
    x = torch.linspace(-8, 8, 101).requires_grad_()
    found = averaged_activations((name, *others), torch.tensor([1.0, *[0.0] * len(others)]), x)
    alone = ACTIVATIONS[name]()(x)
    assert torch.equal(found, alone)
    slopes = [torch.autograd.grad(y, x, torch.ones_like(x))[0] for y in (found, alone)]
    assert torch.equal(*slopes)


def test_a_gradient_of_another_layout_is_the_same_gradient() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.25, 0.75])
    x = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    grad = torch.randn(2, 3, 4, 4)
    found = [
        torch.autograd.grad(f(("relu", "silu"), weights, x), x, grad)[0] for f in (averaged_activations, written_out)
    ]
    torch.testing.assert_close(*found)


def test_a_part_of_a_map_is_as_good_as_a_map() -> None:
    x = torch.randn(2, 6, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    weights = torch.tensor([0.25, 0.75])
    found = [f(("relu", "silu"), weights, x[:, 1:4, ::2]) for f in (averaged_activations, written_out)]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in found))


def test_it_keeps_its_input_and_nothing_else_of_that_size() -> None:
    kept: list[int] = []
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    weights = torch.rand(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        y = averaged_activations(("relu", "gelu", "mish"), weights, x)
    y.sum().backward()
    assert sorted(kept) == [3, x.numel()]
