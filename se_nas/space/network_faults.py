"""What of a network that was read from a file could not be built or run, each fault with its path in the file.

A network that a search space resolves to is sound by construction; one in a file may say anything. Sizes are bounded,
so that a file is refused by what it says and not by the memory that building it would take.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from se_nas.records.bounds import (
    MOST_BLOCKS,
    MOST_CHANNELS,
    MOST_CLASSES,
    MOST_HIDDEN_LAYERS,
    MOST_KERNEL,
    MOST_PIXELS,
    MOST_STRIDE,
    MOST_WEIGHTS,
)
from se_nas.records.yaml_input import validation_problems
from se_nas.space.block_plan import block_plan, channel_fault
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.shape import FORM, BlockForm
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import Slot
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec, SESpec


def network_faults(spec: NetworkSpec) -> list[str]:
    """One line for each fault, `blocks[2].stride: what must hold, but got ...`; empty for a sound network.

    Sizes that do not fit each other are only looked for where each by itself is possible.
    """
    return list(_of_sizes(spec)) or list(_of_connections(spec)) or list(_of_weights(spec))


# ---- each size by itself


def _of_sizes(spec: NetworkSpec) -> Iterator[str]:
    yield from _within("resolution", spec.resolution, 1, MOST_PIXELS)
    yield from _within("in_channels", spec.in_channels, 1, MOST_CHANNELS)
    for path, conv in _stem(spec):
        yield from _convolution(path, conv)
    yield from _within("blocks", len(spec.blocks), 1, MOST_BLOCKS)
    for index, block in enumerate(spec.blocks):
        yield from _block(f"blocks[{index}].", block)
    yield from _head(spec.head)


def _stem(spec: NetworkSpec) -> list[tuple[str, ConvSpec]]:
    return [("stem.", spec.stem), *((f"stem_more[{i}].", conv) for i, conv in enumerate(spec.stem_more))]


def _convolution(path: str, spec: ConvSpec) -> Iterator[str]:
    yield from _within(f"{path}in_channels", spec.in_channels, 1, MOST_CHANNELS)
    yield from _within(f"{path}out_channels", spec.out_channels, 1, MOST_CHANNELS)
    yield from _kernel(f"{path}kernel", spec.kernel)
    yield from _within(f"{path}stride", spec.stride, 1, MOST_STRIDE)
    yield from _within(f"{path}resolution", spec.resolution, 1, MOST_PIXELS)


def _block(path: str, spec: BlockSpec) -> Iterator[str]:
    for name in ("in_channels", "out_channels", "expanded"):
        yield from _within(f"{path}{name}", getattr(spec, name), 1, MOST_CHANNELS)
    yield from _kernel(f"{path}kernel", spec.kernel)
    yield from _within(f"{path}stride", spec.stride, 1, MOST_STRIDE)
    yield from _within(f"{path}resolution", spec.resolution, 1, MOST_PIXELS)
    if spec.se is not None:
        yield from _squeeze_excite(f"{path}se.", spec.se)
    yield from _form(f"{path}form.", spec)


def _squeeze_excite(path: str, spec: SESpec) -> Iterator[str]:
    if not 1 <= spec.ratio <= MOST_CHANNELS:
        yield f"{path}ratio: must be from 1 to {MOST_CHANNELS:,}, but got {spec.ratio}"
    yield from _within(f"{path}divisor", spec.divisor, 1, MOST_CHANNELS)


def _form(path: str, block: BlockSpec) -> Iterator[str]:
    form, plain, kind = block.form, BlockForm(), BLOCKS[block.kind]
    for name in FORM:
        value = getattr(form, name)
        if name not in kind.options and value != getattr(plain, name):
            yield f"{path}{name}: must be left out of a block of kind {block.kind}, but got {value!r:.40}"
    yield from _within(f"{path}group_width", form.group_width, 0, MOST_CHANNELS)
    yield from _within(f"{path}groups", form.groups, 1, MOST_CHANNELS)
    yield from _within(f"{path}pool_width", form.pool_width, 0, MOST_CHANNELS)
    for index, branch in enumerate(form.branches):
        for place, width in enumerate(branch):
            yield from _within(f"{path}branches[{index}][{place}]", width, 1, MOST_CHANNELS)
    if form.own and kind.own_options is None:
        yield f"{path}own: must be left out of a block of kind {block.kind}, but got {form.own!r:.40}"
    elif kind.own_options is not None:
        try:
            block.own_options(kind.own_options)
        except ValidationError as error:
            yield from (f"{path}own.{problem}" for problem in validation_problems(error, kind.own_options))


def _head(spec: HeadSpec) -> Iterator[str]:
    yield from _within("head.in_channels", spec.in_channels, 1, MOST_CHANNELS)
    yield from _within("head.width", spec.width, 0, MOST_CHANNELS)
    yield from _within("head.hidden", spec.hidden, 0, MOST_CHANNELS)
    yield from _within("head.hidden_layers", spec.hidden_layers, 1, MOST_HIDDEN_LAYERS)
    yield from _within("head.classes", spec.classes, 1, MOST_CLASSES)
    yield from _within("head.resolution", spec.resolution, 1, MOST_PIXELS)
    if not 0 <= spec.dropout < 1:
        yield f"head.dropout: must be at least 0 and below 1, but got {spec.dropout}"


def _within(path: str, value: int, least: int, most: int) -> Iterator[str]:
    if not least <= value <= most:
        got = f"{value:,}" if abs(value) < 10**18 else f"a number of {len(str(abs(value)))} digits"
        yield f"{path}: must be from {least:,} to {most:,}, but got {got}"


def _kernel(path: str, value: int) -> Iterator[str]:
    yield from _within(path, value, 1, MOST_KERNEL)
    if 1 <= value <= MOST_KERNEL and value % 2 == 0:
        yield f"{path}: must be odd, but got {value}"


# ---- what the sizes must be to each other


def _of_connections(spec: NetworkSpec) -> Iterator[str]:
    channels, resolution, before = spec.in_channels, spec.resolution, "the images"
    for path, conv in _stem(spec):
        yield from _joined(path, conv.in_channels, conv.resolution, channels, resolution, before)
        channels, resolution, before = conv.out_channels, conv.out_resolution, "what comes before"
        if conv.pool == "ceil" and conv.conv_resolution < 2:
            yield f"{path}pool: must be of a map of at least 2x2 pixels, but it is of 1x1"
    for index, block in enumerate(spec.blocks):
        path = f"blocks[{index}]"
        yield from _joined(f"{path}.", block.in_channels, block.resolution, channels, resolution, before)
        channels, resolution, before = block.out_channels, block.out_resolution, "what comes before"
        if (fault := channel_fault(block)) is not None:
            yield f"{path}: {fault}"
        elif "expansion" not in BLOCKS[block.kind].options and block.expanded != (expanded := _unexpanded(block)):
            yield f"{path}.expanded: must be {expanded} of a block of kind {block.kind}, but got {block.expanded}"
        elif block.se_hidden > MOST_CHANNELS:
            yield f"{path}.se: must have a hidden layer of at most {MOST_CHANNELS:,}, but got {block.se_hidden:,}"
    yield from _joined("head.", spec.head.in_channels, spec.head.resolution, channels, resolution, before)


def _unexpanded(block: BlockSpec) -> int:
    """What the channels of the kxk convolution are in a kind of block that has no expansion."""
    return block.out_channels if BLOCKS[block.kind].expansion_of == "block_output" else block.in_channels


def _joined(path: str, channels: int, resolution: int, wanted: int, side: int, before: str) -> Iterator[str]:
    if channels != wanted:
        yield f"{path}in_channels: must be the {wanted} of {before}, but got {channels}"
    if resolution != side:
        yield f"{path}resolution: must be the {side} of {before}, but got {resolution}"


def _of_weights(spec: NetworkSpec) -> Iterator[str]:
    if (total := weights(spec)) > MOST_WEIGHTS:
        yield f"file: a network must have at most {MOST_WEIGHTS:,} weights, but this one has {total:,}"


def weights(spec: NetworkSpec) -> int:
    """Weights of a network, without its norms and biases."""
    ends = sum(conv.in_channels * conv.out_channels * conv.kernel**2 for conv in spec.stem_convs)
    head = spec.head
    ends += head.in_channels * head.width + head.features * head.classes + sum(a * b for a, b in head.linears)
    return ends + sum(map(block_weights, spec.blocks))


def block_weights(block: BlockSpec) -> int:
    """Weights of a block, without its norms and biases."""
    return sum(layer.weights for layer in block_plan(block).layers) + 2 * block.se_channels * max(1, block.se_hidden)


def largest_network(space: SearchSpace) -> NetworkSpec:
    """The network of a space that has the most weights: of the greatest depth, each block the largest it may be."""
    blocks = tuple(max(largest_blocks(slot), key=block_weights) for slot in space.slots)
    return space.network_of(blocks, space.stem_convs, space.head_spec)


def largest_blocks(slot: Slot) -> list[BlockSpec]:
    """Of each kind of block that a place offers, the one with the most weights."""
    return [
        max((op.block(**{**op.largest, **se}) for se in op.combinations("se", "se_position")), key=block_weights)
        for op in slot.ops
    ]
