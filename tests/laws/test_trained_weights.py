"""Trained weights in a supernet: before the first step its point of the space computes what the network computed."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import pytest
import torch

from se_nas.layers.network import Network
from se_nas.layers.pairing import StateDictInOrder, paired_by_order
from se_nas.layers.torchvision_guard import import_timm
from se_nas.space.points.finding import points
from se_nas.space.points.given import KnownNetwork
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import OpTemplate
from se_nas.supernet.supernet import SuperNet
from se_nas.supernet.warm_start.sorting import sort_channels
from se_nas.supernet.warm_start.taking import take
from tests.laws.test_published_networks import IN_TIMM, scrambled, space_of, spec_of

#: Those that are compared without -m slow: inverted residuals with SE, mixed kernels, groups.
FEW = ("mobilenetv3_small", "mixnet_s", "regnety_400mf")


def opened(space: SearchSpace) -> SearchSpace:
    """The space with the published network in it, and with more and less of every part that may be a choice."""

    def more(op: OpTemplate) -> OpTemplate:
        kernels = op.kernels if op.form.mixed_kernels or op.kind == "identity" else (*op.kernels, op.kernels[0] + 2)
        options = tuple(dict.fromkeys((None, *op.se.options, 2.0)))
        expands = op.kind in ("mbconv", "bottleneck", "basic") and not op.form.group_width and not op.form.mixed_kernels
        expands = expands and op.form.expand_parts == op.form.project_parts == 1
        halves = (op.expansions[0] / 2, *op.expansions) if expands and op.expansions[0] > 1 else op.expansions
        return dataclasses.replace(
            op, kernels=kernels, expansions=halves, se=dataclasses.replace(op.se, options=options)
        )

    stages = tuple(
        dataclasses.replace(stage, ops=tuple(map(more, stage.ops)), depths=(stage.depths[0], stage.depths[0] + 1))
        for stage in space.stages
    )
    return dataclasses.replace(space, stages=stages)


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    return import_timm()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else [pytest.mark.slow]) for name in IN_TIMM]
)
def test_a_supernet_starts_with_the_logits_of_the_network_whose_weights_it_takes(name: str, timm: ModuleType) -> None:
    torch.manual_seed(0)
    # in double precision, in which what rounding leaves does not grow in a network of random weights
    theirs = scrambled(timm.create_model(IN_TIMM[name])).double()
    spec, space = spec_of(name), opened(space_of(name))
    (found,) = points(space, StateDictInOrder(theirs.state_dict()))
    (known,) = points(space, KnownNetwork(spec))
    assert found == known
    assert found.unclear is None
    network = Network(spec).double().eval()
    network.load_state_dict(paired_by_order(theirs.state_dict(), network.state_dict()), strict=False)
    touched = sort_channels(network, space, known.architecture, [torch.randn(2, 3, 64, 64, dtype=torch.float64)])
    supernet = SuperNet(space).double().eval()
    came = take(supernet, known.architecture, network.state_dict())
    assert came.taken == sum("num_batches" not in key for key in network.state_dict())
    assert bool(touched) == any(len(op.expansions) > 1 for stage in space.stages for op in stage.ops)
    side = spec.resolution if spec.head.flatten else 64
    image = torch.randn(1, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        expected, got = theirs(image), supernet.activate(known.architecture)(image)
    assert float((got - expected).abs().max()) < 1e-5
