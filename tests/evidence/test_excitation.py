from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se_nas.errors import ArchitectureError, DataError
from se_nas.evidence import gates
from se_nas.evidence.excitation import NEGLIGIBLE, Loss, losses_with, study_excitation
from se_nas.evidence.gates import BINS, GateStatistics, collect_gates, units_of
from se_nas.layers.network import Network
from se_nas.space.yaml.file import parse_space
from tests.export.trained import trained

CLASSES = ("a", "b", "c")


def network_with_se(*options: Any, **slot: Any) -> Network:
    """A block for each option, at 8x8, the last with stride 2 where SE need not stand on its shortcut."""
    stages = [
        {"width": 8, "kernel": 3, "expansion": 2, "se": {"options": [option], "divisor": 4, **slot}}
        for option in options
    ]
    stages[-1] |= {"stride": 1 if slot.get("position") == "identity" else 2}
    space = parse_space(
        {"name": "x", "resolution": 8, "classes": len(CLASSES), "stem": {"width": 8}, "stages": stages}, "x"
    )
    return trained(space.resolve(next(space.enumerate()))).eval()


@pytest.fixture(scope="module")
def network() -> Network:
    return network_with_se(2, "none", 4)


def images(count: int = 90, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % len(CLASSES)
    return torch.randn(count, 3, 8, 8, generator=generator) + labels[:, None, None, None], labels


def batches(x: Tensor, labels: Tensor, size: int = 32) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), labels.split(size), strict=True))


def statistics(gates: Any, labels: Any, classes: int = 3) -> GateStatistics:
    """Of gates (N, C), by the plain formulas."""
    gates, labels = np.asarray(gates, dtype=np.float64), np.asarray(labels)
    members = [gates[labels == label] for label in range(classes)]
    histogram, _ = np.histogram(gates.clip(0, 1), bins=BINS, range=(0, 1))
    return GateStatistics(
        np.array([float(len(each)) for each in members]),
        np.stack([each.sum(0) for each in members]),
        np.stack([(each**2).sum(0) for each in members]),
        histogram / gates.size,
        np.ones(gates.shape[1]),
    )


