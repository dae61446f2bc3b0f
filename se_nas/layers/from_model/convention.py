"""How a model computes its SE: what its hidden widths are fractions of, and what else all its units share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from se_nas.errors import ModelError
from se_nas.layers.from_model.found import FoundBlock
from se_nas.space.blocks import BLOCKS
from se_nas.space.channels import round_channels
from se_nas.space.templates import NO_SE, plain_number
from se_nas.space.vocabulary import RatioOf

_DIVISORS = (8, 1, 4, 16, 2, 32)
_RATIOS = (4, 16, 8, 2, 32, *range(1, 65))

#: What blocks have whose model has no SE: SE-ResNet's, and MobileNetV3's for blocks that expand.
_OF_RESIDUALS = {"ratio_of": "block_output", "gate": "sigmoid", "position": "standard"}
_OF_INVERTED: dict[str, Any] = {}  # the defaults of a space file


@dataclass(frozen=True)
class OwnSE:
    """SE of one block.

    Attributes:
        properties: what all its options share, as in a space file.
        own: the model's own option.
    """

    properties: dict[str, Any]
    own: float | str


def own_se(blocks: Sequence[FoundBlock], options: Sequence[float | str]) -> list[OwnSE]:
    """The SE of every block; of one without SE its properties are those of the nearest that has some.

    Args:
        options: among which ratios are looked for first.

    Raises:
        ModelError: a unit's hidden layer is wider than every channel count that it could be a fraction of.
    """
    with_se = [block for block in blocks if block.se is not None]
    shared = _shared(with_se, options)
    found: list[OwnSE | None] = [_own(block, shared) if block.se is not None else None for block in blocks]
    known = [(index, unit) for index, unit in enumerate(found) if unit is not None]
    return [unit or _borrowed(index, blocks[index], known) for index, unit in enumerate(found)]


def _borrowed(index: int, block: FoundBlock, known: Sequence[tuple[int, OwnSE]]) -> OwnSE:
    """The properties of a block without SE."""
    if known:
        properties = min(known, key=lambda entry: abs(entry[0] - index))[1].properties
    else:
        properties = _OF_RESIDUALS if BLOCKS[block.kind].expansion_of == "block_output" else _OF_INVERTED
    at = {} if block.position is None else {"position": block.position}
    return OwnSE({**properties, **at}, NO_SE)


@dataclass(frozen=True)
class _Rule:
    """A hidden width as a fraction of some channels of its block, rounded."""

    ratio_of: RatioOf
    divisor: int
    ratio: float

    def explains(self, block: FoundBlock) -> bool:
        return round_channels(_reference(block, self.ratio_of) / self.ratio, self.divisor) == _hidden(block)


def _hidden(block: FoundBlock) -> int:
    return 0 if block.se is None else int(block.se.reduce.weight.shape[0])


def _reference(block: FoundBlock, ratio_of: RatioOf) -> int:
    channels = {"block_input": block.in_channels, "expanded": block.expanded, "block_output": block.channels}
    return channels[ratio_of]


def _shared(blocks: Sequence[FoundBlock], options: Sequence[float | str]) -> _Rule | None:
    """One rule for every unit; of several the most usual for SE's place, with a ratio of `options` if it can be."""
    if not blocks:
        return None
    return next((rule for rule in _rules(blocks[0], options) if all(map(rule.explains, blocks))), None)


def _rules(block: FoundBlock, options: Sequence[float | str]) -> Iterator[_Rule]:
    given = [ratio for ratio in options if isinstance(ratio, (int, float)) and ratio >= 1]
    inside: tuple[RatioOf, ...] = ("expanded", "block_input", "block_output")
    for ratio_of in inside if block.position == "inside" else inside[::-1]:
        for divisor in _DIVISORS:
            for ratio in (*given, *_RATIOS, _reference(block, ratio_of) / _hidden(block)):
                if ratio >= 1:
                    yield _Rule(ratio_of, divisor, ratio)


def _own(block: FoundBlock, shared: _Rule | None) -> OwnSE:
    """The SE of a block that has some; without a shared rule its exact fraction of the widest channels."""
    assert block.se is not None
    assert block.position is not None
    rule = shared
    if rule is None:
        places: tuple[RatioOf, ...] = ("expanded", "block_output", "block_input")
        widest = max(places, key=lambda place: _reference(block, place))
        rule = _Rule(widest, 1, _reference(block, widest) / _hidden(block))
    if rule.ratio < 1:
        raise ModelError(f"must have SE that reduces channels, but the one behind {block.where} has {_hidden(block)}")
    properties = {
        "ratio_of": rule.ratio_of,
        "divisor": rule.divisor,
        "activation": block.se.activation,
        "gate": block.se.gate,
        "position": block.position,
    }
    return OwnSE(properties, plain_number(rule.ratio))
