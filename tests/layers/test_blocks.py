"""Plain blocks: shapes, skips and the place of SE, against writing the block out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.layers.activations import ACTIVATION_GRADIENTS, ACTIVATIONS
from se_nas.layers.blocks import Block
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.shape import BlockForm
from se_nas.space.specs import SESpec
from se_nas.space.vocabulary import Position
from tests.helpers.example_blocks import block_spec, example

MBCONV = block_spec("mbconv", 6, 6, kernel=5, expanded=12, activation="silu")
BOTTLENECK = block_spec("bottleneck", 6, 6, kernel=5, expanded=4, activation="silu")
IDENTITY = block_spec("identity", 6, 6, kernel=1, expanded=6, activation="identity")
SE = SESpec(ratio=3, ratio_of="expanded", divisor=1, activation="relu", gate="hard_sigmoid")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def excite(unit: nn.Module, x: Tensor) -> Tensor:
    hidden = F.relu(unit.reduce(x.mean((2, 3))))
    return x * F.relu6(unit.expand(hidden) + 3)[:, :, None, None] / 6


def lively(block: nn.Module) -> nn.Module:
    """In evaluation, with statistics that could hide no mistake."""
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return block.eval()


@pytest.mark.parametrize("position", [None, "inside", "standard"])
@pytest.mark.parametrize(("expanded", "stride"), [(12, 1), (6, 1), (12, 2)])
def test_mbconv_is_its_formula(position: Position | None, expanded: int, stride: int) -> None:
    se = None if position is None else dataclasses.replace(SE, position=position)
    block = lively(Block(dataclasses.replace(MBCONV, expanded=expanded, stride=stride, se=se)))
    x = torch.randn(2, 6, 7, 7)
    y = x
    if expanded != 6:
        y = F.silu(norm(block.expand_norm, F.conv2d(y, block.expand.weight)))
    y = F.conv2d(y, block.depthwise.weight, stride=stride, padding=2, groups=expanded)
    y = F.silu(norm(block.depthwise_norm, y))
    y = excite(block.se, y) if position == "inside" else y
    y = norm(block.project_norm, F.conv2d(y, block.project.weight))
    y = excite(block.se, y) if position == "standard" else y
    torch.testing.assert_close(block(x), x + y if stride == 1 else y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", [None, "inside", "standard"])
@pytest.mark.parametrize(("out_channels", "stride"), [(6, 1), (10, 1), (6, 2)])
def test_bottleneck_is_its_formula(position: Position | None, out_channels: int, stride: int) -> None:
    se = None if position is None else dataclasses.replace(SE, position=position)
    block = lively(Block(dataclasses.replace(BOTTLENECK, out_channels=out_channels, stride=stride, se=se)))
    x = torch.randn(2, 6, 7, 7)
    y = F.silu(norm(block.reduce_norm, F.conv2d(x, block.reduce.weight)))
    y = F.silu(norm(block.spatial_norm, F.conv2d(y, block.spatial.weight, stride=stride, padding=2)))
    y = excite(block.se, y) if position == "inside" else y
    y = norm(block.project_norm, F.conv2d(y, block.project.weight))
    y = excite(block.se, y) if position == "standard" else y
    skip = x
    if (out_channels, stride) != (6, 1):
        skip = norm(block.shortcut_norm, F.conv2d(x[:, :, ::stride, ::stride], block.shortcut.weight))
    torch.testing.assert_close(block(x), F.silu(skip + y), rtol=1e-4, atol=1e-5)


def test_identity_is_the_input_or_a_projection() -> None:
    x = torch.randn(2, 6, 7, 7)
    block = Block(IDENTITY)
    assert block(x) is x
    assert not list(block.parameters())
    projection = Block(dataclasses.replace(IDENTITY, out_channels=4, stride=2)).eval()
    expected = norm(projection.project_norm, F.conv2d(x[:, :, ::2, ::2], projection.project.weight))
    torch.testing.assert_close(projection(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("resolution", [1, 7, 8])
def test_shapes_are_the_specification_s(kind: str, stride: int, resolution: int) -> None:
    spec = example(kind, stride=stride, resolution=resolution)
    y = Block(spec)(torch.randn(2, 6, resolution, resolution))
    assert y.shape == (2, 10, spec.out_resolution, spec.out_resolution)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_work_element_by_element_and_not_in_place(name: str) -> None:
    x = torch.linspace(-8, 8, 33)
    before = x.clone()
    y = ACTIVATIONS[name]()(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(y[5:9], ACTIVATIONS[name]()(x[5:9]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_of_an_activation_is_torch_s_own(name: str) -> None:
    x = torch.linspace(-8, 8, 33).requires_grad_()
    grad = torch.linspace(1, 2, 33)
    (expected,) = torch.autograd.grad(ACTIVATIONS[name]()(x), x, grad)
    torch.testing.assert_close(ACTIVATION_GRADIENTS[name](grad, x.detach()), expected)


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_weight_of_a_block_learns(kind: str) -> None:
    block = Block(example(kind, resolution=5, se=SE))
    block(torch.randn(3, 6, 5, 5)).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


X = (2, 6, 7, 7)


def conv(block: nn.Module, name: str, x: Tensor, **options: int) -> Tensor:
    layer = getattr(block, name)
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2, **options)


@pytest.mark.parametrize("position", [None, "inside", "standard"])
@pytest.mark.parametrize(("out_channels", "stride"), [(6, 1), (10, 1), (6, 2)])
def test_a_basic_block_is_its_formula(position: Position | None, out_channels: int, stride: int) -> None:
    se = None if position is None else dataclasses.replace(SE, position=position)
    block = lively(Block(block_spec("basic", 6, out_channels, stride=stride, expanded=8, activation="silu", se=se)))
    x = torch.randn(X)
    y = F.silu(norm(block.spatial_norm, conv(block, "spatial", x, stride=stride)))
    y = excite(block.se, y) if position == "inside" else y
    y = norm(block.project_norm, conv(block, "project", y))
    y = excite(block.se, y) if position == "standard" else y
    kept = (out_channels, stride) == (6, 1)
    skip = x if kept else norm(block.shortcut_norm, conv(block, "shortcut", x, stride=stride))
    torch.testing.assert_close(block(x), F.silu(skip + y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "names"), [("basic", ["spatial"]), ("bottleneck", ["reduce", "spatial"])])
@pytest.mark.parametrize(("out_channels", "stride"), [(6, 1), (10, 2)])
def test_preactivation_is_its_formula(kind: str, names: list[str], out_channels: int, stride: int) -> None:
    spec = block_spec(
        kind, 6, out_channels, stride=stride, expanded=8, activation="silu", se=SE, form=BlockForm(preactivation=True)
    )  # type: ignore[arg-type]
    block = lively(Block(spec))
    x = torch.randn(X)
    source = y = F.silu(norm(block.entry_norm, x))
    for name in names:
        y = conv(block, name, y, stride=stride if name == "spatial" else 1)
        y = F.silu(norm(getattr(block, f"{name}_norm"), y))
    y = conv(block, "project", excite(block.se, y))
    skip = x if stride == 1 else conv(block, "shortcut", source, stride=stride)
    torch.testing.assert_close(block(x), skip + y, rtol=1e-4, atol=1e-5)
    assert not hasattr(block, "project_norm")
    assert not hasattr(block, "shortcut_norm")


def test_a_padded_shortcut_is_the_input_with_zeros() -> None:
    block = lively(
        Block(block_spec("basic", 6, 10, stride=2, expanded=10, activation="silu", form=BlockForm(shortcut="pad")))
    )
    x = torch.randn(X)
    y = F.silu(norm(block.spatial_norm, conv(block, "spatial", x, stride=2)))
    y = norm(block.project_norm, conv(block, "project", y))
    skip = torch.cat((x[:, :, ::2, ::2], torch.zeros(2, 4, 4, 4)), 1)
    torch.testing.assert_close(block(x), F.silu(skip + y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pooled_shortcut_is_the_mean_of_four_pixels_and_a_convolution(stride: int) -> None:
    form = BlockForm(shortcut="pooled")
    block = lively(Block(block_spec("basic", 6, 10, stride=stride, expanded=10, activation="silu", form=form)))
    x = torch.randn(X)
    y = F.silu(norm(block.spatial_norm, conv(block, "spatial", x, stride=stride)))
    y = norm(block.project_norm, conv(block, "project", y))
    if stride == 2:  # at the rim of 7x7 pixels, of those that there are
        side = range(0, 7, 2)
        means = [x[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in side for j in side]
        pooled = torch.stack(means, 2).reshape(2, 6, 4, 4)
    skip = norm(block.shortcut_norm, conv(block, "shortcut", pooled if stride == 2 else x))
    torch.testing.assert_close(block(x), F.silu(skip + y), rtol=1e-4, atol=1e-5)


def test_a_block_of_expansion_1_may_keep_its_expansion_convolution_and_lack_its_shortcut() -> None:
    form = BlockForm(always_expands=True, skip=False)
    block = lively(Block(block_spec("mbconv", 6, 6, expanded=6, activation="silu", form=form)))
    x = torch.randn(X)
    y = F.silu(norm(block.expand_norm, conv(block, "expand", x)))
    y = F.silu(norm(block.depthwise_norm, conv(block, "depthwise", y, groups=6)))
    y = norm(block.project_norm, conv(block, "project", y))
    torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-5)
    assert not hasattr(block, "drop_path")


def test_a_convolution_of_parts_is_one_of_each_and_the_first_has_what_is_over() -> None:
    form = BlockForm(mixed_kernels=(3, 1, 5), expand_parts=2, project_parts=3)
    spec = block_spec("mbconv", 6, 10, stride=2, expanded=11, kernel=5, activation="silu", form=form)
    block = lively(Block(spec))
    shapes = [tuple(p.shape) for _, p in block.named_parameters() if p.dim() == 4]
    assert shapes[:2] == [(6, 3, 1, 1), (5, 3, 1, 1)]
    assert shapes[2:5] == [(5, 1, 3, 3), (3, 1, 1, 1), (3, 1, 5, 5)]
    assert shapes[5:] == [(4, 5, 1, 1), (3, 3, 1, 1), (3, 3, 1, 1)]

    def mixed(name: str, x: torch.Tensor, sizes: list[int], stride: int = 1, depthwise: bool = False) -> torch.Tensor:
        found = []
        for weight, part in zip(getattr(block, name).parameters(), x.split(sizes, 1), strict=True):
            groups = len(weight) if depthwise else 1
            found.append(F.conv2d(part, weight, None, stride, weight.shape[-1] // 2, 1, groups))
        return torch.cat(found, 1)

    x = torch.randn(X)
    y = F.silu(norm(block.expand_norm, mixed("expand", x, [3, 3])))
    y = F.silu(norm(block.depthwise_norm, mixed("depthwise", y, [5, 3, 3], 2, depthwise=True)))
    y = norm(block.project_norm, mixed("project", y, [5, 3, 3]))
    torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-5)


def test_groups_entry_stride_and_shortcut_of_a_bottleneck() -> None:
    form = BlockForm(group_width=4, entry=0.5, stride_at="1x1", shortcut="conv3x3")
    block = Block(block_spec("bottleneck", 6, 10, stride=2, expanded=8, activation="silu", form=form))
    shapes = {name: tuple(p.shape) for name, p in block.named_parameters() if p.dim() == 4}
    assert shapes["reduce.weight"] == (4, 6, 1, 1)
    assert shapes["spatial.weight"] == (8, 2, 3, 3)  # two groups, each of two channels to four
    assert shapes["project.weight"] == (10, 8, 1, 1)
    assert shapes["shortcut.weight"] == (10, 6, 3, 3)
    assert (block.reduce.stride, block.spatial.stride, block.shortcut.stride) == ((2, 2), (1, 1), (2, 2))
    assert block(torch.randn(X)).shape == (2, 10, 4, 4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_pools_before_it_where_it_has_a_stride(stride: int) -> None:
    block = lively(Block(block_spec("conv", 6, 10, stride=stride, resolution=8, expanded=10, se=SE)))
    x = torch.randn(2, 6, 8, 8)
    pooled = x if stride == 1 else x.unflatten(2, (4, 2)).unflatten(4, (4, 2)).amax((3, 5))
    y = F.relu(norm(block.spatial_norm, conv(block, "spatial", pooled)))
    torch.testing.assert_close(block(x), excite(block.se, y), rtol=1e-4, atol=1e-5)
    assert block.spatial.bias is not None


@pytest.mark.parametrize("position", ["inside", "standard"])
def test_a_separable_convolution_is_its_formula(position: Position) -> None:
    se = dataclasses.replace(SE, position=position)
    block = lively(Block(block_spec("separable", 6, 6, expanded=6, activation="relu6", se=se)))
    x = torch.randn(X)
    y = F.relu6(norm(block.depthwise_norm, conv(block, "depthwise", x, groups=6)))
    y = excite(block.se, y) if position == "inside" else y
    y = F.relu6(norm(block.project_norm, conv(block, "project", y)))
    y = excite(block.se, y) if position == "standard" else y
    torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-5)  # no skip connection


@pytest.mark.parametrize("stride", [1, 2])
def test_a_fused_inverted_residual_is_its_formula(stride: int) -> None:
    block = lively(Block(block_spec("fused_mbconv", 6, 6, stride=stride, expanded=12, activation="silu", se=SE)))
    x = torch.randn(X)
    y = excite(block.se, F.silu(norm(block.expand_norm, conv(block, "expand", x, stride=stride))))
    y = norm(block.project_norm, conv(block, "project", y))
    torch.testing.assert_close(block(x), x + y if stride == 1 else y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_shufflenet_unit_is_its_formula(stride: int, dense: bool) -> None:
    out_channels = 6 if stride == 1 else 18
    se = dataclasses.replace(SE, position="standard")
    spec = block_spec(
        "shuffle", 6, out_channels, stride=stride, expanded=9, se=se, form=BlockForm(groups=3, dense_reduction=dense)
    )
    block = lively(Block(spec))
    x = torch.randn(X)
    y = F.relu(norm(block.reduce_norm, conv(block, "reduce", x, groups=1 if dense else 3)))
    y = y[:, [0, 3, 6, 1, 4, 7, 2, 5, 8]]
    y = norm(block.depthwise_norm, conv(block, "depthwise", y, stride=stride, groups=9))
    y = excite(block.se, norm(block.project_norm, conv(block, "project", y, groups=3)))
    expected = x + y if stride == 1 else torch.cat((nn.AvgPool2d(3, 2, 1)(x), y), 1)
    torch.testing.assert_close(block(x), F.relu(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_inception_module_is_its_formula(stride: int) -> None:
    se = dataclasses.replace(SE, position="standard")
    block = lively(Block(example("inception", stride=stride, se=se)))
    x = torch.randn(X)

    def unit(name: str, y: Tensor, stride: int = 1) -> Tensor:
        return F.silu(norm(getattr(block, f"{name}_norm"), conv(block, name, y, stride=stride)))

    if stride == 1:
        mean = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
        parts = [unit("branch1_1", x), unit("branch2_2", unit("branch2_1", x)), unit("branch_pool", mean)]
    else:
        double = unit("branch2_3", unit("branch2_2", unit("branch2_1", x)), 2)
        most = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
        parts = [unit("branch1_2", unit("branch1_1", x), 2), double, most]
    torch.testing.assert_close(block(x), excite(block.se, torch.cat(parts, 1)), rtol=1e-4, atol=1e-5)
