"""A fitted network is the published one with fewer strides and the greatest width that keeps the budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.errors import ConfigError
from se_nas.evidence.published_networks import TIMED, WIDEST, WIDTH_STEPS, fitted, narrowed
from se_nas.layers.network import Network
from se_nas.space.scaling import scaled_space
from se_nas.space.specs import NetworkSpec
from se_nas.space.templates import Scaling
from se_nas.space.yaml.file import load_space
from tests.helpers.tiny_runs import write_yaml

BASELINES = Path(__file__).parents[2] / "search_spaces" / "baselines"
SMALL = BASELINES / "mobilenetv3_small.yaml"
BUDGETS = (Budget("macs", 12e6), Budget("params", 3e5))

TINY = """
name: tiny_published
resolution: 64
classes: 5
stem: {width: 16, stride: 2, pool: true}
stages:
  - {width: 16, stride: 2, depth: 1, kernel: 3, expansion: 2, se: {options: [4]}}
  - {width: 24, stride: 2, depth: 2, kernel: 5, expansion: 3}
head: {width: 48, hidden: 64}
"""

LITTLE = """
name: little
resolution: 32
stem: {width: 16, stride: 2}
stages:
  - {width: 24, stride: 2, depth: 2, kernel: 5, expansion: 2.5, se: {options: [4]}}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny_published.yaml"
    path.write_text(TINY)
    return path


def fit(path: Path, *budgets: Budget, resolution: int = 32) -> NetworkSpec:
    return fitted(path, resolution=resolution, classes=10, channels=3, budgets=budgets)


def design(network: NetworkSpec) -> list[tuple[object, ...]]:
    """What of each block must not change."""
    return [
        (b.kind, b.kernel, b.activation, b.se and (b.se.ratio, b.se.ratio_of, b.se.gate), b.form)
        for b in network.blocks
    ]


@pytest.mark.parametrize("name", ["mobilenetv3_small", "mnasnet_a1", "se_mobilenetv1", "se_resnet50"])
def test_a_shipped_network_keeps_its_design_and_the_budgets(name: str) -> None:
    path = BASELINES / f"{name}.yaml"
    space = load_space(path)
    network = fit(path, *BUDGETS)
    counts = network_counts(network)
    assert counts.macs <= 12e6
    assert counts.params <= 3e5
    assert counts.macs > 0.6 * 12e6 or counts.params > 0.6 * 3e5
    assert design(network) == design(space.resolve(space.architecture({})))
    assert (network.resolution, network.in_channels, network.head.classes) == (32, 3, 10)
    assert network.head.pooled_resolution == 4


def test_it_is_built_and_has_as_many_parameters_as_counted() -> None:
    network = fit(SMALL, *BUDGETS)
    net = Network(network).eval()
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(p.numel() for p in net.parameters()) == network_counts(network).params


@pytest.mark.parametrize("limits", [{"macs": 6e5}, {"params": 4e3}, {"macs": 2e6, "params": 9e3}, {"macs": 7e6}])
def test_the_width_is_the_greatest_by_brute_force(tmp_path: Path, limits: dict[str, float]) -> None:
    path = tmp_path / "little.yaml"
    path.write_text(LITTLE)
    space = load_space(path)

    def at(steps: int) -> NetworkSpec:
        wider = scaled_space(space, Scaling("x", 32, 10, width=steps / WIDTH_STEPS))
        return wider.resolve(wider.architecture({}))

    def keeps(network: NetworkSpec) -> bool:
        return all(getattr(network_counts(network), metric) <= limit for metric, limit in limits.items())

    greatest = [network for network in map(at, range(1, WIDEST * WIDTH_STEPS + 1)) if keeps(network)][-1]
    budgets = [Budget(metric, limit) for metric, limit in limits.items()]
    assert fit(path, *budgets) == greatest
    assert fit(path, *budgets, Budget("latency_ms", 1e-9)) == greatest


def test_strides_fall_away_from_the_images_on(tiny: Path) -> None:
    def sides(resolution: int) -> list[int]:
        network = fit(tiny, resolution=resolution)
        return [b.resolution for b in network.blocks] + [network.head.pooled_resolution]

    # stride 16 in all: the stem's convolution loses its own, and the pooling stays
    assert sides(64) == [32, 16, 8, 8]
    assert sides(32) == [16, 8, 4, 4]
    assert sides(8) == [2, 1, 1, 1]  # at least one pixel is left anyway
    assert not any(conv.stride > 1 for conv in fit(tiny).stem_convs)
    assert fit(tiny).stem.pool


