"""Recalibrated statistics are the plain mean over batches; weights and modes stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from se_nas.layers.network import Network
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.calibration import recalibrate
from se_nas.supernet.supernet import SuperNet


@pytest.fixture
def network(tiny_space: SearchSpace) -> Network:
    torch.manual_seed(0)
    *_, largest = tiny_space.enumerate()
    return SuperNet(tiny_space).export(largest)


def batches(count: int = 3) -> list[Tensor]:
    return [torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(i)) * (i + 1) for i in range(count)]


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_statistics_are_the_plain_mean_of_the_batches(network: Network) -> None:
    for norm in norms(network):  # what was there before must not matter
        norm.running_mean.fill_(7.0)
        norm.running_var.fill_(7.0)
    recalibrate(network, batches())
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms(network)}
    hooks = [n.register_forward_pre_hook(lambda norm, inputs: seen[norm].append(inputs[0])) for n in norms(network)]
    network.eval()
    for norm in norms(network):  # a norm's input depends on the batch statistics of those before it
        norm.train()
        norm.momentum = 0.0
    with torch.no_grad():
        for batch in batches():
            network(batch)
    for hook in hooks:
        hook.remove()
    assert len(seen) > 5
    for norm, inputs in seen.items():
        mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
        variance = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in inputs]).mean(0)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)


@pytest.mark.parametrize("training", [False, True])
def test_weights_modes_and_momenta_stay(network: Network, training: bool) -> None:
    network.train(training)
    network.head.dropout.train(not training)  # a mode of its own
    network.blocks[0].project_norm.momentum = 0.3
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    recalibrate(network, batches())
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    assert all(p.grad is None for p in network.parameters())
    assert network.training == training
    assert network.head.dropout.training != training
    assert {layer.training for layer in norms(network)} == {training}
    assert network.blocks[0].project_norm.momentum == 0.3


def test_the_order_of_batches_and_a_repetition_change_nothing(network: Network) -> None:
    recalibrate(network, batches())
    once = [norm.running_mean.clone() for norm in norms(network)]
    recalibrate(network, reversed(batches()))
    for mean, norm in zip(once, norms(network), strict=True):
        torch.testing.assert_close(norm.running_mean, mean)


def test_no_batch_and_a_whole_supernet_are_refused(network: Network, tiny_space: SearchSpace) -> None:
    network.train()
    with pytest.raises(ValueError, match="every norm must see a batch"):
        recalibrate(network, [])
    assert network.training
    supernet = SuperNet(tiny_space).activate(next(tiny_space.enumerate()))
    with pytest.raises(ValueError, match="recalibrate an exported network"):
        recalibrate(supernet, batches())
