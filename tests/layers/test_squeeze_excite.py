"""Squeeze-and-Excitation equals the plain formula and timm's, and its own backward holds in every mode of torch."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import se_op as benchmark
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from se_nas.layers import squeeze_excite
from se_nas.layers.activations import ACTIVATIONS, GATES
from se_nas.layers.attention.se import SqueezeExcite, gate_function
from se_nas.layers.squeeze_excite import made_again, squeeze_scale
from se_nas.layers.torchvision_guard import import_timm

ROOT = Path(__file__).parents[2]


def plain(x: Tensor, gate: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Equations 2 to 4 as they stand in the paper, for autograd alone."""
    return x * gate(x.sum((2, 3)) / (x.shape[2] * x.shape[3]), *parameters)[:, :, None, None]


def two_layer(channels: int, hidden: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = ((hidden, channels), (hidden,), (channels, hidden), (channels,))
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def gradients(function: Callable[..., Tensor], x: Tensor, gate: Callable[..., Tensor], parameters: list[Tensor]):
    """The output, and the gradient of each input that needs one, of a loss that weighs every output differently."""
    out = function(x, gate, *parameters)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    needed = [t for t in (x, *parameters) if t.requires_grad]
    return [out.detach(), *torch.autograd.grad(out, needed, weight)]


def assert_all_close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_the_plain_formula_and_timm(activation: str, gate: str) -> None:
    import_timm()
    from timm.layers import SqueezeExcite as TimmSqueezeExcite

    gate_layer = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}[gate]
    theirs = TimmSqueezeExcite(6, rd_channels=3, act_layer=ACTIVATIONS[activation], gate_layer=gate_layer).double()
    ours = SqueezeExcite(6, 3, activation, gate).double()
    with torch.no_grad():
        for mine, other in ((ours.reduce, theirs.fc1), (ours.expand, theirs.fc2)):
            mine.weight.copy_(other.weight.flatten(1))
            mine.bias.copy_(other.bias)
    x = (3 * torch.randn(4, 6, 5, 3, dtype=torch.float64)).requires_grad_()
    weights = [p for linear in (ours.reduce, ours.expand) for p in (linear.weight, linear.bias)]
    found = gradients(lambda x, _, *__: ours(x), x, None, weights)

    def reference(z: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        s = ACTIVATIONS[activation]()(z @ w1.T + b1) @ w2.T + b2
        return {"sigmoid": s.sigmoid(), "hard_sigmoid": F.relu6(s + 3) / 6, "tanh": s.tanh(), "relu": s.clamp(0)}[gate]

    assert_all_close(found, gradients(plain, x, reference, weights))
    timm_weights = [theirs.fc1.weight, theirs.fc1.bias, theirs.fc2.weight, theirs.fc2.bias]
    timm_found = gradients(lambda x, _, *__: theirs(x), x, None, timm_weights)
    assert_all_close([t.flatten() for t in found], [t.flatten() for t in timm_found])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("squeeze", ["max", "none"])
def test_other_squeezes_are_their_formulas(squeeze: str, gate: str, layout: torch.memory_format) -> None:
    module = SqueezeExcite(6, 3, "silu", gate, squeeze).double()
    x = torch.randn(4, 6, 5, 3, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    w1, b1, w2, b2 = module.parameters()

    def excite(z: Tensor) -> Tensor:
        """Two 1x1 convolutions, as the paper's NoSqueeze has them; on one position they are the two linear maps."""
        hidden = F.silu(F.conv2d(z, w1[:, :, None, None], b1))
        return GATES[gate](F.conv2d(hidden, w2[:, :, None, None], b2))

    def reference(x: Tensor, _: None, *parameters: Tensor) -> Tensor:
        return x * excite(x if squeeze == "none" else x.flatten(2).max(2).values[:, :, None, None])

    weights = [w1, b1, w2, b2]
    found = gradients(lambda x, _, *__: module(x), x, None, weights)
    assert_all_close(found, gradients(reference, x, None, weights))
    assert module(x).is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(module, (x[:2, :, :2, :2].detach().requires_grad_(),))


def test_its_parameters_are_two_linear_maps_with_zero_bias() -> None:
    module = SqueezeExcite(12, 5)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "reduce.weight": (5, 12),
        "reduce.bias": (5,),
        "expand.weight": (12, 5),
        "expand.bias": (12,),
    }
    assert not module.reduce.bias.any()
    assert not module.expand.bias.any()


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="swoosh"):
        gate_function("swoosh", "sigmoid")