def test_a_small_reduction_leaves_every_stride(tmp_path: Path) -> None:
    path = tmp_path / "little.yaml"
    path.write_text(LITTLE)
    network = fit(path)
    assert (network.stem.stride, network.blocks[0].stride, network.head.pooled_resolution) == (2, 2, 8)


def test_without_budgets_on_counts_it_has_its_own_widths(tiny: Path) -> None:
    network = fit(tiny, Budget("latency_ms", 1.0))
    assert [b.out_channels for b in network.blocks] == [16, 24, 24]
    assert (network.head.width, network.head.hidden) == (48, 64)


def test_the_hidden_layer_of_the_head_is_scaled_too(tiny: Path) -> None:
    own = network_counts(fit(tiny)).params
    narrower, wider = (fit(tiny, Budget("params", own * share)) for share in (0.5, 3))
    assert narrower.head.hidden < 64 < wider.head.hidden


def test_a_budget_below_the_least_width_is_one_line(tiny: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"tiny_published.yaml: the network must keep macs <= 1 k MACs at some .* the least has .* parameters$",
    ) as caught:
        fit(tiny, Budget("macs", 1e3))
    assert "\n" not in str(caught.value)


def test_widths_that_do_not_go_with_groups_are_passed_over() -> None:
    network = fit(BASELINES / "resnext50_32x4d.yaml", Budget("macs", 2e8))
    assert all(b.expanded % b.form.group_width == 0 for b in network.blocks)
    assert network_counts(network).macs <= 2e8
    torch.manual_seed(0)
    assert Network(network).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_branches_of_fixed_width_have_but_one_factor(tmp_path: Path) -> None:
    whole = yaml.safe_load((BASELINES / "bn_inception.yaml").read_text())
    inception = write_yaml(tmp_path / "inception.yaml", {**whole, "stages": whole["stages"][:1]})
    network = fit(inception, Budget("macs", 1e12))
    assert network.blocks[0].out_channels == 256
    with pytest.raises(ConfigError, match=r"must keep macs <= 9 k MACs at some width, but .* the least has"):
        fit(inception, Budget("macs", 9e3))


def test_a_space_with_choices_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be of one architecture, but this one has"):
        fit(BASELINES.parent / "mbconv_digits.yaml")


# ---- by the clock


def timed(path: Path, ms: Callable[[float], float], limit: float, *budgets: Budget) -> tuple[Budget | None, list[int]]:
    """The limit on the MACs that is found where a network takes `ms` of its millions of them, and what was timed."""
    macs: list[int] = []

    def share(network: NetworkSpec) -> float:
        macs.append(network_counts(network).macs)
        return ms(macs[-1] / 1e6) / limit

    def of(budgets: Sequence[Budget]) -> NetworkSpec:
        return fit(path, *budgets)

    return narrowed(of, budgets, share), macs


@pytest.mark.parametrize("budgets", [(), BUDGETS, BUDGETS[:1], BUDGETS[1:]], ids=["none", "both", "macs", "params"])
def test_one_that_keeps_the_latency_stays_as_it_is(tiny: Path, budgets: tuple[Budget, ...]) -> None:
    widest = fit(tiny, *budgets)
    found, macs = timed(tiny, lambda macs: macs, 1000.0, *budgets)
    assert found is not None
    assert found == Budget("macs", network_counts(widest).macs)
    assert macs == [found.limit]
    assert fit(tiny, found, *(budget for budget in budgets if budget.metric == "params")) == widest


@pytest.mark.parametrize("ms", [lambda macs: macs, lambda macs: 0.5 + macs, lambda macs: 2 * macs**0.7])
def test_one_that_does_not_is_narrowed_until_it_does(ms: Callable[[float], float]) -> None:
    found, macs = timed(SMALL, ms, 4.0, *BUDGETS)
    assert found is not None
    narrow = fit(SMALL, found, BUDGETS[1])
    assert macs[-1] == network_counts(narrow).macs == found.limit
    assert 3 < ms(found.limit / 1e6) <= 4 < ms(macs[0] / 1e6)
    assert 1 < len(macs) <= TIMED
    assert network_counts(narrow).params <= BUDGETS[1].limit


def test_one_that_never_does_is_given_up(tiny: Path) -> None:
    assert timed(tiny, lambda macs: 1.0, 0.99, *BUDGETS)[0] is None
    found, macs = timed(tiny, lambda macs: 1.0, 1e-6, *BUDGETS)  # asks for less than the least width
    assert (found, len(macs)) == (None, 1)
