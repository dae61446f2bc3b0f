"""SE's kernels under Triton's interpreter, on tensors of the CPU. Triton need not be installed: it is 200 MB."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from se_nas.layers import kernels, squeeze_excite
from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.attention import se
from se_nas.layers.attention.se import SqueezeExcite

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: pip install triton")


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("TRITON_INTERPRET", "1")
        warnings.simplefilter("ignore")
        from se_nas.layers import triton_excitation

        if torch.cuda.is_available():  # it may be there as it is compiled
            importlib.reload(triton_excitation)
        yield triton_excitation


@pytest.fixture
def used(interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels take the place of torch's on the CPU, too; says which ran."""
    calls: list[str] = []
    for name in ("excite", "sum_of_products"):
        real = getattr(interpreted, name)
        monkeypatch.setattr(
            interpreted, name, lambda *given, name=name, real=real: (calls.append(name), real(*given))[1]
        )
    monkeypatch.setattr(se, "kernels_for", lambda device: interpreted)
    monkeypatch.setattr(squeeze_excite, "_sum_of_products", interpreted.sum_of_products)
    return calls


def results(unit: SqueezeExcite, x: Tensor, grad: Tensor) -> list[Tensor]:
    """The scaled map, its gradient, and those of the weights and biases."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = unit(leaf)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *unit.parameters()], grad)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("activation", "gate", "shape", "hidden"),
    [
        ("relu", "sigmoid", (17, 37, 5, 3), 5),
        ("silu", "hard_sigmoid", (2, 3, 1, 1), 1),
        ("hard_swish", "tanh", (3, 33, 1, 7), 17),
        ("relu6", "relu", (1, 70, 12, 13), 16),
        ("relu", "hard_sigmoid", (2, 40, 2, 2), 130),
    ],
)
def test_a_unit_and_its_gradients_are_torch_s(
    activation: str, gate: str, shape: tuple[int, ...], hidden: int, layout: torch.memory_format, used: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    torch.manual_seed(0)
    unit = SqueezeExcite(shape[1], hidden, activation, gate)
    torch.nn.init.normal_(unit.expand.bias)
    x, grad = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    found = results(unit, x, grad)
    assert used == ["excite", "sum_of_products"]
    monkeypatch.undo()
    for own, expected in zip(found, results(unit.double(), x.double(), grad.double()), strict=True):
        assert own.shape == expected.shape
        torch.testing.assert_close(own.double(), expected, rtol=1e-5, atol=1e-5)
    assert found[0].is_contiguous(memory_format=layout)


def test_slices_of_weights_are_read_where_they_lie(interpreted: ModuleType) -> None:
    torch.manual_seed(0)
    w1, b1, w2, b2 = torch.randn(9, 50), torch.randn(9), torch.randn(50, 9), torch.randn(50)
    given = [torch.randn(4, 20), w1[:5, :20], b1[:5], w2[:20, :5], b2[:20]]
    leaves = [t.clone().requires_grad_() for t in given]
    expected = torch.sigmoid(F.linear(F.relu(F.linear(*leaves[:3])), *leaves[3:]))
    scale, excited = interpreted.excite(("relu", "sigmoid"), *given)
    torch.testing.assert_close(scale, expected.detach())
    grad = torch.randn_like(scale)
    wanted = torch.autograd.grad(expected, leaves, grad)
    for own, other in zip(excited.gradients(given[0], given[1:], grad, True), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    of_z, *others = excited.gradients(given[0], given[1:], grad, False)
    torch.testing.assert_close(of_z, wanted[0], rtol=1e-5, atol=1e-5)
    assert others == [None] * 4


def test_products_of_half_precision_are_added_up_unrounded(interpreted: ModuleType) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 5, 9, 11).bfloat16(), torch.randn(2, 9, 11, 5).bfloat16().permute(0, 3, 1, 2)
    exact = (one.double() * other.double()).sum((2, 3))
    torch.testing.assert_close(interpreted.sum_of_products(one, other).double(), exact, rtol=1e-6, atol=1e-6)
    expanded = torch.ones(1, 1, 1, 1).expand(2, 5, 9, 11)
    torch.testing.assert_close(interpreted.sum_of_products(expanded, one).double(), one.double().sum((2, 3)))
    assert interpreted.sum_of_products(one[..., ::2, 1:], one[..., ::2, 1:]) is None  # rows do not follow on
    assert interpreted.sum_of_products(one.double(), other.double()) is None  # would be rounded


def test_what_has_no_kernel_is_torch_s(interpreted: ModuleType) -> None:
    weights = [torch.zeros(4, 8), torch.zeros(4), torch.zeros(8, 4), torch.zeros(8)]
    assert interpreted.excites("relu", torch.zeros(2, 8), weights)
    assert not interpreted.excites("mish", torch.zeros(2, 8), weights)
    assert not interpreted.excites("relu", torch.zeros(2, 8).double(), weights)
    assert not interpreted.excites("relu", torch.zeros(2, 8), [torch.zeros(300, 8), *weights[1:]])
    assert not interpreted.excites("relu", torch.zeros(2, 3, 8), weights)
    assert set(interpreted._ACTIVATIONS) <= set(ACTIVATIONS)
    assert kernels.kernels_for(torch.device("cpu")) is None


def test_kernels_that_compute_otherwise_are_found_out(interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert kernels._fault_of(interpreted, cpu) is None
    real = interpreted.sum_of_products
    monkeypatch.setattr(interpreted, "sum_of_products", lambda one, other: real(one, other) * 1.1)
    assert "off by" in str(kernels._fault_of(interpreted, cpu))
    monkeypatch.setattr(interpreted, "sum_of_products", lambda one, other: real(one, other) * float("nan"))
    assert "off by nan" in str(kernels._fault_of(interpreted, cpu))
