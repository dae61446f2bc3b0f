"""Numbers as people read them: shares, huge counts; and the interval of a measured accuracy."""

from __future__ import annotations

import math
from decimal import Decimal

TIMES = "\u00d7"
ABSENT = "\u2013"
"""Stands where there is no number."""

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_exact(value: float) -> str:
    """A count in full with thousands separators, any other number with five significant digits."""
    return f"{round(value):,}" if value == round(value) else f"{value:.5g}"


def format_percent(share: float, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else ABSENT


def format_size(count: int) -> str:
    """A whole number, in powers of ten from a million on: 1.71 times 10²⁷."""
    if count < 10**6:
        return f"{count:,}"
    mantissa, exponent = f"{Decimal(count):.2e}".split("e")  # a float would overflow
    return f"{mantissa} {TIMES} 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
