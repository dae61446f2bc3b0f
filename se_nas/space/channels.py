"""The only place where a channel count is rounded."""

from __future__ import annotations


def round_channels(value: float, divisor: int) -> int:
    """Round a fractional channel count.

    With `divisor` 1 this is Python's `round` (half to even), at least 1, as EfficientNet's SE and NAS-Bench-Macro use.
    With a larger divisor it is the nearest multiple, at least one divisor and never more than 10 % below
    `value` (MobileNetV2/V3's rule, arXiv 1801.04381).

    Args:
        value: channels wanted, > 0.
        divisor: multiple to round to, >= 1.
    """
    if divisor == 1:
        return max(1, round(value))
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
