"""The one rounding of channel counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.space.channels import round_channels


@pytest.mark.parametrize(
    ("value", "divisor", "expected"),
    [
        (72 / 4, 8, 24),  # 16 would be more than 10 % below 18: MobileNetV3's third block
        (120 / 4, 8, 32),
        (960 / 4, 8, 240),
        (16 / 16, 8, 8),
        (20, 8, 24),  # halves go up
        (0.25, 1, 1),
        (2.5, 1, 2),  # halves go to the even neighbour: EfficientNet's
        (3.5, 1, 4),
        (16 * 0.35, 4, 8),
    ],
)
def test_published_roundings(value: float, divisor: int, expected: int) -> None:
    assert round_channels(value, divisor) == expected


@given(st.floats(0.01, 4000), st.integers(2, 16))
def test_is_a_near_multiple_and_never_far_below(value: float, divisor: int) -> None:
    rounded = round_channels(value, divisor)
    assert rounded % divisor == 0
    assert rounded >= max(divisor, 0.9 * value)
    assert rounded < value + 1.5 * divisor or rounded == divisor


@given(st.floats(0.01, 4000), st.floats(0.01, 4000), st.integers(1, 16))
def test_more_channels_never_round_to_fewer(a: float, b: float, divisor: int) -> None:
    """Which is what lets a supernet hold every hidden width as a prefix of the widest."""
    low, high = sorted((a, b))
    assert round_channels(low, divisor) <= round_channels(high, divisor)
