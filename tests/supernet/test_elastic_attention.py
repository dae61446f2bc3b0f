"""All options of one place: slices as by hand, mixtures as the weighted sums written out, and what a mixture costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from se_nas.layers.attention import build_attention
from se_nas.space.attention.eca import eca_kernel
from se_nas.space.slots.slot import SlotOp
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.attention.kind import PlaceMixture
from se_nas.supernet.elastic_attention import OPEN_GATE_BIAS, ElasticAttention

EVERY = ["none", 2, 4, "eca", "ese", "spatial", "cbam/2", "cbam/4"]


def op_of(options: list[Any], expansion: list[int] | None = None, **se: Any) -> SlotOp:
    """An op of an 8-channel place whose attention stands inside, on 8 channels for each unit of expansion."""
    unit = {"options": options, "divisor": 1, "gate": "sigmoid", "activation": "silu", **se}
    stage = {"width": 8, "kernel": 3, "expansion": expansion or [2], "se": unit}
    data = {"name": "one", "resolution": 6, "stem": {"width": 8}, "stages": [stage]}
    return parse_space(data, "one").slots[0].ops[0]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def lively(op: SlotOp) -> ElasticAttention:
    elastic = ElasticAttention(op, "inside").double()
    with torch.no_grad():
        for parameter in elastic.parameters():
            parameter.normal_()
    return elastic


def alone(elastic: ElasticAttention, op: SlotOp, expansion: Any, label: Any, x: Tensor) -> Tensor:
    """One option as a plain unit with copied weights, on the channels that it has."""
    block = op.block(expansion=expansion, se=label)
    if block.unit is None:
        return x
    unit = build_attention(block.unit).double()
    unit.load_state_dict(elastic.sliced(block))
    result: Tensor = unit(x)
    return result


def test_options_share_their_layers() -> None:
    elastic = ElasticAttention(op_of(EVERY, [2, 12]), "inside")
    assert {name: tuple(p.shape) for name, p in elastic.named_parameters()} == {
        "reduce.weight": (48, 96),
        "reduce.bias": (48,),
        "expand.weight": (96, 48),
        "expand.bias": (96,),
        "across.weight": (1, 1, eca_kernel(96)),
        "excite.weight": (96, 96),
        "excite.bias": (96,),
        "spatial.weight": (1, 2, 7, 7),
        "spatial.bias": (1,),
    }
    spatial = ElasticAttention(op_of(["none", "spatial"]), "inside")
    assert {name.partition(".")[0] for name, _ in spatial.named_parameters()} == {"spatial"}


def test_a_slice_is_cut_as_by_hand() -> None:
    op = op_of(EVERY, [2, 64])
    elastic = lively(op)
    views = {
        label: elastic.sliced(op.block(kernel=3, expansion=2, se=label))
        for label in op.axis("se").options
        if label != "none"
    }
    assert torch.equal(views["r4"]["reduce.weight"], elastic.reduce.weight[:4, :16])
    assert torch.equal(views["cbam2"]["expand.weight"], elastic.expand.weight[:16, :8])
    assert torch.equal(views["ese"]["excite.bias"], elastic.excite.bias[:16])
    assert (eca_kernel(16), eca_kernel(512)) == (3, 5)
    assert torch.equal(views["eca"]["across.weight"], elastic.across.weight[:, :, 1:4])
    assert torch.equal(views["spatial"]["spatial.weight"], elastic.spatial.weight)


@pytest.mark.parametrize("squeeze", ["mean", "max", "none"])
@pytest.mark.parametrize("expansion", [2, 64])
def test_a_slice_and_a_one_hot_mixture_are_the_plain_unit(expansion: int, squeeze: str) -> None:
    op = op_of(EVERY, [2, 64], squeeze=squeeze)
    elastic = lively(op)
    channels = 8 * expansion
    x = torch.randn(2, channels, 4, 5, dtype=torch.float64)
    whole = torch.randn(2, 512, 4, 5, dtype=torch.float64)  # what channels that are absent hold must not matter
    whole[:, :channels] = x
    mask = (torch.arange(512) < channels).double()
    expansions = torch.tensor([expansion == 2, expansion == 64]).double()
    for place, label in enumerate(op.axis("se").options):
        expected = alone(elastic, op, expansion, label, x)
        block = op.block(kernel=3, expansion=expansion, se=label)
        if block.se is not None:
            torch.testing.assert_close(elastic.run_sliced(x, block), expected)
        options = torch.eye(len(op.axis("se").options), dtype=torch.float64)[place]
        mixed = elastic.run_mixed(whole, options, PlaceMixture(expansions, mask))
        torch.testing.assert_close(mixed[:, :channels], expected)
        assert not mixed[:, channels:].any()


@pytest.mark.parametrize(
    "options",
    [[2, 4], ["none", 2, 4, "eca", "ese"], ["eca", "spatial"], ["spatial", "cbam/2"], ["none", "spatial"], EVERY[:-1]],
    ids=str,
)
def test_a_mixture_is_the_weighted_sum_of_the_options(options: list[Any]) -> None:
    op = op_of(options)
    elastic = lively(op)
    x = torch.randn(3, 16, 4, 5, dtype=torch.float64)
    weights = torch.randn(len(options), dtype=torch.float64).softmax(0)
    expected = sum(w * alone(elastic, op, 2, label, x) for w, label in zip(weights, op.axis("se").options, strict=True))
    torch.testing.assert_close(
        elastic.run_mixed(x, weights, PlaceMixture(torch.ones(1, dtype=torch.float64))), expected
    )


@pytest.mark.parametrize("expansion", [[2], [1, 2]])
@pytest.mark.parametrize("squeeze", ["mean", "max", "none"])
def test_derivatives_of_a_mixture_are_the_finite_differences(squeeze: str, expansion: list[int]) -> None:
    op = op_of(EVERY, expansion, squeeze=squeeze)
    elastic = lively(op)
    x = torch.randn(2, 8 * max(expansion), 3, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(len(EVERY), dtype=torch.float64).softmax(0).requires_grad_()
    expansions = torch.full((len(expansion),), 1 / len(expansion), dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weights: Tensor, expansions: Tensor) -> Tensor:
        mask = torch.mv(torch.ones(8, 1).repeat(max(expansion), len(expansion)).double(), expansions)
        return elastic.run_mixed(x, weights, PlaceMixture(expansions, mask if len(expansion) > 1 else None))

    assert torch.autograd.gradcheck(run, (x, weights, expansions))
    run(x, weights, expansions).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in elastic.parameters())


def passes(options: list[Any]) -> int:
    """Feature maps that one mixed pass makes, forward."""

    class Maps(TorchDispatchMode):
        made = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and not function.is_view:
                Maps.made += out.shape == x.shape
            return out

    op = op_of(options)
    elastic, x = ElasticAttention(op, "inside"), torch.randn(2, 16, 9, 7)
    weights = torch.full((len(options),), 1 / len(options))
    with Maps(), torch.no_grad():
        elastic.run_mixed(x, weights, PlaceMixture(torch.ones(1)))
    return Maps.made


def test_ratios_cost_one_se_and_kinds_no_more_than_the_kinds_in_use() -> None:
    assert passes([2]) == passes(["none", 2, 4, 8]) == passes(["none", 2, 4, "eca", "ese"]) == 1
    assert passes(["none", "eca"]) == 1
    spatial = passes(["spatial"])
    cbam = passes(["cbam/2"])
    assert passes(["none", 2, "spatial"]) == 1 + spatial + 1  # and the sum of the two
    assert passes(["cbam/2", "cbam/4", "cbam/8"]) == cbam
    assert passes([2, "cbam/2", "spatial"]) == 1 + cbam + spatial + 2


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("option", EVERY)
def test_no_option_promotes_a_map_of_half_precision(option: Any, masked: bool) -> None:
    options = [option, *(other for other in ("none", 2) if other != option)]
    elastic, x = ElasticAttention(op_of(options), "inside"), torch.randn(2, 16, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        at = PlaceMixture(torch.ones(1), torch.ones(16) if masked else None)
        mixed = elastic.run_mixed(x, torch.ones(len(options)), at)
    assert mixed.dtype == torch.bfloat16


@pytest.mark.parametrize("gate", OPEN_GATE_BIAS)
def test_gates_start_near_one(gate: str) -> None:
    op = op_of(["none", 2, "ese", "spatial", "cbam/2"], gate=gate)
    elastic = ElasticAttention(op, "inside")
    elastic.open_gates()
    x = 1e-3 * torch.randn(4, 16, 5, 5)
    for label in op.axis("se").options[1:]:
        share = elastic.run_sliced(x, op.block(kernel=3, expansion=2, se=label)) / x
        assert (share > 0.7).all(), label
        assert (share < (4.1 if gate == "relu" else 1.01)).all(), label
