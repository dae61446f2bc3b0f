from __future__ import annotations

from dataclasses import replace

import pytest

from se_nas.errors import ConfigError
from se_nas.evidence.se_by_runtime import CLEAR, se_by_runtime, share_ranks
from tests.cost.latency.fake_clock import build, tiny_space


def table_whose(tmp_path, *, se_ms, space=None):
    """Blocks of 1 ms and an hundredth of a millisecond a channel, and what SE adds."""
    table = build(tmp_path, space=space or tiny_space())
    ms = {block: 1 + block.expanded / 100 + (se_ms(block) if block.se else 0.0) for block in table.block_ms}
    return replace(table, block_ms=ms)


@pytest.fixture
def blocks(tmp_path):
    cheap = table_whose(tmp_path, se_ms=lambda block: 0.1)
    dear = table_whose(tmp_path, se_ms=lambda block: 0.1 * block.out_channels)
    return se_by_runtime({"phone": cheap, "server": dear})


def test_the_share_of_se_is_what_the_same_blocks_without_it_do_not_take(blocks):
    first, second = blocks  # of 8 and 16 channels, expanded by 1 and 2
    bare = [1 + channels / 100 for channels in (8, 16)]
    assert first.shares["phone"] == pytest.approx(0.2 / (sum(bare) + 0.2))
    assert first.shares["server"] == pytest.approx(1.6 / (sum(bare) + 1.6))
    assert second.shares["server"] == pytest.approx(3.2 / (sum(bare) + 3.2))
    assert first.spread == pytest.approx(first.shares["server"] - first.shares["phone"])


def test_places_whose_blocks_are_the_same_are_one_and_the_others_are_in_order(blocks):
    assert [block.places for block in blocks] == [("stage1.block1", "stage1.block2"), ("stage2.block1",)]


@pytest.mark.parametrize(("gain", "swapped"), [(2 * CLEAR, [("none", "r2")]), (CLEAR / 2, [])])
def test_options_swap_where_each_is_clearly_slower_in_one_runtime(tmp_path, gain, swapped):
    slower = table_whose(tmp_path, se_ms=lambda block: 0.5)
    faster = table_whose(tmp_path, se_ms=lambda block: -gain * (1 + block.expanded / 100))
    first, *_ = se_by_runtime({"slower": slower, "faster": faster})
    assert first.swapped == swapped


def test_ranks_of_the_shares_are_compared_over_three_blocks_at_least(blocks):
    assert share_ranks(blocks, "phone", "server") == 0.0
    more = [replace(blocks[0], shares={"phone": x, "server": -x}) for x in (0.1, 0.2, 0.4)]
    assert share_ranks(more, "phone", "server") == pytest.approx(-1)


def test_tables_of_two_spaces_are_not_compared(tmp_path):
    one = table_whose(tmp_path, se_ms=lambda block: 0.1)
    other = table_whose(tmp_path, se_ms=lambda block: 0.1, space=tiny_space(width=16))
    with pytest.raises(ConfigError, match="must be of one space to be compared, but are of tiny"):
        se_by_runtime({"phone": one, "server": other})
