"""The average of gate functions is the sum written out, and its own backward the derivative."""

from __future__ import annotations

import pytest
import torch
from torch.func import vmap

from se_nas.layers.activations import GATES
from se_nas.layers.averaged_gates import averaged_gates


@pytest.mark.parametrize("names", [tuple(GATES), ("relu", "sigmoid"), ("tanh", "hard_sigmoid")], ids=" ".join)
@pytest.mark.parametrize("shape", [(3, 2, 5), (2, 2, 3, 3, 4), (1, 4)])
def test_it_is_the_sum_and_passes_gradcheck(names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    shares = torch.rand(len(names), dtype=torch.float64).requires_grad_()
    weights = torch.rand(shape[0], dtype=torch.float64).requires_grad_()
    x = (4 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    expected = sum(
        share * weight * GATES[name](one)
        for name, share in zip(names, shares, strict=True)
        for weight, one in zip(weights, x, strict=True)
    )
    torch.testing.assert_close(averaged_gates(names, shares, weights, x), expected)
    with torch.no_grad():
        torch.testing.assert_close(averaged_gates(names, shares, weights, x), expected.detach())
    assert torch.autograd.gradcheck(lambda *given: averaged_gates(names, *given), (shares, weights, x))
    several = vmap(lambda given: averaged_gates(names, shares, weights, given))(torch.stack((x, x)))
    torch.testing.assert_close(several[1], expected)
