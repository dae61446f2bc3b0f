from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from se_nas.data.in_memory.batches import DeviceImages
from se_nas.errors import ArchitectureError
from se_nas.search.one_shot.inheritance import inherit, inherited_accuracy
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from tests.search.problems import make_problem


@pytest.fixture
def problem(tiny_space: SearchSpace, tmp_path: Path) -> SearchProblem:
    return make_problem(tiny_space, tmp_path)


@pytest.fixture
def supernet(problem: SearchProblem) -> SuperNet:
    """Untrained, with running statistics that no batch of images has."""
    torch.manual_seed(0)
    net = SuperNet(problem.space)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.running_mean, 5.0)
    return net


@pytest.fixture
def images(problem: SearchProblem) -> DeviceImages:
    return DeviceImages(problem.info, problem.train, problem.device)


def drawn(problem: SearchProblem, seed: int = 0) -> Architecture:
    return problem.space.sample(np.random.default_rng(seed))


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_the_weights_are_the_supernets_and_the_statistics_those_of_the_weights_part(
    problem: SearchProblem, supernet: SuperNet, images: DeviceImages
) -> None:
    network = inherit(supernet, drawn(problem), images, problem, 1000)
    exported = supernet.export(drawn(problem))
    for (name, own), other in zip(network.named_parameters(), exported.parameters(), strict=True):
        assert torch.equal(own, other), name
    # by hand, for the first norm: the mean of what the stem's convolution makes of all 100 images of that part
    ((x, _),) = images.evaluate_batches(problem.parts["weights"], 1000)
    convolution = next(layer for layer in exported.stem.modules() if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in network.stem.modules() if isinstance(layer, nn.BatchNorm2d))
    torch.testing.assert_close(norm.running_mean, convolution(x).detach().mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_the_supernet_stays_as_it_is(problem: SearchProblem, supernet: SuperNet, images: DeviceImages) -> None:
    before = state(supernet)
    ((x, _),) = images.evaluate_batches(problem.parts["validation"][:10], 10)
    active = supernet.eval().activate(drawn(problem, 1))
    expected = active(x)
    inherited_accuracy(supernet, drawn(problem), images, problem, 50)
    assert torch.equal(supernet(x), expected)
    assert not supernet.training
    assert all(torch.equal(value, before[name]) for name, value in state(supernet).items())


def test_the_accuracy_is_over_the_validation_part(
    problem: SearchProblem, supernet: SuperNet, images: DeviceImages
) -> None:
    network = inherit(supernet, drawn(problem), images, problem, 50).eval()
    ((x, y),) = images.evaluate_batches(problem.parts["validation"], 1000)
    with torch.inference_mode():
        expected = (network(x).argmax(1) == y).float().mean().item()
    assert inherited_accuracy(supernet, drawn(problem), images, problem, 50) == pytest.approx(expected)


def test_the_same_images_calibrate_every_time_and_the_seed_says_which(
    problem: SearchProblem, supernet: SuperNet, images: DeviceImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    batches = DeviceImages.evaluate_batches

    def recorded(self: DeviceImages, indices: torch.Tensor, batch_size: int):
        seen.append(indices)
        return batches(self, indices, batch_size)

    monkeypatch.setattr(DeviceImages, "evaluate_batches", recorded)
    for seed in (0, 1):
        inherit(supernet, drawn(problem, seed), images, problem, 30)
    assert torch.equal(seen[0], seen[1])
    assert len(seen[0].unique()) == 30
    assert set(seen[0].tolist()) <= set(problem.parts["weights"].tolist())
    object.__setattr__(problem, "seed", 1)
    inherit(supernet, drawn(problem), images, problem, 30)
    assert not torch.equal(seen[0], seen[2])


def test_an_architecture_of_another_space_is_refused(
    problem: SearchProblem, supernet: SuperNet, images: DeviceImages
) -> None:
    other = Architecture("0" * 16, drawn(problem).picks)
    with pytest.raises(ArchitectureError, match="must be of this space"):
        inherited_accuracy(supernet, other, images, problem, 30)
