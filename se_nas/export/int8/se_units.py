"""The SE of a network by the numbers of their blocks, and which of them a user wants in float."""

from __future__ import annotations

from se_nas.errors import ConfigError, short
from se_nas.records.models.int8 import SEUnit
from se_nas.space.specs import NetworkSpec

ALL = "all"
OPTION = "--int8-float-se"


def se_units(network: NetworkSpec) -> tuple[SEUnit, ...]:
    """Every SE, or other attention, in order of depth; a block's number is that of drawings and tables."""
    return tuple(
        SEUnit(block=number, words=block.se.words(block.unit))
        for number, block in enumerate(network.blocks, 1)
        if block.se is not None and block.unit is not None
    )


def module_of(block: int) -> str:
    """The module of a block's SE in a `layers.network.Network`."""
    return f"blocks.{block - 1}.se"


def parse_float_se(words: str | None, network: NetworkSpec) -> tuple[int, ...]:
    """The blocks whose SE stays in float: none of None, all of "all", else numbers with commas between them.

    Raises:
        ConfigError: they are no numbers of blocks with SE, or one is named twice.
    """
    blocks = [unit.block for unit in se_units(network)]
    if words is None:
        return ()
    if words.strip() == ALL and blocks:
        return tuple(blocks)
    named = [word.strip() for word in words.split(",")]
    there = ", ".join(map(str, blocks))
    must = f"must be {ALL} or numbers of blocks with SE ({there}), such as {blocks[-1]}" if blocks else ""
    if not blocks:
        raise ConfigError(OPTION, [f"must be left out for a network without SE, but got {short(words)}"])
    for place, word in enumerate(named):
        if not (word.isascii() and word.isdigit() and len(word) < 6 and int(word) in blocks):
            raise ConfigError(OPTION, [f"{must}, but got {short(word)}"])
        if int(word) in map(int, named[:place]):
            raise ConfigError(OPTION, [f"must name a block once, but got {word} twice"])
    return tuple(sorted(map(int, named)))