@pytest.mark.parametrize("size", [(3, 4), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradcheck(layout: torch.memory_format, size: tuple[int, int]) -> None:
    x = torch.randn(3, 4, *size, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    gate = gate_function("silu", "sigmoid")
    assert torch.autograd.gradcheck(lambda *a: squeeze_scale(a[0], gate, *a[1:]), (x, *two_layer(4, 2)))
    assert torch.autograd.gradcheck(lambda *a: squeeze_scale(a[0], gate, *a[1:], squeeze="max"), (x, *two_layer(4, 2)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("squeeze", ["max", "mean_and_max"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (2, 4, 1, 1), (2, 4, 8, 2)])
def test_maxima_and_their_gradient_are_those_of_pooling(
    shape: tuple[int, ...], squeeze: str, memory_format: torch.memory_format
) -> None:
    x = torch.randint(0, 3, shape).double().to(memory_format=memory_format).requires_grad_()  # with maxima that tie
    mix, parameters = torch.rand(2, dtype=torch.float64).requires_grad_(), two_layer(4, 2)

    def gate(z: Tensor, mix: Tensor, *weights: Tensor) -> Tensor:
        seen = torch.tensordot(mix, z, 1) if squeeze == "mean_and_max" else z
        return gate_function("silu", "sigmoid")(seen, *weights)

    def reference(x: Tensor, gate: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
        z = F.max_pool2d(x, x.shape[2:]).flatten(1)
        return x * gate(torch.stack((x.mean((2, 3)), z)) if squeeze != "max" else z, *parameters)[:, :, None, None]

    needed = [mix, *parameters] if squeeze == "mean_and_max" else [mix.detach(), *parameters]
    found = gradients(partial(squeeze_scale, squeeze=squeeze), x, gate, needed)
    assert_all_close(found, gradients(reference, x, gate, needed))


def mixed_gate(z: Tensor, p: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, masks: Tensor) -> Tensor:
    """A supernet's gate: no SE (1) or one of two prefix masks on shared weights, with probabilities p."""
    hidden = F.relu(F.linear(z, w1, b1))
    return p[0] + sum(p[1 + k] * torch.sigmoid(F.linear(hidden * masks[k], w2, b2)) for k in range(2))


def test_a_mixture_of_gates_gets_the_gradient_of_its_probabilities() -> None:
    x = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    masks = torch.tensor([[1, 0], [1, 1]], dtype=torch.float64)
    parameters = [p, *two_layer(4, 2), masks]
    assert_all_close(gradients(squeeze_scale, x, mixed_gate, parameters), gradients(plain, x, mixed_gate, parameters))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    hidden=st.integers(1, 4),
    layout=st.sampled_from(["contiguous", "channels_last", "transposed", "strided", "expanded"]),
    needed=st.sampled_from([(True, True), (True, False), (False, True)]),
    chunk_bytes=st.sampled_from([1, 512, 2**20]),
)
def test_equals_the_plain_formula_for_any_shape_layout_and_need(
    shape: tuple[int, int, int, int], hidden: int, layout: str, needed: tuple[bool, bool], chunk_bytes: int
) -> None:
    n, c, h, w = shape
    x = {
        "contiguous": lambda: torch.randn(shape, dtype=torch.float64),
        "channels_last": lambda: torch.randn(shape, dtype=torch.float64).to(memory_format=torch.channels_last),
        "transposed": lambda: torch.randn(n, c, w, h, dtype=torch.float64).transpose(2, 3),
        "strided": lambda: torch.randn(n, 2 * c, h, w + 1, dtype=torch.float64)[:, ::2, :, 1:],
        "expanded": lambda: torch.randn(n, c, 1, 1, dtype=torch.float64).expand(shape),
    }[layout]()
    x.requires_grad_(needed[0])
    parameters = [p.requires_grad_(needed[1]) for p in two_layer(c, hidden)]
    gate = gate_function("relu", "hard_sigmoid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squeeze_excite, "_CHUNK_BYTES_PER_THREAD", chunk_bytes)
        found = gradients(squeeze_scale, x, gate, parameters)
    assert_all_close(found, gradients(plain, x, gate, parameters))


@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradient_keep_the_memory_format_of_x(
    layout: torch.memory_format, gradient_layout: torch.memory_format
) -> None:
    x = torch.randn(2, 6, 5, 5).to(memory_format=layout).requires_grad_()
    out = SqueezeExcite(6, 2)(x)
    (dx,) = torch.autograd.grad(out, x, torch.randn(2, 6, 5, 5).to(memory_format=gradient_layout))
    assert out.is_contiguous(memory_format=layout)
    assert dx.is_contiguous(memory_format=layout)


def test_a_gate_that_ignores_z_or_everything() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(3, dtype=torch.float64, requires_grad=True)
    out = squeeze_scale(x, lambda z, p: p.expand_as(z), scale)
    dx, dscale = torch.autograd.grad(out.sum(), (x, scale))
    torch.testing.assert_close(dx, scale.detach()[None, :, None, None].expand_as(x))
    torch.testing.assert_close(dscale, x.detach().sum((0, 2, 3)))
    (dx,) = torch.autograd.grad(squeeze_scale(x, torch.ones_like).sum(), x)
    torch.testing.assert_close(dx, torch.ones_like(x))


@pytest.mark.parametrize("map_dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_dtype_of_x_and_runs_the_gate_in_bfloat16(map_dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    inner = gate_function("relu", "sigmoid")

    def gate(z: Tensor, *parameters: Tensor) -> Tensor:
        s = inner(z, *parameters)
        seen.append(s.dtype)
        return s

    x = torch.randn(3, 8, 4, 4).to(map_dtype).requires_grad_()
    parameters = two_layer(8, 4, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = squeeze_scale(x, gate, *parameters)
        expected = squeeze_excite._scale(x, gate(x.mean((2, 3)), *parameters))
    grad = torch.randn_like(out)
    found = torch.autograd.grad(out, [x, *parameters], grad)
    reference = torch.autograd.grad(expected, [x, *parameters], grad)
    assert seen == [torch.bfloat16, torch.bfloat16]
    assert out.dtype == map_dtype
    torch.testing.assert_close(out, expected)
    for a, b in zip(found, reference, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_there_is_no_graph(mode: Callable[[], object]) -> None:
    module = SqueezeExcite(4, 2).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    expected = module(x).detach()
    with mode():
        out = module(x)
    assert out.grad_fn is None
    torch.testing.assert_close(out, expected)
    frozen = copy.deepcopy(module).requires_grad_(False)
    assert frozen(x).grad_fn is None


def test_backward_twice_over_a_retained_graph_gives_the_same() -> None:
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    parameters = two_layer(4, 2)
    loss = squeeze_scale(x, gate_function("relu", "sigmoid"), *parameters).square().sum()
    first = torch.autograd.grad(loss, [x, *parameters], retain_graph=True)
    assert_all_close(list(torch.autograd.grad(loss, [x, *parameters])), list(first))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, [x, *parameters])


def test_differentiating_twice_is_an_error() -> None:
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    (dx,) = torch.autograd.grad(SqueezeExcite(4, 2)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_changing_x_before_backward_is_an_error() -> None:
    x = torch.randn(2, 4, 3, 3, requires_grad=True) * 1
    out = SqueezeExcite(4, 2)(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_the_map_is_released_by_backward_and_the_rest_without_the_garbage_collector() -> None:
    scales: list[weakref.ref[Tensor]] = []
    inner = gate_function("relu", "sigmoid")

    def gate(z: Tensor, *parameters: Tensor) -> Tensor:
        s = inner(z, *parameters)
        scales.append(weakref.ref(s))
        return s

    leaf = torch.randn(2, 4, 3, 3, requires_grad=True)
    parameters = two_layer(4, 2, torch.float32)
    gc.collect()
    gc.disable()
    try:
        x = leaf * 1
        held = weakref.ref(x)
        loss = squeeze_scale(x, gate, *parameters).sum()
        del x
        assert held() is not None
        loss.backward()
        assert held() is None
        del loss
        assert scales[0]() is None
        squeeze_scale(leaf, gate, *parameters)  # dropped with no backward at all
        assert scales[1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_whole_to_equal_values(backend: str) -> None:
    module = SqueezeExcite(4, 2, "silu").double()
    weights = list(module.parameters())
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    found = gradients(lambda x, _, *__: compiled(x), x, None, weights)
    assert_all_close(found, gradients(lambda x, _, *__: module(x), x, None, weights))


def test_vmap_tracing_and_export_see_plain_operations() -> None:
    module = SqueezeExcite(4, 2).double()
    x = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(module)(x), torch.stack([module(part) for part in x]))
    grad = torch.func.grad(lambda x: module(x).square().sum())(x[0])
    leaf = x[0].clone().requires_grad_()
    torch.testing.assert_close(grad, torch.autograd.grad(module(leaf).square().sum(), leaf)[0])
    torch.testing.assert_close(torch.export.export(module, (x[0],)).module()(x[1]), module(x[1]))
    torch.testing.assert_close(torch.fx.symbolic_trace(module)(x[1]), module(x[1]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_tracing_sees_plain_operations() -> None:
    module = SqueezeExcite(4, 2).double()
    x = torch.randn(2, 2, 4, 5, 5, dtype=torch.float64)
    traced = torch.jit.trace(module, (x[0],))
    assert "PythonOp" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x[1]), module(x[1]))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_gives_the_same_gradients(reentrant: bool) -> None:
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    parameters = two_layer(4, 2)

    def checkpointed(x: Tensor, gate: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
        return checkpoint(squeeze_scale, x, gate, *parameters, use_reentrant=reentrant)

    def backward(function: Callable[..., Tensor]) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in (x, *parameters)]
        function(leaves[0], gate_function("relu", "sigmoid"), *leaves[1:]).square().sum().backward()
        return [leaf.grad for leaf in leaves]

    assert_all_close(backward(checkpointed), backward(squeeze_scale))


def test_can_be_copied_and_pickled() -> None:
    module = SqueezeExcite(4, 2, "hard_swish", "hard_sigmoid")
    x = torch.randn(2, 4, 3, 3)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(twin(x), module(x))
    assert "hard_swish" in repr(module)


def test_makes_the_least_passes_over_its_map() -> None:
    x, grad = (torch.randn(32, 32, 24, 24).to(memory_format=torch.channels_last) for _ in range(2))
    x.requires_grad_()
    theirs, ours = benchmark.pair(32, 8)
    assert benchmark.count_passes(ours, x, grad) == pytest.approx(7, abs=0.01)
    assert benchmark.count_passes(theirs, x, grad) >= 13


FAKE_TORCHVISION = """
import torch
{unrelated}
for name in ("nms", "qnms"):
    try:
        getattr(torch.ops.torchvision, name)
    except AttributeError:
        raise RuntimeError(f"operator torchvision::{{name}} does not exist")
VALUE = 7
"""


def import_fake_torchvision(folder: Path, unrelated: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "torchvision.py").write_text(FAKE_TORCHVISION.format(unrelated=unrelated))
    (folder / "timm.py").write_text("import torchvision")
    code = "from se_nas.layers.torchvision_guard import import_timm; print(import_timm().torchvision.VALUE)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_guard_imports_a_torchvision_whose_operators_are_missing(tmp_path: Path) -> None:
    done = import_fake_torchvision(tmp_path)
    assert done.stdout.strip() == "7", done.stderr


def test_the_guard_hides_no_other_failure(tmp_path: Path) -> None:
    done = import_fake_torchvision(tmp_path, unrelated="raise RuntimeError('something else')")
    assert done.returncode != 0
    assert "something else" in done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_on_a_gpu_with_and_without_autocast(dtype: torch.dtype | None) -> None:
    parameters = [p.detach().cuda().requires_grad_() for p in two_layer(8, 4, torch.float32)]
    x = torch.randn(4, 8, 6, 6, device="cuda").to(memory_format=torch.channels_last).requires_grad_()
    gate = gate_function("relu", "sigmoid")
    with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
        out = squeeze_scale(x, gate, *parameters)
    expected = plain(x, gate, *parameters)
    grad = torch.randn_like(out)
    found = torch.autograd.grad(out, [x, *parameters], grad)
    assert out.dtype == x.dtype
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype is None else {"rtol": 0.05, "atol": 0.1}
    for a, b in zip(found, torch.autograd.grad(expected, [x, *parameters], grad), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_a_convolution_that_scales_again_learns_the_same_and_keeps_no_map_of_its_own() -> None:
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64).requires_grad_()
    weight, parameters = torch.randn(3, 4, 3, 3, dtype=torch.float64).requires_grad_(), two_layer(4, 2)

    def gradients_of(context: Callable[[Tensor], AbstractContextManager[None]], lost: bool) -> list[Tensor]:
        y = squeeze_scale(x, gate_function("relu", "sigmoid"), *parameters)
        with context(y):
            z = F.conv2d(y, weight)
        if lost:
            with torch.no_grad():
                y.fill_(torch.nan)
        return list(torch.autograd.grad(z.square().sum(), [x, weight, *parameters]))

    expected = gradients_of(lambda y: nullcontext(), lost=False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients_of(lambda y: nullcontext(), lost=True)
    assert_all_close(gradients_of(made_again, lost=True), expected)
    other = torch.randn(2, 4, 6, 6).requires_grad_()
    with made_again(other):  # which comes from elsewhere
        assert torch.equal(torch.autograd.grad((other * other).sum(), other)[0], 2 * other)
