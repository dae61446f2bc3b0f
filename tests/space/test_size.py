"""How many networks: numbers that are too large for a float, or for Python to write out, are words like any other."""

from __future__ import annotations

import pytest

from se_nas.report.theme.words import format_size
from se_nas.space.size import exact_size, read_size, rounded_size, stored_size
from se_nas.space.yaml.file import parse_space

HUGE = 12 * 10**5999


def test_a_number_that_can_be_written_is_written() -> None:
    assert (rounded_size(105 * 10**18), exact_size(1234567)) == ("1.05e+20", "1,234,567")
    assert [read_size(stored_size(size)) for size in (1, 7**400)] == [1, 7**400]


def test_a_number_beyond_a_float_and_beyond_pythons_text_of_it_is_rounded() -> None:
    assert (rounded_size(10**400), rounded_size(HUGE)) == ("1.00e+400", "1.20e+6000")
    assert exact_size(HUGE) == stored_size(HUGE) == "1.20e+6000"
    assert read_size(stored_size(HUGE)) == HUGE
    assert format_size(HUGE) == "1.20 \u00d7 10\u2076\u2070\u2070\u2070"


@pytest.mark.parametrize("text", ["many", "1e999999999", "-3", "9" * 5000])
def test_what_is_no_number_of_networks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of networks, but got "):
        read_size(text)


def test_a_space_of_more_networks_than_a_float_holds_has_an_exact_size() -> None:
    stage = {"width": 8, "depth": 300, "kernel": [3, 5, 7], "expansion": [1, 2, 3], "se": {"options": ["none", 2]}}
    space = parse_space({"name": "big", "resolution": 8, "stem": {"width": 8}, "stages": [stage]}, "big")
    assert space.size == 18**300
    assert rounded_size(space.size) == "3.82e+376"
