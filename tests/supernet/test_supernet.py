"""What a supernet says, refuses and starts from; that its modes agree is law 1, in tests/laws."""

from __future__ import annotations

import copy

import pytest
import torch

from se_nas.errors import ArchitectureError
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.elastic_attention import OPEN_GATE_BIAS
from se_nas.supernet.supernet import SuperNet
from tests.helpers.probabilities import one_hot, soft


def test_it_must_be_told_what_to_run(tiny_space: SearchSpace) -> None:
    with pytest.raises(RuntimeError, match=r"activate\(\) or mix\(\) first"):
        SuperNet(tiny_space)(torch.zeros(1, 1, 8, 8))


def test_the_last_word_counts(tiny_space: SearchSpace) -> None:
    torch.manual_seed(0)
    supernet = SuperNet(tiny_space).double().eval()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    first, *_, last = tiny_space.enumerate()
    alone = supernet.activate(first)(x)
    mixed = supernet.mix(soft(tiny_space, 0))(x)
    assert not torch.allclose(mixed, alone)
    assert torch.equal(supernet.activate(first)(x), alone)
    assert not torch.allclose(supernet.activate(last)(x), alone)


def test_an_architecture_of_another_space_is_refused(tiny_space: SearchSpace) -> None:
    other = parse_space(
        {"name": "other", "resolution": 8, "stem": {"width": 8}, "stages": [{"width": 8, "kernel": [3, 5]}]}, "other"
    )
    supernet = SuperNet(tiny_space)
    for use in (supernet.activate, supernet.export):
        with pytest.raises(ArchitectureError, match="must be of this space"):
            use(next(other.enumerate()))


def test_the_seed_gives_the_weights(tiny_space: SearchSpace) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(SuperNet(tiny_space).parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(1), weights(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(1), weights(2), strict=True))


def test_se_starts_near_no_se(tiny_space: SearchSpace) -> None:
    supernet = SuperNet(tiny_space)
    biases = [p for name, p in supernet.named_parameters() if name.endswith("se.expand.bias")]
    assert len(biases) == 3
    assert all((bias == OPEN_GATE_BIAS["hard_sigmoid"]).all() for bias in biases)


def test_a_subnet_s_cost_is_its_own(tiny_space: SearchSpace) -> None:
    """Running a slice runs the MACs of the slice, not the supernet's."""
    from torch.utils.flop_counter import FlopCounterMode

    from se_nas.cost.counts import network_counts

    supernet = SuperNet(tiny_space).eval()
    for architecture in list(tiny_space.enumerate())[::17]:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            supernet.activate(architecture)(torch.zeros(1, 1, 8, 8))
        assert counter.get_total_flops() == 2 * network_counts(tiny_space.resolve(architecture)).macs


def test_a_mixture_costs_about_its_largest_network(tiny_space: SearchSpace) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from se_nas.cost.table import count_tables

    supernet = SuperNet(tiny_space).double().eval()
    macs = count_tables(tiny_space)["macs"]
    largest = max(map(macs.cost, tiny_space.enumerate()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        supernet.mix(soft(tiny_space, 0))(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    assert largest <= counter.get_total_flops() / 2 < 1.2 * largest


def test_uncertainty_about_one_choice_is_linear_where_the_mixture_is(tiny_space: SearchSpace) -> None:
    """With every other choice certain, a mixture of depths is the mixture of the two networks' features."""
    torch.manual_seed(0)
    supernet = SuperNet(tiny_space).double().eval()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    picks = {choice.name: choice.options[0] for choice in tiny_space.choices}  # the second stage is linear then
    ends = [tiny_space.architecture({**picks, "stage1.depth": depth}) for depth in (1, 2)]
    outputs = [supernet.activate(end)(x) for end in ends]
    probabilities = {**one_hot(tiny_space, ends[0]), "stage1.depth": torch.tensor([0.3, 0.7], dtype=torch.float64)}
    torch.testing.assert_close(supernet.mix(probabilities)(x), 0.3 * outputs[0] + 0.7 * outputs[1])


def test_a_supernet_survives_its_state_dict(tiny_space: SearchSpace) -> None:
    torch.manual_seed(0)
    one, other = SuperNet(tiny_space).eval(), SuperNet(tiny_space).eval()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    x = torch.randn(2, 1, 8, 8)
    *_, last = tiny_space.enumerate()
    assert torch.equal(one.activate(last)(x), other.activate(last)(x))
