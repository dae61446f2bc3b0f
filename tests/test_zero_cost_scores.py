"""The zero-cost scores that a benchmark measures, each against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import zero_cost_scores as scores
from torch import Tensor, nn
from torch.nn import functional as F


def softmax_gradient(weight: Tensor, x: Tensor, labels: Tensor) -> np.ndarray:
    """Of the mean cross-entropy of a linear classifier, by its formula: the mean of (p - y) x^T."""
    logits = x.double().numpy() @ weight.detach().double().numpy().T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    p[np.arange(len(p)), labels.numpy()] -= 1
    return np.asarray(p.T @ x.double().numpy() / len(x))


def test_gradient_scores_are_what_their_formulas_say_of_a_linear_classifier() -> None:
    torch.manual_seed(0)
    linear, images, labels = nn.Linear(12, 3, bias=False), torch.randn(6, 3, 2, 2), torch.tensor([0, 1, 2, 0, 1, 1])
    network, x = nn.Sequential(nn.Flatten(), linear), images.flatten(1)
    whole = softmax_gradient(linear.weight, x, labels)
    assert scores.gradient_norm(network, images, labels) == pytest.approx(np.sqrt((whole**2).sum()), rel=1e-5)
    weight = linear.weight.detach().numpy()
    assert scores.snip(network, images, labels) == pytest.approx(np.abs(whole * weight).sum(), rel=1e-5)
    a, b = (softmax_gradient(linear.weight, x[half], labels[half]) for half in (slice(3), slice(3, 6)))
    ratios = ((np.abs(a) + np.abs(b)) / 2) / (np.abs(a - b) / 2)  # mean size and deviation of two numbers
    assert scores.zico(network, images, labels) == pytest.approx(math.log(ratios.sum()), rel=1e-4)


def test_synflow_of_a_chain_is_its_flow_once_for_each_layer_whatever_the_images() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(8, 5, bias=False), nn.Linear(5, 4, bias=False)
    norm = nn.BatchNorm2d(2)
    network = nn.Sequential(norm, nn.Flatten(), first, nn.ReLU(), second)
    weights = [layer.weight.detach().abs().double() for layer in (second, first)]
    expected = 2 * float((weights[0] @ weights[1] @ torch.ones(8, dtype=torch.float64)).sum())
    for seed in (0, 1):
        images = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(seed))
        assert scores.synflow(network, images, torch.zeros(4)) == pytest.approx(expected, rel=1e-9)


class OneLayer(nn.Module):
    """As much of a network as Zen-score looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3))
        self.blocks = nn.ModuleList()
        self.head = Head()


class Head(nn.Module):
    def convolved(self, x: Tensor) -> Tensor:
        return x


def test_zen_is_the_log_of_the_change_and_of_the_deviations_that_norms_took_away() -> None:
    network, images = OneLayer(), torch.zeros(5, 2, 6, 6)
    torch.manual_seed(7)
    found = scores.zen(network, images, torch.zeros(5))
    torch.manual_seed(7)
    weight, x = torch.empty(3, 2, 3, 3).normal_(), torch.randn(5, 2, 6, 6)
    y, noisy = (F.conv2d(z, weight).double() for z in (x, x + scores.NOISE * torch.randn_like(x)))
    normed = [(z - z.mean((0, 2, 3), keepdim=True)) / z.std((0, 2, 3), correction=0, keepdim=True) for z in (y, noisy)]
    change = (normed[0] - normed[1]).abs().sum((1, 2, 3)).mean()
    deviation = y.var((0, 2, 3)).mean().sqrt()
    assert found == pytest.approx(float(change.log() + deviation.log()), rel=1e-3)
    assert network.stem[1].running_var.eq(1).all()  # the network itself is left as it was
