"""Law 1: a supernet's active slice, its exported network and its mixture at one-hot probabilities are one function."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from se_nas.supernet.supernet import SuperNet
from tests.helpers.probabilities import one_hot
from tests.helpers.strategies import spaces_with_architectures
from tests.laws.shipped import SHIPPED, reduced


def lively_supernet(space: SearchSpace, seed: int) -> SuperNet:
    """In float64, and with no weight or statistic left at a value that could hide a mistake."""
    torch.manual_seed(seed)
    supernet = SuperNet(space).double()
    with torch.no_grad():
        for name, tensor in [*supernet.named_parameters(), *supernet.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0.0, 0.5)
            elif tensor.dim() == 1 and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
    return supernet


def images(space: SearchSpace, count: int = 3, architecture: Architecture | None = None) -> Tensor:
    """Of the resolution that an architecture has; without one, that of the space."""
    (side,) = space.resolutions if architecture is None else (space.resolve(architecture).resolution,)
    return torch.randn(count, space.channels, side, side, dtype=torch.float64)


def run(network: nn.Module, x: Tensor) -> Tensor:
    """The output, with the dropout of every other run."""
    torch.manual_seed(0)
    output: Tensor = network(x)
    return output


@given(spaces_with_architectures(), st.booleans(), st.integers(0, 2**16))
def test_activate_export_and_one_hot_mixture_agree(
    drawn: tuple[SearchSpace, Architecture], training: bool, seed: int
) -> None:
    space, architecture = drawn
    supernet = lively_supernet(space, seed).train(training)
    x = images(space, architecture=architecture)
    exported = supernet.export(architecture)
    assert exported.training == training
    assert exported.spec == space.resolve(architecture)
    mixture = copy.deepcopy(supernet).mix(one_hot(space, architecture))
    expected = run(exported, x)
    torch.testing.assert_close(run(supernet.activate(architecture), x), expected)
    torch.testing.assert_close(run(mixture, x), expected)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_in_the_shipped_spaces(path: Path) -> None:
    space = load_space(path)
    space = space if max(space.resolutions) <= 32 else reduced(space)
    rng = np.random.default_rng(1)
    supernet = lively_supernet(space, 0).eval()
    with torch.no_grad():
        for _ in range(2):
            architecture = space.sample(rng)
            x = images(space, 1, architecture)
            expected = supernet.export(architecture)(x)
            assert expected.abs().max() > 1e-6
            torch.testing.assert_close(supernet.activate(architecture)(x), expected)
            torch.testing.assert_close(supernet.mix(one_hot(space, architecture))(x), expected)


@given(spaces_with_architectures(), st.integers(0, 2**16))
def test_training_a_slice_moves_the_same_statistics(drawn: tuple[SearchSpace, Architecture], seed: int) -> None:
    space, architecture = drawn
    supernet = lively_supernet(space, seed).train()
    exported, x = supernet.export(architecture), images(space)
    supernet.activate(architecture)(x)
    exported(x)
    found, expected = supernet.export(architecture).state_dict(), exported.state_dict()
    for name in expected:
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(found[name], expected[name], msg=lambda text, name=name: f"{name}: {text}")


@given(spaces_with_architectures(), st.integers(0, 2**16))
def test_gradients_of_a_slice_are_the_exported_network_s(drawn: tuple[SearchSpace, Architecture], seed: int) -> None:
    space, architecture = drawn
    supernet = lively_supernet(space, seed).train()
    exported, x = supernet.export(architecture), images(space, architecture=architecture)
    for network in (supernet.activate(architecture), exported):
        run(network, x).square().sum().backward()
    expected = sum(float(p.grad.square().sum()) for p in exported.parameters() if p.grad is not None)
    found = sum(float(p.grad.square().sum()) for p in supernet.parameters() if p.grad is not None)
    assert found == pytest.approx(expected, rel=1e-7)


def test_an_export_shares_no_memory_with_the_supernet(tiny_space: SearchSpace) -> None:
    supernet = SuperNet(tiny_space)
    exported = supernet.export(next(tiny_space.enumerate()))
    before = [p.clone() for p in exported.parameters()]
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(before, exported.parameters(), strict=True))
