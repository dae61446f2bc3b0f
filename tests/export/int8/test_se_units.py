"""Which SE a user wants in float."""

from __future__ import annotations

from dataclasses import replace

import pytest

from se_nas.errors import ConfigError
from se_nas.export.int8.se_units import module_of, parse_float_se, se_units
from se_nas.layers.network import Network
from tests.cost.latency.runtimes.networks import BLOCK, NETWORK, SHRINKING

WITHOUT = replace(BLOCK, se=None)
SPEC = replace(NETWORK, blocks=(BLOCK, WITHOUT, SHRINKING))


@pytest.mark.parametrize(("words", "blocks"), [(None, ()), ("all", (1, 3)), ("3", (3,)), ("3, 1", (1, 3))])
def test_se_is_named_by_the_number_of_its_block(words, blocks):
    assert parse_float_se(words, SPEC) == blocks
    modules = dict(Network(SPEC).named_modules())
    assert [unit.block for unit in se_units(SPEC)] == [1, 3]
    assert all(module_of(block) in modules for block in blocks)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("2", r"must be all or numbers of blocks with SE \(1, 3\), such as 3, but got '2'"),
        ("1,", "but got ''"),
        ("1,first", "but got 'first'"),
        ("3,1,3", "must name a block once, but got 3 twice"),
        ("1²", "but got '1²'"),
    ],
)
def test_what_is_no_block_with_se_is_one_line(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_float_se(words, SPEC)


def test_a_network_without_se_has_none_to_keep_in_float():
    with pytest.raises(ConfigError, match="must be left out for a network without SE, but got 'all'"):
        parse_float_se("all", replace(NETWORK, blocks=(WITHOUT,)))
