"""What the comparison of an export with its network notices."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from se_nas.cost.latency.runtimes.openvino_process import UNTIMED
from se_nas.errors import ExportError
from se_nas.export.agreement import BATCHES, greatest_difference, latency_beside
from se_nas.layers.network import Network
from se_nas.space.search_space import SearchSpace
from tests.export.trained import trained


@pytest.fixture(scope="module")
def network(tiny_space: SearchSpace) -> Network:
    return trained(tiny_space.resolve(next(tiny_space.enumerate()))).eval()


@torch.no_grad()
def test_the_difference_is_the_greatest_as_a_share_of_the_greatest_logit(network: Network) -> None:
    seen = []

    def scaled(images: Tensor) -> Tensor:
        seen.append(len(images))
        logits: Tensor = network(images)
        return logits * (1.5 if len(images) == 3 else 1.0)

    assert greatest_difference(network, network) == 0
    assert greatest_difference(network, scaled) == pytest.approx(0.5)
    assert tuple(seen) == BATCHES == (1, 3)


@torch.no_grad()
def test_what_cannot_be_compared_is_refused(network: Network) -> None:
    def frozen(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits[:1]

    with pytest.raises(ExportError, match=r"shape \(3, 3\), but got \(1, 3\)"):
        greatest_difference(network, frozen)
    for batch in BATCHES:
        one_is_nan = greatest_difference(network, lambda x, n=batch: network(x) * (math.nan if len(x) == n else 1))
        assert math.isnan(one_is_nan)
    broken = trained(network.spec).eval()
    broken.head.classifier.bias[0] = float("nan")
    with pytest.raises(ExportError, match="must be finite"):
        greatest_difference(broken, network)


def test_latencies_take_turns_and_leave_threads_and_layout_alone(network: Network) -> None:
    images: list[Tensor] = []

    def run(image: Tensor) -> Tensor:
        images.append(image)
        return network(image)

    found = latency_beside("another", run, network, rounds=6)
    assert len(images) == 6 * (UNTIMED + 1)
    assert images[0].shape == (1, 1, 8, 8)
    for timed in (found.of("another"), found.pytorch):
        assert timed.n == 6
        low, high = timed.ci95_ms
        assert 0 < low <= timed.median_ms <= high
    assert found.conditions.threads == found.conditions.batch_size == 1
    assert network.stem.conv.weight.is_contiguous()
