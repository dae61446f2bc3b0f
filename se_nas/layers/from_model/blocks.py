"""The stem, the blocks and the head that the steps of a model are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast, get_args

from se_nas.errors import ModelError
from se_nas.layers.from_model.found import FoundBlock, FoundHead, FoundStem, Unit
from se_nas.layers.from_model.steps import Excitation, Step, unknown
from se_nas.space.vocabulary import Activation, Position, StemPool

#: What stands before the last convolution of a block of pre-activation, once or twice.
_NORMED = ["conv", "norm", "activation"]


def blocks_of(images: Step, logits: Step) -> tuple[FoundStem, list[FoundBlock], FoundHead]:
    """What a model is made of.

    Raises:
        ModelError: it is no network of known blocks.
    """
    stem, step = _stem(images)
    blocks = []
    while not _is_head(step):
        block, step = _block(step)
        blocks.append(block)
    if not blocks:
        raise ModelError("must have blocks between its stem and its head")
    return stem, blocks, _head(step, logits)


# ---- convolutions with what follows them


def _unit(step: Step | None) -> Unit | None:
    """The convolution that a step is, with its norm and activation; None for another step."""
    if step is None or step.does != "conv":
        return None
    conv, norm, activation, end = step, None, "identity", step
    if end.next is not None and end.next.does == "norm":
        end = norm = end.next
    if end.next is not None and end.next.does == "activation":
        end = end.next
        activation = end.function
        if activation not in get_args(Activation):
            raise unknown(end)
    return Unit(conv.layer, norm and norm.layer, cast(Activation, activation), conv.where, end)


def _plain(step: Step | None, before: Step, *, normed: bool = True) -> Unit:
    """The convolution without bias and with a norm that a step must be.

    Args:
        normed: False: without one, as those are that end a block of pre-activation.
    """
    unit = _unit(step)
    if unit is None:
        raise unknown(step or _several(before))
    if (unit.norm is not None) != normed or unit.conv.bias is not None:
        has = "a norm and no bias" if normed else "no norm and no bias"
        raise ModelError(f"must have {has} at each convolution of a block, but {unit.where} has not")
    return unit


def _several(step: Step) -> Step:
    """The first of the steps that read a result, to be named."""
    return step.users[0] if step.users else step


# ---- stem


def _stem(images: Step) -> tuple[FoundStem, Step]:
    units: list[Unit] = []
    pools: list[StemPool] = []
    step = images
    while (unit := _unit(step.next)) is not None and (not units or _goes_on(unit)):
        step = unit.end
        pool = step.next
        pools.append(False)
        if pool is not None and pool.does == "max_pool":
            pools[-1] = _pool(pool)
            step = pool
        if unit.groups > 1:
            raise unknown(step)
        units.append(unit)
    if not units:
        raise unknown(_several(images))
    return FoundStem(tuple(units), tuple(pools)), step


def _goes_on(unit: Unit) -> bool:
    """Whether a convolution is one more of the stem: what follows does not make a block of it."""
    if not unit.is_dense or (unit.activation == "identity" and unit.norm is not None):
        return False
    after = _unit(unit.end.next)
    pooled = unit.end.next is not None and unit.end.next.does == "max_pool"
    return pooled or len(unit.end.users) > 1 or (after is not None and not after.is_pointwise)


def _pool(step: Step) -> StemPool:
    padding, ceil = step.layer.padding, step.layer.ceil_mode
    if (padding, ceil) not in ((1, False), (0, True)):
        raise unknown(step)
    return "ceil" if ceil else True


# ---- blocks


def _block(step: Step) -> tuple[FoundBlock, Step]:
    """The block that reads a step's result, and the step that its own result is."""
    if any(user.does == "norm" for user in step.users):
        return _preactivated(step)
    if len(step.users) == 1:
        parts = _without_sum(step)
        end = parts[-1].end if isinstance(parts[-1], Unit) else parts[-1]
        return _of_parts(parts, None, end), end
    paths = [_path(user) for user in step.users]
    sums = {path[-1] for path in paths}
    if len(paths) != 2 or len(sums) != 1:
        raise unknown(_several(step))
    end = sums.pop()
    (*shortcut, _), (*body, _) = sorted(paths, key=len)
    activation = end.next
    if activation is not None and activation.does == "activation":
        return _of_parts(_parts(body), shortcut, activation), activation
    if shortcut:
        raise unknown(shortcut[0])
    return _of_parts(_parts(body), None, end, has_sum=True), end


