from __future__ import annotations

import pytest

from se_nas.report.theme.palette import RAMP_STEPS, attention_tone, light, rank_tone, se_tone, themed, tones


def luminance(colour: str) -> float:
    """Relative luminance as the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_light_colour_names_one_tone() -> None:
    assert len({tone.light for tone in tones().values()}) == len(tones())


@pytest.mark.parametrize("name", ["ink", "muted"])
def test_text_is_readable_on_either_paper(name: str) -> None:
    assert contrast(tones()[name].light, tones()["paper"].light) > 4.5
    assert contrast(tones()[name].dark, tones()["paper"].dark) > 4.5


@pytest.mark.parametrize("ramp", ["se", "rank"])
def test_lightness_alone_orders_a_ramp(ramp: str) -> None:
    steps = [tones()[f"{ramp}-{step}"] for step in range(RAMP_STEPS + 1)]
    in_light = [luminance(tone.light) for tone in steps]
    in_dark = [luminance(tone.dark) for tone in steps]
    assert in_light == sorted(in_light, reverse=True)
    assert in_dark == sorted(in_dark)


def test_ratios_near_each_other_keep_their_own_colours() -> None:
    names = [se_tone(ratio) for ratio in (None, 2, 3, 4, 6, 8, 12, 16, 32)]
    assert len(set(names)) == len(names)
    assert se_tone(2) == f"se-{RAMP_STEPS}"
    assert (rank_tone(0, 3), rank_tone(2, 3)) == ("rank-0", f"rank-{RAMP_STEPS}")


def test_every_option_of_se_has_a_colour() -> None:
    names = [attention_tone(option) for option in ("none", "r2", "r2.5", "r16", "eca", "ese", "spatial", "cbam16")]
    assert len(set(names)) == len(names)
    assert set(names) <= set(tones())
    assert (names[0], attention_tone("r16"), attention_tone("cbam2.5")) == ("none", se_tone(16), "attention-cbam")


def test_themed_turns_known_colours_into_variables_and_leaves_others() -> None:
    assert themed(f"fill: {light('ink')}; stroke: #123456") == f"fill: var(--ink,{light('ink')}); stroke: #123456"
