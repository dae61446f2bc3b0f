"""What a network in INT8 costs and gives, in lines for whoever exports it."""

from __future__ import annotations

from se_nas.errors import counted
from se_nas.records.models.int8 import Int8Export, QuantisedNetwork


def int8_lines(found: Int8Export) -> list[str]:
    """The network in float, in INT8 as it was written, and what each SE in float would change."""
    plain, written = found.of(()), found.of(found.written)
    lines = [
        f"int8: quantised on {found.calibrated_on:,} of {found.training_images:,} training images of {found.data}, "
        f"tested on {found.tested_on:,} of {found.test_images:,} test images",
        f"float32: {_words(found.float32)}",
        f"int8: {_words(written)}{_kept(found.written)}; it finds what float does for {written.agreement:.2%} of them",
    ]
    lines += [
        f"SE of block {unit.block} ({unit.words}) in float: {change_words(plain, found.of((unit.block,)))}"
        for unit in found.units
    ]
    if len(found.units) > 1:
        lines.append(f"every SE in float: {change_words(plain, found.of(found.every_se))}")
    return lines


def change_words(plain: QuantisedNetwork, other: QuantisedNetwork) -> str:
    """What another network in INT8 has more than the one whose SE are all in INT8."""
    points = 100 * (other.accuracy - plain.accuracy)
    share = other.latency.median_ms / plain.latency.median_ms - 1
    return (
        f"{points:+.2f} points of accuracy ({counted(other.gained, 'image')} right and {other.lost:,} wrong that were "
        "not), "
        f"{100 * share:+.1f} % of the time, {other.bytes - plain.bytes:+,} bytes"
    )


def _kept(float_se: tuple[int, ...]) -> str:
    return f" with SE of {'blocks' if len(float_se) > 1 else 'block'} {', '.join(map(str, float_se))} in float" * bool(
        float_se
    )


def _words(network: QuantisedNetwork) -> str:
    return f"{network.accuracy:.2%} right, {network.latency.median_ms:.3g} ms an image, {network.bytes:,} bytes"