def _preactivated(step: Step) -> tuple[FoundBlock, Step]:
    """The block of pre-activation that reads a step's result: its norm and its activation come first."""
    entry = next(user for user in step.users if user.does == "norm")
    source = entry.next
    if source is None or source.does != "activation":
        raise unknown(_several(entry))
    # a shortcut with a convolution reads what the others read, one without it the input itself
    paths = [_path(user) for user in (*source.users, *(user for user in step.users if user is not entry))]
    if len(paths) != 2 or len({path[-1] for path in paths}) != 1:
        raise unknown(_several(source))
    (*shortcut, _), (*body, end) = sorted(paths, key=len)
    if [part.does for part in body] not in [[*_NORMED * inner, "conv"] for inner in (1, 2)]:
        raise unknown(body[0])
    units = [*(_plain(body[i], body[i]) for i in range(0, len(body) - 1, 3)), _plain(body[-1], body[-1], normed=False)]
    activations = {source.function, *(unit.activation for unit in units[:-1])}
    stride = math.prod(unit.stride for unit in units)
    if len(activations) > 1 or stride > 2:
        raise _no_block(units[0])
    common: dict[str, Any] = {
        "in_channels": units[0].inputs,
        "channels": units[-1].channels,
        "stride": stride,
        "activation": activations.pop(),
        "where": units[0].where,
        "entry": entry.layer,
    }
    return _residual(units, shortcut, common), end


def _path(step: Step) -> list[Step]:
    """The steps from one to the next sum, that included."""
    path = [step]
    while path[-1].does != "add":
        after = path[-1].next
        if after is None:
            raise unknown(_several(path[-1]))
        path.append(after)
    return path


def _parts(steps: Iterable[Step], *, normed: bool = True) -> list[Unit | Step]:
    """The convolutions of a path, and its SE units; see `_plain`."""
    parts: list[Unit | Step] = []
    end: Step | None = None
    for step in steps:
        if end is not None:  # norm and activation of the convolution before
            end = None if step is end else end
            continue
        if step.does == "se":
            parts.append(step)
            continue
        unit = _plain(step, step, normed=normed)
        parts.append(unit)
        end = None if unit.end is step else unit.end
    return parts


def _without_sum(step: Step) -> list[Unit | Step]:
    """The parts of a block that no shortcut passes by: up to the first convolution that no activation follows.

    A separable convolution has one after both.
    """
    parts: list[Unit | Step] = []
    while True:
        after = step.next
        if after is not None and after.does == "se":
            parts.append(after)
            step = after
            continue
        unit = _plain(after, step)
        parts.append(unit)
        step = unit.end
        if unit.activation == "identity" or _is_separable(parts):
            return parts


def _is_separable(parts: list[Unit | Step]) -> bool:
    units = [part for part in parts if isinstance(part, Unit)]
    return len(units) == 2 and units[0].is_depthwise and units[1].is_pointwise


