"""What a model computes, as steps from its images to its logits.

The model runs once on stand-ins (torch.fx), so that its layers count by what they do and what they read, whatever a
library calls them. SE is one step; what does nothing in evaluation is none.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from torch import fx, nn

from se_nas.errors import MOST_SHOWN, ModelError, cut
from se_nas.layers.activations import ACTIVATIONS
from se_nas.space.vocabulary import Activation, Gate

_Layer = Literal["conv", "norm", "activation", "max_pool", "average_pool", "mean", "linear", "dropout", "se"]
Does = _Layer | Literal["images", "add", "multiply", "unknown"]

#: Functions of one element by their names in torch, in lower case and without the mark of those that work in place.
_ELEMENTWISE = {
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}
#: Functions with options, which are these where none is given; the modules by what they say of themselves.
_WITH_OPTIONS: dict[str, dict[str, float]] = {
    "gelu": {},
    "mish": {},
    "elu": {"alpha": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
}
_MODULES = {repr(make()): name for name, make in ACTIVATIONS.items()}
_SUMS, _PRODUCTS = {"add", "iadd"}, {"mul", "imul"}
#: What gives back its input in evaluation, or the same numbers in another shape. StochasticDepth is torchvision's.
_PASSES = {"identity", "flatten", "contiguous", "stochastic_depth", "stochasticdepth", "droppath"}
#: Kernel, stride, padding and ceil_mode of the pooling in ResNet-D's shortcuts.
_HALVES = (2, 2, 0, True)
_SPATIAL = {(2, 3), (-2, -1), (3, 2), (-1, -2)}


@dataclass(frozen=True)
class Excitation:
    """The layers of an SE unit: linear maps or 1x1 convolutions of the means, with what stands between and after."""

    reduce: Any
    expand: Any
    activation: Activation
    gate: Gate


@dataclass(eq=False)
class Step:
    """One thing that a model does.

    Attributes:
        where: the path of the module that does it and its type.
        inputs: the steps whose results it reads.
        layer: the module that has its weights.
        function: which function of one element an activation is.
        rate: of a dropout.
        se: the layers of an SE unit.
        users: the steps that read its result.
    """

    does: Does
    where: str
    inputs: tuple[Step, ...] = ()
    layer: Any = None
    function: str = ""
    rate: float = 0.0
    se: Excitation | None = None
    users: list[Step] = field(default_factory=list)

    @property
    def next(self) -> Step | None:
        """The one step that reads its result; None where there are several or none."""
        return self.users[0] if len(self.users) == 1 else None

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a linear map of the channels at every position."""
        if self.does != "conv":
            return self.does == "linear"
        return bool(self.layer.kernel_size[0] == self.layer.stride[0] == self.layer.groups == 1)


def unknown(step: Step) -> ModelError:
    """The error of a step that no known network has, or not there."""
    return ModelError(f"must be made of known blocks, but {step.where} is part of none")


def steps_of(model: nn.Module) -> tuple[Step, Step]:
    """The images and the logits of a model in evaluation mode; what lies between follows from `users`.

    Raises:
        ModelError: the model cannot be followed, or does what no known block does.
    """
    steps: dict[fx.Node, Step] = {}
    logits = None
    modules = dict(model.named_modules())
    for node in _graph(model).nodes:
        if node.op == "output":
            logits = steps.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        else:
            steps[node] = _step(node, modules, tuple(steps[read] for read in node.all_input_nodes))
    if logits is None:
        raise ModelError("must return the logits alone")
    images = None
    for step in _read_by(logits):
        if step.does in ("unknown", "multiply") or (step.does == "images" and images is not None):
            raise unknown(step)
        images = step if step.does == "images" else images
        for read in step.inputs:
            read.users.append(step)
    if images is None:
        raise ModelError("must read images")
    return images, logits


class _Tracer(fx.Tracer):
    entered = "the model"

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, *args: Any) -> Any:
        self.entered = f"{self.path_of_module(m)} ({type(m).__name__})"
        return super().call_module(m, *args)


def _graph(model: nn.Module) -> fx.Graph:
    tracer = _Tracer()
    try:
        return tracer.trace(model)
    except Exception as error:  # whatever a stand-in for a tensor does to code that was not written for one
        reason = cut(str(error).partition("\n")[0], MOST_SHOWN)
        raise ModelError(f"must be traced by torch.fx, but {tracer.entered} cannot be: {reason}") from error


def _read_by(logits: Step) -> Iterable[Step]:
    """Every step that the logits depend on, each behind those that it depends on itself."""
    found: dict[Step, None] = {}
    started: set[Step] = set()
    left = [(logits, False)]
    while left:
        step, is_next = left.pop()
        if is_next:
            found[step] = None
        elif step not in started:
            started.add(step)
            left.append((step, True))
            left.extend((read, False) for read in reversed(step.inputs))
    return found