def inputs_of_units(network: Network, x: Tensor) -> dict[int, Tensor]:
    """What each SE is given, by its block's index."""
    seen: dict[int, Tensor] = {}
    hooks = [
        block.se.register_forward_pre_hook(lambda _, given, at=at: seen.__setitem__(at, given[0].clone()))
        for at, block in enumerate(network.blocks)
        if block.spec.se is not None
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return seen


def test_gates_are_those_of_the_formula_and_their_statistics_those_of_numpy(network: Network) -> None:
    x, labels = images()
    found = collect_gates(network, units_of(network), batches(x, labels), len(CLASSES))
    assert [unit.index for unit in units_of(network)] == [0, 2]
    for statistic, (index, given) in zip(found, inputs_of_units(network, x).items(), strict=True):
        se = network.blocks[index].se
        hidden = torch.relu(given.mean((2, 3)) @ se.reduce.weight.T + se.reduce.bias)
        gates = nn.functional.hardsigmoid(hidden @ se.expand.weight.T + se.expand.bias).detach().double().numpy()
        np.testing.assert_allclose(statistic.mean, gates.mean(0), atol=1e-6)
        np.testing.assert_allclose(statistic.std, gates.std(0), atol=1e-5)
        for label in range(len(CLASSES)):
            members = gates[labels.numpy() == label]
            np.testing.assert_allclose(statistic.class_mean[label], members.mean(0), atol=1e-6)
            np.testing.assert_allclose(statistic.class_std[label], members.std(0), atol=1e-5)
        scaled = given.double().numpy() * gates[:, :, None, None]
        np.testing.assert_allclose(statistic.rms, np.sqrt((scaled**2).mean((0, 2, 3))), rtol=1e-5)
        assert statistic.histogram.sum() == pytest.approx(1)
        assert statistic.closed == pytest.approx((gates < 0.05).mean(), abs=1e-9)
        assert statistic.opened == pytest.approx((gates >= 0.95).mean(), abs=1e-9)


def test_a_loss_is_that_of_the_whole_network_run_again(network: Network) -> None:
    x, labels = images(300)
    found = study_excitation(network, lambda words: batches(x, labels), CLASSES)
    with torch.no_grad():
        before = network(x).argmax(1) == labels
    assert found.accuracy == pytest.approx(float(before.double().mean()))
    for study in found.units:
        block = network.blocks[study.unit.index]
        se = block.se
        for loss, scale in ((study.fixed, torch.from_numpy(study.gates.mean).float()), (study.removed, torch.ones(1))):
            block.se = _Times(scale)
            with torch.no_grad():
                after = network(x).argmax(1) == labels
            block.se = se
            assert (loss.worse, loss.better) == (int((before & ~after).sum()), int((after & ~before).sum()))
            assert loss.share == pytest.approx(float(before.double().mean() - after.double().mean()))
    assert any(study.removed.worse + study.removed.better for study in found.units)


class _Times(nn.Module):
    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(-1, 1, 1)


def test_the_network_is_left_as_it_was(network: Network) -> None:
    x, labels = images()
    units = [network.blocks[0].se, network.blocks[2].se]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    study_excitation(network, lambda words: batches(x, labels), CLASSES)
    assert network.training
    network.eval()
    assert [network.blocks[0].se, network.blocks[2].se] == units
    assert not any(unit._forward_hooks for unit in units)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_every_image_is_asked_for_the_same_few_times_whatever_the_number_of_units() -> None:
    x, labels = images(60)
    asked: list[str] = []

    def ask(words: str) -> Iterable[tuple[Tensor, Tensor]]:
        asked.append(words)
        return batches(x, labels)

    study_excitation(network_with_se(2, 2, 4, 4, 2), ask, CLASSES)
    assert len(asked) in (2, 3)


def test_a_constant_gate_is_idle_and_costs_nothing_to_fix() -> None:
    network = network_with_se(2, "none", 4)
    for index in (0, 2):
        nn.init.zeros_(network.blocks[index].se.expand.weight)  # the gate is then that of the bias alone
    x, labels = images(1200)
    found = study_excitation(network, lambda words: batches(x, labels, 300), CLASSES)
    for study in found.units:
        assert (study.fixed.worse, study.fixed.better) == (0, 0)
        assert study.gates.class_share is None
        assert study.gates.std.max() < 1e-6
    assert found.idle == list(found.units)
    assert found.together == Loss(0, 0, 1200)


def test_saturated_gates_are_told_apart() -> None:
    network = network_with_se(2, 4, gate="sigmoid")
    for index, bias in ((0, 20.0), (1, -20.0)):
        nn.init.zeros_(network.blocks[index].se.expand.weight)
        nn.init.constant_(network.blocks[index].se.expand.bias, bias)
    opened, closed = collect_gates(network, units_of(network), batches(*images()), len(CLASSES))
    assert (opened.opened, opened.closed, opened.entropy) == (1, 0, 0)
    assert (closed.opened, closed.closed, closed.entropy) == (0, 1, 0)
    assert closed.rms.max() < 1e-6


def test_entropy_is_greatest_where_every_value_is_as_frequent() -> None:
    even = statistics((np.arange(600).reshape(300, 2) % BINS + 0.5) / BINS, np.arange(300) % 3)
    assert even.entropy == pytest.approx(1)


def test_the_share_of_classes_is_1_where_they_decide_and_0_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(3000) % 3
    levels = rng.uniform(0.2, 0.8, (3, 5))
    assert statistics(levels[labels], labels).class_share == pytest.approx(1)
    noise = rng.normal(0, 0.1, (3000, 5))
    assert statistics(0.5 + noise, labels).class_share == pytest.approx(0, abs=2e-3)
    spread = np.sqrt(np.var(levels, axis=0).mean())
    half = levels[labels] + rng.normal(0, spread, (3000, 5))
    assert statistics(half, labels).class_share == pytest.approx(0.5, abs=0.02)
    assert statistics(np.full((3000, 5), 0.5), labels).class_share is None
    assert statistics(noise[:3], labels[:3]).class_share is None


def test_chance_is_taken_out_of_the_share_of_classes() -> None:
    rng = np.random.default_rng(1)
    few = [statistics(rng.uniform(size=(60, 4)), np.arange(60) % 30, classes=30).class_share for _ in range(40)]
    assert np.mean(few) < 0.06  # uncorrected, 30 classes of 2 images explain half of the variance


def test_a_class_without_images_has_no_gates() -> None:
    found = statistics(np.random.default_rng(0).uniform(size=(40, 4)), np.arange(40) % 2)
    assert np.isnan(found.class_mean[2]).all()
    assert np.isnan(found.class_distance).tolist() == [False, False, True]
    assert found.class_share is not None


def test_the_verdict_needs_enough_images() -> None:
    assert Loss(0, 0, 100).verdict == "unclear"
    assert Loss(0, 0, 10_000).verdict == "idle"
    assert Loss(90, 90, 10_000).verdict == "idle"
    assert Loss(900, 890, 10_000).verdict == "unclear"
    assert Loss(100, 50, 10_000).verdict == "works"
    assert Loss(50, 100, 10_000).verdict == "idle"
    assert Loss(90, 90, 10_000).interval[1] < NEGLIGIBLE < Loss(900, 890, 10_000).interval[1]


@pytest.mark.parametrize(
    ("option", "slot"),
    [
        (2, {"gate": "sigmoid"}),
        (2, {"gate": "tanh"}),
        (2, {"squeeze": "max"}),
        (2, {"squeeze": "none"}),
        ("eca", {}),
        ("ese", {}),
        ("spatial", {}),
        ("cbam/2", {}),
    ],
)
@pytest.mark.parametrize("position", ["inside", "standard", "pre", "post", "identity"])
def test_gates_are_what_the_unit_multiplies_by(option: Any, slot: dict[str, Any], position: str) -> None:
    network = network_with_se(option, 2, **slot, position=position)
    x, labels = images(12)
    (unit, *_), (given, *_) = units_of(network), inputs_of_units(network, x).values()
    se = network.blocks[unit.index].se
    with torch.no_grad():
        gates = se.gates(given)
        of_map = gates[:, :, None, None] if gates.ndim == 2 else gates.movedim(-1, 1)
        torch.testing.assert_close(of_map * given, se(given))
    found = study_excitation(network, lambda words: batches(x, labels), CLASSES)
    assert found.units[0].gates.mean.shape == (unit.spec.se_channels,)
    assert found.units[0].gates.mean == pytest.approx(of_map.expand_as(given).double().mean((0, 2, 3)), abs=1e-6)
    assert np.isfinite(found.units[0].gates.rms).all()


@pytest.mark.parametrize(("option", "slot"), [(2, {"squeeze": "none"}), ("cbam/2", {}), ("spatial", {}), ("eca", {})])
def test_gates_are_looked_at_in_parts_and_none_is_kept(
    monkeypatch: pytest.MonkeyPatch, option: Any, slot: dict[str, Any]
) -> None:
    network = network_with_se(option, option, **slot)
    x, labels = images(20)
    units = units_of(network)
    whole = collect_gates(network, units, batches(x, labels), len(CLASSES))
    looked_at: list[int] = []
    alive: list[weakref.ref[Tensor]] = []
    for unit in units:
        se: Any = network.blocks[unit.index].se

        def spy(given: Tensor, gates: Any = se.gates) -> Tensor:
            assert sum(reference() is not None for reference in alive) <= 1  # the one before, at most
            found: Tensor = gates(given)
            looked_at.append(len(given))
            alive.append(weakref.ref(found))
            return found

        monkeypatch.setattr(se, "gates", spy)
    monkeypatch.setattr(gates, "_CHUNK_VALUES", 3 * 16 * 8 * 8)
    parts = collect_gates(network, units, batches(x, labels), len(CLASSES))
    assert looked_at == [*[3] * 6, 2, 12, 8]  # the second unit's map is a quarter of the first's
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_allclose(one.class_sums, other.class_sums, rtol=1e-6)
        np.testing.assert_allclose(one.class_squares, other.class_squares, rtol=1e-6)
        np.testing.assert_allclose(one.rms, other.rms, rtol=1e-5)
        np.testing.assert_allclose(one.histogram, other.histogram, atol=1e-3)


def test_without_se_or_without_images_there_is_an_error(network: Network) -> None:
    with pytest.raises(ArchitectureError, match="must have SE, but none of its 2 blocks has"):
        units_of(network_with_se("none", "none"))
    for look in (lambda: collect_gates(network, units_of(network), [], 3), lambda: losses_with(network, [], [])):
        with pytest.raises(DataError, match="at least one image"):
            look()