def _of_parts(parts: list[Unit | Step], shortcut: list[Step] | None, end: Step, *, has_sum: bool = False) -> FoundBlock:
    """The block that these parts are.

    Args:
        shortcut: what the steps beside them are, of a sum that an activation follows; None without one.
        end: the step of the block's result.
        has_sum: whether the input is added without an activation afterwards.
    """
    units = [part for part in parts if isinstance(part, Unit)]
    attention = [(index, part) for index, part in enumerate(parts) if isinstance(part, Step)]
    if not units:
        raise unknown(end)
    first, last = units[0], units[-1]
    stride = math.prod(unit.stride for unit in units)
    if len(units) == 1 and has_sum:
        return _residual_conv(first, attention)
    inner = {unit.activation for unit in units[:-1]} | ({end.function} if shortcut is not None else set())
    is_separable = _is_separable(parts) and inner == {last.activation} != {"identity"}
    if len(inner) != 1 or not (last.activation == "identity" or is_separable) or len(units) > 3 or stride > 2:
        raise _no_block(first)
    common: dict[str, Any] = {
        "in_channels": first.inputs,
        "channels": last.channels,
        "stride": stride,
        "activation": inner.pop(),
        "where": first.where,
    }
    if attention:
        common["se"], common["position"] = _attention(attention, len(units))
    if shortcut is not None:
        return _residual(units, shortcut, common)
    if is_separable and not has_sum and last.stride == 1:
        common |= {"kernel": first.kernel, "expanded": first.channels}
        return FoundBlock(kind="separable", units=tuple(units), **common)
    keeps_shape = stride == 1 and first.inputs == last.channels
    if is_separable or (has_sum and not keeps_shape):
        raise _no_block(first)
    form = {} if has_sum or not keeps_shape else {"skip": False}
    return _inverted(units, form, common)


def _residual_conv(unit: Unit, attention: list[tuple[int, Step]]) -> FoundBlock:
    """A block of EfficientNetV2 without an expansion."""
    if not unit.is_dense or unit.stride > 1 or unit.inputs != unit.channels or unit.activation == "identity":
        raise _no_block(unit)
    # an activation ends the block: only what comes before it can make up for gates that are open at the start
    se, position = _attention(attention, 1) if attention else (None, "pre")
    return FoundBlock(
        kind="residual_conv",
        units=(unit,),
        in_channels=unit.inputs,
        channels=unit.channels,
        stride=1,
        kernel=unit.kernel,
        expanded=unit.channels,
        activation=unit.activation,
        se=se,
        position=position,
        where=unit.where,
    )


def _no_block(first: Unit) -> ModelError:
    return ModelError(f"must be made of known blocks, but what begins with {first.where} is none")


def _attention(found: list[tuple[int, Step]], convolutions: int) -> tuple[Excitation | None, Position]:
    """The SE of a block, and its place by the number of convolutions before it."""
    (before, step), *more = found
    if more or before < convolutions - 1 or before == 0:
        raise unknown((more or found)[0][1])
    return step.se, "standard" if before == convolutions else "inside"


def _inverted(units: list[Unit], form: dict[str, Any], common: dict[str, Any]) -> FoundBlock:
    """A block of MobileNetV2 or EfficientNet, perhaps fused."""
    spatial, project = units[-2:]
    if not project.is_pointwise or project.stride > 1:
        raise _no_block(units[0])
    if len(units) == 3:
        expand = units[0]
        known = expand.is_pointwise and expand.stride == 1 and spatial.is_depthwise
        form = {**form, "always_expands": True} if expand.inputs == expand.channels else form
    else:
        known = spatial.is_depthwise or spatial.is_dense
    if not known:
        raise _no_block(units[0])
    kind = "mbconv" if spatial.is_depthwise else "fused_mbconv"
    common |= {"kernel": spatial.kernel, "expanded": spatial.channels}
    return FoundBlock(kind=kind, units=tuple(units), form=form, **common)


