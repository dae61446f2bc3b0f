"""An elastic block is the plain block at its largest; a slice of it is the plain block with its weights cut by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from se_nas.layers.blocks import Block
from se_nas.space.slots.slot import SlotOp
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.elastic_blocks import ElasticBlock, largest_block


def op_of(kind: str) -> SlotOp:
    block = {
        "kind": kind,
        "kernel": [3, 5],
        "expansion": [4, 2],
        "se": {"options": [4, "none", 2], "divisor": 2, "gate": "sigmoid"},
    }
    stage = {"width": 8, "stride": 2, "blocks": [block]}
    data = {"name": "one", "resolution": 6, "stem": {"width": 8}, "stages": [stage]}
    return parse_space(data, "one").slots[0].ops[0]


@pytest.fixture
def op() -> SlotOp:
    return op_of("mbconv")


def test_the_largest_block_has_every_option_at_its_largest(op: SlotOp) -> None:
    largest = largest_block(op)
    assert (largest.kernel, largest.expanded, largest.se_hidden) == (5, 32, 16)


@pytest.mark.parametrize("kind", ["mbconv", "bottleneck"])
def test_parameters_are_the_largest_block_s(kind: str) -> None:
    op = op_of(kind)
    elastic, plain = ElasticBlock(op), Block(largest_block(op))
    assert {n: p.shape for n, p in elastic.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}


def test_a_slice_is_cut_as_by_hand(op: SlotOp) -> None:
    torch.manual_seed(0)
    elastic = ElasticBlock(op)
    block = op.block(kernel=3, expansion=2, se="r4")
    assert (block.expanded, block.se_hidden) == (16, 4)
    views = elastic.sliced(block)
    assert torch.equal(views["expand.weight"], elastic.expand.weight[:16])
    assert torch.equal(views["depthwise.weight"], elastic.depthwise.weight[:16, :, 1:4, 1:4])
    assert torch.equal(views["project.weight"], elastic.project.weight[:, :16])
    assert torch.equal(views["se.reduce.weight"], elastic.se.reduce.weight[:4, :16])
    assert torch.equal(views["se.expand.weight"], elastic.se.expand.weight[:16, :4])
    assert torch.equal(views["project_norm.running_var"], elastic.project_norm.running_var)
    assert views["depthwise_norm.bias"].shape == (16,)
    assert {name for name in Block(block).state_dict() if "num_batches" not in name} == set(views)


def test_a_slice_of_a_bottleneck_is_cut_as_by_hand() -> None:
    torch.manual_seed(0)
    op = op_of("bottleneck")
    elastic = ElasticBlock(op)
    block = op.block(kernel=3, expansion=2, se="r4")
    assert (block.expanded, block.se_hidden) == (16, 4)
    views = elastic.sliced(block)
    assert torch.equal(views["reduce.weight"], elastic.reduce.weight[:16])
    assert torch.equal(views["spatial.weight"], elastic.spatial.weight[:16, :16, 1:4, 1:4])
    assert torch.equal(views["project.weight"], elastic.project.weight[:, :16])
    assert torch.equal(views["shortcut.weight"], elastic.shortcut.weight)
    assert views["spatial_norm.running_mean"].shape == (16,)
    assert views["se.reduce.weight"].shape == (4, 16)
    assert {name for name in Block(block).state_dict() if "num_batches" not in name} == set(views)


def test_slices_are_views_of_shared_weights(op: SlotOp) -> None:
    elastic = ElasticBlock(op)
    small, large = (elastic.sliced(op.block(kernel=k, expansion=e, se="r2")) for k, e in ((3, 2), (5, 4)))
    with torch.no_grad():
        large["depthwise.weight"].zero_()
    assert not small["depthwise.weight"].any()


def test_without_se_there_is_no_se_weight(op: SlotOp) -> None:
    assert not [
        name for name in ElasticBlock(op).sliced(op.block(kernel=3, expansion=2, se="none")) if name.startswith("se.")
    ]


def family_op(**block: Any) -> SlotOp:
    stage = {"width": 16, "stride": 2, "blocks": [block]}
    return parse_space({"name": "one", "resolution": 6, "stem": {"width": 8}, "stages": [stage]}, "one").slots[0].ops[0]


def test_a_slice_of_groups_is_a_prefix_of_them() -> None:
    op = family_op(kind="bottleneck", kernel=[3, 5], expansion=[0.5, 1], group_width=4, entry=0.5)
    elastic = ElasticBlock(op)
    views = elastic.sliced(op.block(kernel=3, expansion=0.5, se="none"))
    assert elastic.spatial.weight.shape == (16, 2, 5, 5)
    assert torch.equal(views["reduce.weight"], elastic.reduce.weight[:4])
    assert torch.equal(views["spatial.weight"], elastic.spatial.weight[:8, :, 1:4, 1:4])
    assert torch.equal(views["project.weight"], elastic.project.weight[:, :8])
    assert torch.equal(views["shortcut.weight"], elastic.shortcut.weight)


def test_without_expansion_a_slice_has_the_first_channels_and_no_expansion_convolution() -> None:
    op = family_op(kind="mbconv", expansion=[4, 1, 6])
    elastic = ElasticBlock(op)
    views = elastic.sliced(op.block(kernel=3, expansion=1, se="none"))
    assert elastic.expand.weight.shape == (48, 8, 1, 1)
    assert not [name for name in views if name.startswith("expand")]
    assert torch.equal(views["depthwise.weight"], elastic.depthwise.weight[:8])
    assert torch.equal(views["project.weight"], elastic.project.weight[:, :8])


def test_a_mixture_that_may_leave_the_expansion_out_reads_a_blend_of_input_and_expansion() -> None:
    torch.manual_seed(0)
    op = family_op(kind="mbconv", expansion=[4, 1])
    elastic = ElasticBlock(op).double().eval()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    found = elastic.run_mixed(x, lambda axis: torch.tensor([0.3, 0.7] if axis.choice else [1.0], dtype=torch.float64))
    y = elastic.activation(elastic.expand_norm(elastic.expand(x)))
    y[:, :8] = 0.3 * y[:, :8] + 0.7 * x
    y = elastic.activation(elastic.depthwise_norm(elastic.depthwise(y)))
    y[:, 8:] *= 0.3
    torch.testing.assert_close(found, elastic.project_norm(elastic.project(y)))
