"""How many networks a space has, in words: a number that may be too large for a float and for Python to write."""

from __future__ import annotations

import re
from decimal import Decimal

from se_nas.errors import short

#: Digits of a number that is written out.
_MOST_DIGITS = 1000


def rounded_size(size: int) -> str:
    """To three digits, as `1.05e+20`."""
    return f"{size:.3g}" if size < 10**300 else f"{Decimal(size):.2e}"


def exact_size(size: int) -> str:
    """All digits, in groups of three; of one that has too many to read, as many as `rounded_size` has."""
    return f"{size:,}" if size < 10**_MOST_DIGITS else rounded_size(size)


def stored_size(size: int) -> str:
    """As a file holds it: all digits where they can be written; `read_size` reads it back."""
    return str(size) if size < 10**_MOST_DIGITS else rounded_size(size)


def read_size(text: str) -> int:
    """See `stored_size`; ValueError where it is no such text."""
    if text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    if not re.fullmatch(r"\d\.\d\de\+\d{1,6}", text):
        raise ValueError(f"must be a number of networks, but got {short(text)}")
    return int(Decimal(text))