def _residual(units: list[Unit], shortcut: list[Step], common: dict[str, Any]) -> FoundBlock:
    """A block of ResNet, RegNet or their relatives."""
    keeps_shape = common["stride"] == 1 and common["in_channels"] == common["channels"]
    form: dict[str, Any] = {"preactivation": True} if "entry" in common else {}
    beside: tuple[Unit, ...] = ()
    if shortcut:
        projected, beside = _shortcut(shortcut, common)
        form |= projected
    if keeps_shape == bool(shortcut):
        raise unknown(shortcut[0]) if shortcut else _no_block(units[0])
    if len(units) == 2:
        spatial, project = units
        if not spatial.is_dense or not project.is_dense or spatial.kernel != project.kernel or project.stride > 1:
            raise _no_block(units[0])
        kind = "basic"
    else:
        reduce, spatial, project = units
        if not reduce.is_pointwise or not project.is_pointwise or project.stride > 1:
            raise _no_block(units[0])
        kind = "bottleneck"
        if spatial.groups > 1:
            form["group_width"] = spatial.channels // spatial.groups
        if reduce.stride > 1:
            form["stride_at"] = "1x1"
        if (entry := reduce.channels / spatial.channels) != 1:
            form["entry"] = entry
    common |= {"kernel": spatial.kernel, "expanded": spatial.channels}
    return FoundBlock(kind=kind, units=(*units, *beside), form=form, **common)


def _shortcut(steps: list[Step], common: dict[str, Any]) -> tuple[dict[str, Any], tuple[Unit, ...]]:
    """The form of a shortcut with a convolution, and that convolution."""
    pooled = steps[0].does == "average_pool"
    (part, *more) = _parts(steps[1:] if pooled else steps, normed="entry" not in common) or [steps[0]]
    if more or not isinstance(part, Unit) or part.groups > 1 or part.activation != "identity":
        raise unknown(steps[0])
    stride = part.stride * (2 if pooled else 1)
    if stride != common["stride"] or part.kernel not in (1, 3) or (pooled and part.kernel != 1):
        raise unknown(steps[0])
    return ({"shortcut": "pooled"} if pooled else {"shortcut": "conv3x3"} if part.kernel == 3 else {}), (part,)


# ---- head


def _is_head(step: Step) -> bool:
    """Whether the mean follows, at once or after a 1x1 convolution."""
    step, _ = _after_norm(step)
    after = step.next
    unit = _unit(after)
    if unit is not None and unit.activation != "identity":
        after = unit.end.next
    return after is not None and after.does == "mean"


def _after_norm(step: Step) -> tuple[Step, Step | None]:
    """The activation behind a norm that reads a step's result, and the norm; the step itself where there is none."""
    norm = step.next
    if norm is None or norm.does != "norm" or norm.next is None or norm.next.does != "activation":
        return step, None
    return norm.next, norm


def _head(step: Step, logits: Step) -> FoundHead:
    unit = None
    step, norm = _after_norm(step)
    if (after := _unit(step.next)) is not None:
        unit = _plain(step.next, step)
        if not unit.is_pointwise or unit.stride > 1:
            raise unknown(step.users[0])
        step = after.end
    linears: list[Any] = []
    activations = {unit.activation} if unit is not None else set()
    activations |= {cast(Activation, step.function)} if norm is not None and unit is None else set()
    dropout = 0.0
    mean = step.next
    assert mean is not None  # `_is_head` has seen it
    step = mean
    if step is logits:
        raise ModelError("must end in a classifier, but has none")
    while step is not logits:
        after_mean = step.next
        if after_mean is None or after_mean.does not in ("conv", "linear", "activation", "dropout"):
            raise unknown(after_mean or _several(step))
        step = after_mean
        if step.does == "activation":
            if not linears or step.inputs[0].does == "activation" or step is logits:
                raise unknown(step)
            activations.add(cast(Activation, step.function))
        elif step.does == "dropout":
            if dropout:
                raise unknown(step)
            dropout = step.rate
        elif step.is_pointwise:
            linears.append(step.layer)
            if step is not logits and (step.next is None or step.next.does != "activation" or dropout):
                raise unknown(step.next or step)
        else:
            raise unknown(step)
    if not linears or len(activations) > 1 or not activations <= set(get_args(Activation)):
        raise unknown(logits)
    return FoundHead(
        unit, tuple(linears[:-1]), linears[-1], next(iter(activations), "relu"), dropout, norm and norm.layer
    )