def _step(node: fx.Node, modules: dict[str, nn.Module], inputs: tuple[Step, ...]) -> Step:
    """The step of a node; the one before where it does nothing."""
    if node.op == "placeholder":
        return Step("images", str(node.target))
    if node.op == "call_module":
        path = str(node.target)
        layer = modules[path]
        return _of_module(layer, f"{path} ({type(layer).__name__})", inputs)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("the model", type(modules[""]))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    where = f"{path} ({getattr(kind, '__name__', kind)}: {name})"
    return Step("unknown", where, inputs) if node.op == "get_attr" else _of_function(node, name, where, inputs)


def _of_module(layer: Any, where: str, inputs: tuple[Step, ...]) -> Step:
    name = type(layer).__name__.lower()
    step = Step("unknown", where, inputs, layer)
    if isinstance(layer, nn.BatchNorm2d):
        return _norm(layer, step)
    if name in _PASSES:
        return inputs[0]
    if type(layer) is nn.Conv2d and _is_plain(layer):
        step.does = "conv"
    elif isinstance(layer, nn.Linear):
        step.does = "linear"
    elif type(layer) is nn.MaxPool2d and (layer.kernel_size, layer.stride, layer.dilation) == (3, 2, 1):
        step.does = "max_pool"
    elif type(layer) is nn.AvgPool2d and (layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode) == _HALVES:
        step.does = "average_pool" if not layer.count_include_pad else "unknown"
    elif type(layer) is nn.AdaptiveAvgPool2d and layer.output_size in (1, (1, 1)):
        step.does = "mean"
    elif type(layer) is nn.Dropout:
        step.does, step.rate = "dropout", layer.p
    elif function := _ELEMENTWISE.get(name) or _MODULES.get(re.sub(r"(, )?inplace=True", "", repr(layer))):
        step.does, step.function = "activation", function
    return step


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether a convolution is square, of an odd kernel, padded by half of it and not dilated."""
    (kernel, other), (stride, across) = conv.kernel_size, conv.stride
    sides = kernel == other and stride == across and kernel % 2 == 1 and conv.dilation == (1, 1)
    return sides and conv.padding == (kernel // 2, kernel // 2) and conv.padding_mode == "zeros"


def _norm(layer: nn.BatchNorm2d, step: Step) -> Step:
    """A norm with statistics, and the activation that timm has in one module with it."""
    parts = dict(layer.named_children())
    known = type(layer) is nn.BatchNorm2d or parts.keys() == {"drop", "act"}
    if not known or layer.running_mean is None or layer.weight is None:
        return step
    step.does = "norm"
    if isinstance(parts.get("act", nn.Identity()), nn.Identity):
        return step
    function = _ELEMENTWISE.get(type(parts["act"]).__name__.lower(), "")
    return Step("activation" if function else "unknown", step.where, (step,), layer, function)


def _of_function(node: fx.Node, name: str, where: str, inputs: tuple[Step, ...]) -> Step:
    word = name.lower().strip("_")
    if word in _PASSES:
        return inputs[0]
    step = Step("unknown", where, inputs)
    two = len(node.args) == 2 and len(inputs) == 2 and not node.kwargs
    options = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    if word in _WITH_OPTIONS and len(node.args) == 1 and options.items() <= _WITH_OPTIONS[word].items():
        step.does, step.function = "activation", word
    elif word in _ELEMENTWISE:
        step.does, step.function = "activation", _ELEMENTWISE[word]
    elif word == "dropout":
        step.does, step.rate = "dropout", float(cast(float, node.kwargs.get("p", [*node.args, 0.5][1])))
    elif _is_mean(node, word):
        step.does = "mean"
    elif two and (word in _SUMS or node.target is operator.add):
        step.does = "add"
    elif two and word in _PRODUCTS:
        step.does = "multiply"
        for scaled, gates in (inputs, inputs[::-1]):
            if (se := _excitation(scaled, gates)) is not None:
                return Step("se", where, (scaled,), se=se)
    return step


def _is_mean(node: fx.Node, word: str) -> bool:
    """Whether a function takes the mean of all positions."""
    if word == "adaptive_avg_pool2d":
        return node.args[1] in (1, (1, 1), [1, 1])
    axes = node.kwargs.get("dim", [*node.args, ()][1]) if word == "mean" else ()
    return isinstance(axes, (list, tuple)) and tuple(axes) in _SPATIAL


def _excitation(scaled: Step, gates: Step) -> Excitation | None:
    """The layers that compute these gates from the means of the map that they scale."""
    chain = [gates]
    while len(chain) < 5 and len(chain[-1].inputs) == 1:
        chain.append(chain[-1].inputs[0])
    if [step.does in ("conv", "linear") for step in chain] != [False, True, False, True, False]:
        return None
    gate, expand, between, reduce, mean = chain
    sound = mean.does == "mean" and mean.inputs == (scaled,) and expand.is_pointwise and reduce.is_pointwise
    known = gate.function in get_args(Gate) and between.function in get_args(Activation)
    if not sound or not known or expand.layer.bias is None or reduce.layer.bias is None:
        return None
    return Excitation(reduce.layer, expand.layer, cast(Activation, between.function), cast(Gate, gate.function))
