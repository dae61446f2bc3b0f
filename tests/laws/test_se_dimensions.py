"""Laws 1 to 3 where every dimension of SE is a choice: one function at every corner, one network counted once."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.layers.attention import build_attention
from se_nas.layers.network import Network
from se_nas.search.black_box.architecture_sampler import suggest
from se_nas.search.budgets.baselines import baseline
from se_nas.search.budgets.decode import decode
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.supernet import SuperNet
from tests.helpers.probabilities import one_hot, soft
from tests.laws.test_one_supernet import images, lively_supernet, run

POSITIONS = ["standard", "inside", "pre", "post", "identity"]
SE: dict[str, Any] = {
    "options": ["none", 2, 4, "eca", "ese", "spatial", "cbam/2"],
    "divisor": 1,
    "position": POSITIONS,
    "squeeze": ["max", "mean"],
    "activation": ["relu", "silu"],
    "gate": ["sigmoid", "relu", "tanh"],
}
BLOCKS: dict[str, dict[str, Any]] = {
    "mbconv": {"kind": "mbconv", "kernel": [3, 5], "expansion": [1, 2]},
    "fused_mbconv": {"kind": "fused_mbconv", "expansion": [1, 2]},
    "residual_conv": {"kind": "residual_conv", "kernel": [3, 5]},
    "basic": {"kind": "basic", "expansion": [0.5, 1]},
    "padded": {"kind": "basic", "shortcut": "pad"},
    "pre-activation": {"kind": "basic", "preactivation": True},
    "bottleneck": {"kind": "bottleneck", "expansion": [0.5, 1]},
    "conv": {"kind": "conv"},
    "separable": {"kind": "separable"},
    "shuffle": {"kind": "shuffle", "expansion": 0.5},
}


def space_of(block: dict[str, Any], se: dict[str, Any], depth: Any = (1, 2), **more: Any) -> SearchSpace:
    """A stage whose first block changes the shape, which the second keeps."""
    stage = {"width": 12, "stride": 2, "depth": list(depth), "activation": "silu", "blocks": [{**block, "se": se}]}
    data = {"name": "every", "resolution": 6, "channels": 2, "channel_divisor": 1, "stem": {"width": 8}}
    return parse_space({**data, "stages": [{**stage, **more}]}, "every")


@pytest.mark.parametrize("share", [[], ["se"]], ids=["alone", "shared"])
@pytest.mark.parametrize("name", BLOCKS)
def test_every_kind_of_block_is_one_function_whatever_of_se_is_open(name: str, share: list[str]) -> None:
    number = list(BLOCKS).index(name)
    squeeze = ["mean", "none", "max"] if number % 2 else SE["squeeze"]
    positions = [p for p in POSITIONS if p != "identity" or name not in ("conv", "separable")]
    space = space_of(BLOCKS[name], {**SE, "squeeze": squeeze, "position": positions}, share=share)
    supernet, x, rng = lively_supernet(space, number), images(space), np.random.default_rng(number)
    for case in range(4):
        architecture = space.sample(rng)
        supernet.train(case % 2 == 0)
        expected = run(supernet.export(architecture), x)
        torch.testing.assert_close(run(copy.deepcopy(supernet).activate(architecture), x), expected)
        torch.testing.assert_close(run(copy.deepcopy(supernet).mix(one_hot(space, architecture)), x), expected)


@pytest.mark.parametrize("name", ["basic", "mbconv"])
def test_it_is_one_function_where_widths_are_open_too(name: str) -> None:
    """Blocks of some widths have a shortcut, those of others have none."""
    se = {**SE, "options": ["none", 2, "eca", "cbam/2"], "gate": "sigmoid"}
    space = space_of(BLOCKS[name], se, stride=1, width=[8, 12])
    supernet, x, rng = lively_supernet(space, 1), images(space), np.random.default_rng(1)
    for case in range(6):
        architecture = space.sample(rng)
        supernet.train(case % 2 == 0)
        expected = run(supernet.export(architecture), x)
        torch.testing.assert_close(run(copy.deepcopy(supernet).activate(architecture), x), expected)
        torch.testing.assert_close(run(copy.deepcopy(supernet).mix(one_hot(space, architecture)), x), expected)


def outputs(space: SearchSpace) -> set[bytes]:
    """What each network computes of one input with weights that depend on their order and shapes alone."""
    x, results = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(1)), set()
    for architecture in space.enumerate():
        network = Network(space.resolve(architecture)).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in sorted(network.named_parameters()):
                if "norm" not in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))
            results.add(network(x).numpy().round(4).tobytes())
    return results


@pytest.mark.parametrize("block", ["basic", "mbconv", "conv"])
def test_combinations_that_build_the_same_are_one(block: str) -> None:
    positions = ["post", "pre", "standard", *(["identity"] if block == "basic" else [])]
    own = {key: value for key, value in BLOCKS[block].items() if key != "expansion"}
    se = {**SE, "options": ["none", 4, "spatial"], "position": positions, "activation": "relu", "gate": "sigmoid"}
    space = space_of(own | ({"kernel": 3} if block == "mbconv" else {}), se, depth=(1,))
    assert len(outputs(space)) == space.size == len(set(space.enumerate()))


def test_a_block_is_offered_no_place_twice() -> None:
    """The first block has no sum: there "post" is "standard", and SE on the shortcut is none, which is an option."""
    space = space_of(BLOCKS["mbconv"], {**SE, "position": ["post", "standard", "identity", "pre"]}, depth=(2,))
    offered = [space.choice_by_name[f"stage1.block{number}.se_position"].options for number in (1, 2)]
    assert offered == [("post", "pre"), ("post", "standard", "identity", "pre")]
    read = {**SE, "options": ["none", "spatial"], "squeeze": "max", "activation": "relu"}
    spatial = space_of(BLOCKS["basic"], read, depth=(1,))
    assert {choice.place.part for choice in spatial.choices} == {"se", "se_position", "se_gate", "expansion"}
    without = space_of(BLOCKS["mbconv"], {**SE, "options": [4, 8], "position": ["pre", "identity"]}, depth=(1, 2))
    assert without.choice_by_name["stage1.block1.se_position"].options == ("pre", "identity")


def test_no_vote_is_split_by_what_makes_no_difference() -> None:
    """Without SE its other choices cost an answer nothing, whatever they lean to."""
    space = space_of(BLOCKS["basic"], {**SE, "options": ["none", 4]}, depth=(1,))
    scores = {c.name: [float(i == 1) for i in range(len(c.options))] for c in space.choices}
    scores["stage1.block1.se"] = [2.0, 1.9]
    found = decode(space, count_tables(space), [Budget("macs", 1e9)], scores)
    picks = found.architecture.as_dict()
    assert found.score == 0
    assert picks["stage1.block1.se"] == "none"
    assert picks["stage1.block1.se_position"] == "standard"  # the first, as no other makes a difference


def test_a_single_value_is_no_choice_and_a_list_of_one_is_that_value() -> None:
    plain = {"options": ["none", 4], "position": "pre", "gate": "sigmoid"}
    listed = {**plain, "position": ["pre"], "gate": ["sigmoid"], "squeeze": ["mean"]}
    one, other = (space_of(BLOCKS["basic"], se) for se in (plain, listed))
    assert (one, one.digest) == (other, other.digest)
    assert {choice.place.part for choice in one.choices} == {"depth", "expansion", "se"}


def test_the_gate_of_a_place_is_one_less_its_probability_and_its_share_of_the_gate() -> None:
    se = {**SE, "options": ["none", 2], "position": ["pre", "standard"], "activation": "relu", "gate": "sigmoid"}
    space = space_of({"kind": "conv"}, {**se, "squeeze": "mean"}, depth=(1,))
    supernet, x, certain = lively_supernet(space, 0).eval(), images(space), soft(space, 2)
    block = supernet.slots[0][0]

    def attended(place: str, y: Tensor) -> Tensor:
        option = space.slots[0].ops[0].block(se="r2", se_position=place)
        unit = build_attention(option.unit).double().eval()
        unit.load_state_dict({name: view.detach() for name, view in block.se[place].sliced(option).items()})
        number = ["pre", "standard"].index(place)
        p = float(certain["stage1.block1.se_position"][number] * certain["stage1.block1.se"][1])
        return y * (1 - p) + p * unit(y)

    y = torch.nn.functional.max_pool2d(attended("pre", supernet.stem(x)), 2, 2, ceil_mode=True)
    y = attended("standard", torch.nn.functional.silu(block.spatial_norm(block.spatial(y))))
    torch.testing.assert_close(supernet.mix(certain)(x), supernet.head(y))


def test_places_have_weights_of_their_own_and_ratios_share_them() -> None:
    supernet = SuperNet(space_of(BLOCKS["basic"], {**SE, "options": ["none", 2, 4]}, depth=(2,)))
    widths = {
        name.removeprefix("slots.0.0.se.").removesuffix(".reduce.weight"): tuple(parameter.shape)
        for name, parameter in supernet.named_parameters()
        if name.startswith("slots.0.0.se.") and name.endswith("reduce.weight")
    }
    assert widths == {"standard": (6, 12), "inside": (6, 12), "pre": (6, 8), "post": (6, 12), "identity": (6, 12)}


def test_a_study_asks_for_what_the_picked_unit_reads_alone() -> None:
    space = space_of(BLOCKS["basic"], {**SE, "options": ["none", 4, "spatial"]}, depth=(1,))
    asked = {}
    for label in ("none", "spatial", "r4"):
        trial = optuna.trial.FixedTrial({c.name: c.options[0] for c in space.choices} | {"stage1.block1.se": label})
        suggest(trial, space, grouped=True)
        asked[label] = {name.rpartition(".")[2] for name in trial.params if "se_" in name}
    every = {f"se_{part}" for part in ("position", "squeeze", "activation", "gate")}
    assert asked == {"none": set(), "spatial": {"se_position", "se_gate"}, "r4": every}


def test_a_baseline_has_se_as_it_is_listed_first() -> None:
    space = space_of(BLOCKS["basic"], SE)
    everywhere = space.resolve(baseline("se_r4", space, count_tables(space), [Budget("macs", 1e9)]))
    units = [block.se for block in everywhere.blocks]
    assert {(u.position, u.squeeze, u.activation, u.gate) for u in units if u} == {
        ("standard", "max", "relu", "sigmoid")
    }
    assert len([unit for unit in units if unit]) == len(units) == 2
    bare = space.resolve(baseline("no_se", space, count_tables(space), [Budget("macs", 1e9)]))
    assert not any(block.se for block in bare.blocks)
