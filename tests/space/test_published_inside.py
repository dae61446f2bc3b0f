"""The published networks that the header of a shipped space says are inside it are architectures of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from se_nas.cost.counts import network_counts
from se_nas.cost.table import count_tables
from se_nas.search.budgets.decode import greatest_cost, least_cost
from se_nas.space.architecture_file import load_architecture
from se_nas.space.block_plan import built
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import BlockSpec, NetworkSpec
from se_nas.space.yaml.file import load_space

FOLDER = Path(__file__).parents[2] / "search_spaces"
RESULTS = FOLDER.parent / "runs" / "results"

INSIDE = [
    ("cifar_resnet_se", "resnet110"),
    ("cifar_resnet_se", "se_resnet110"),
    ("inception_se", "bn_inception"),
    ("inception_se", "se_bn_inception"),
    ("mnasnet_se", "efficientnet_b0"),
    ("mobilenet_v1_se", "mobilenetv1"),
    ("mobilenet_v1_se", "se_mobilenetv1"),
    ("resnet_se", "resnet50"),
    ("resnet_se", "se_resnet50"),
    ("resnext_se", "resnext50_32x4d"),
    ("resnext_se", "se_resnext50_32x4d"),
    ("shufflenet_se", "shufflenetv1"),
    ("shufflenet_se", "se_shufflenetv1"),
    ("vgg_se", "vgg16_bn"),
    ("vgg_se", "se_vgg16_bn"),
]

STARTS = ("mbconv", "resnet")


def network_of(name: str) -> NetworkSpec:
    space = load_space(name)
    return space.resolve(space.architecture({}))


def picks_of(space: SearchSpace, blocks: tuple[BlockSpec, ...], depths: tuple[int, ...]) -> dict[str, Option] | None:
    """What must be picked for a network of these blocks, so many in each stage; None where that cannot be."""
    picks = {choice.name: choice.options[0] for choice in space.choices}
    left = list(blocks)
    for slot in space.slots:
        if slot.depth.choice is not None:
            picks[slot.depth.choice] = depths[slot.stage]
        if slot.index >= depths[slot.stage]:
            continue
        wanted = built(left.pop(0))
        found = [
            (op, options) for op in slot.ops for options in op.combinations() if built(op.block(**options)) == wanted
        ]
        if not found:
            return None
        op, options = found[0]
        if slot.op.choice is not None:
            picks[slot.op.choice] = op.template.name
        picks |= {axis.choice: options[axis.part] for axis in op.axes if axis.choice is not None}
    return picks


@pytest.mark.parametrize(("space_name", "published"), INSIDE)
def test_a_published_network_is_an_architecture_of_the_space(space_name: str, published: str) -> None:
    space, network = load_space(space_name), network_of(published)
    for depths in itertools.product(*(stage.depths for stage in space.stages)):
        if sum(depths) == len(network.blocks):
            picks = picks_of(space, network.blocks, depths)
            if picks is not None:
                break
    else:
        pytest.fail(f"{space_name} has no depths for {published}")
    found = space.resolve(space.architecture(picks))
    assert [built(block) for block in found.blocks] == [built(block) for block in network.blocks]
    # the rate of dropout is the recipe's affair
    assert replace(found, blocks=(), head=replace(found.head, dropout=0.0)) == replace(
        network, blocks=(), head=replace(network.head, dropout=0.0)
    )
    assert network_counts(found) == network_counts(network)


def test_every_claim_of_a_header_is_tried() -> None:
    said = {path.stem for path in FOLDER.glob("*.yaml") if "inside" in path.read_text().partition("name:")[0]}
    sizes = {"mbconv_imagenet"}  # which has their sizes inside
    assert said - {space for space, _ in INSIDE} == sizes | {f"warm_start_{name}" for name in STARTS}


@pytest.mark.parametrize("name", STARTS)
def test_the_network_that_the_warm_start_begins_with_is_an_architecture_of_its_space(name: str) -> None:
    space = load_space(f"warm_start_{name}")
    file = load_architecture(RESULTS / "warm_start" / f"{name}.json")
    assert space.resolve(space.architecture(file.architecture.as_dict())) == file.network
    assert all(block.se is None for block in file.network.blocks)


@pytest.mark.parametrize("published", ["mobilenetv3_large", "efficientnet_b0"])
def test_the_sizes_of_both_skeletons_lie_inside_mbconv_imagenet(published: str) -> None:
    space, counts = load_space("mbconv_imagenet"), network_counts(network_of(published))
    tables = count_tables(space)
    for metric, value in (("macs", counts.macs), ("params", counts.params)):
        assert least_cost(space, tables, metric).costs[metric] <= value
        assert value <= greatest_cost(space, tables, metric).costs[metric]
