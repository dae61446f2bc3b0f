"""What a page says of a network that was exported in INT8: beside float, and SE by SE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from se_nas.evidence.intervals import accuracy_interval, paired_interval
from se_nas.export.record import ExportReport
from se_nas.records.models.int8 import Int8Export, QuantisedNetwork
from se_nas.records.record import read_record
from se_nas.report.theme.words import ABSENT, format_percent

REPORT = Path("export", "export.json")


@dataclass(frozen=True)
class Int8Section:
    """The section in words: networks, each accuracy with its interval, and the prices of SE in float."""

    lead: str
    networks: Sequence[Sequence[str]]
    prices: Sequence[Sequence[str]]
    verdict: str


def int8_section(retraining: Path) -> Int8Section | None:
    """Of the network in the folder of a retraining; None where it was not exported in INT8.

    Raises:
        ConfigError: the report of its export is damaged.
    """
    path = retraining / REPORT
    found = read_record(ExportReport, path).int8 if path.exists() else None
    if found is None:
        return None
    plain = found.of(())
    rows = [("float32", found.float32), ("INT8", plain)]
    if found.written:
        rows.append((f"INT8, SE of {_blocks(found.written)} in float: the file", found.of(found.written)))
    kept: list[tuple[str, tuple[int, ...]]]
    kept = [(f"block {unit.block}: {unit.words}", (unit.block,)) for unit in found.units]
    if len(kept) > 1:
        kept.append(("every SE", found.every_se))
    return Int8Section(
        lead=_lead(found),
        networks=[_network(name, network, found.tested_on) for name, network in rows],
        prices=[[name, *_price(found.of(blocks), plain, found.tested_on)] for name, blocks in kept],
        verdict=_verdict(found),
    )


def _lead(found: Int8Export) -> str:
    key = found.conditions
    return (
        f"Quantised by ONNX Runtime on {found.calibrated_on:,} training images of {found.data}; {found.how}. Tested on "
        f"{found.tested_on:,} of {found.test_images:,} test images. Latency is of one image in ONNX Runtime on "
        f"{key.device}, one thread, all networks in turns ({found.float32.latency.n} runs of each)."
    )


def _network(name: str, network: QuantisedNetwork, images: int) -> list[str]:
    return [
        name,
        f"{format_percent(network.accuracy, 2)} ({accuracy_interval(network.accuracy, images)})",
        ABSENT if network.float_se is None else format_percent(network.agreement, 2),
        f"{network.latency.median_ms:.3g} ms",
        f"{network.bytes:,}",
    ]


def _price(network: QuantisedNetwork, plain: QuantisedNetwork, images: int) -> list[str]:
    low, high = regained(network, images)
    share = network.latency.median_ms / plain.latency.median_ms - 1
    return [
        f"{100 * (network.accuracy - plain.accuracy):+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})",
        f"{100 * share:+.1f} %",
        f"{network.bytes - plain.bytes:+,}",
    ]


def regained(network: QuantisedNetwork, images: int) -> tuple[float, float]:
    """The 95 % interval of the share of images that a network has right more than the one all in INT8."""
    return paired_interval(network.gained, network.lost, images)


def _verdict(found: Int8Export) -> str:
    """What INT8 costs, and SE there, as far as these images can tell."""
    loss = regained(found.float32, found.tested_on)
    points = 100 * (found.float32.accuracy - found.of(()).accuracy)
    if loss[0] <= 0 <= loss[1]:
        words = "INT8 costs no accuracy that these images can tell from none"
    else:
        words = f"INT8 {'costs' if points > 0 else 'gains'} {abs(points):.2f} points of accuracy"
    if not found.units:
        return f"{words}; the network has no SE."
    regains = {
        blocks: regained(found.of(blocks), found.tested_on)[0] > 0
        for blocks in (*((unit.block,) for unit in found.units), found.every_se)
    }
    if broken := [block for (block, *others), clear in regains.items() if clear and not others]:
        return f"{words}; kept in float by itself, the SE of {_blocks(broken)} regains some."
    if regains[found.every_se]:
        return (
            f"{words}; no SE in float regains any by itself that shows on these images, but all together regain some."
        )
    return f"{words}, and no SE in float regains any that they can tell from none."


def _blocks(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"block {numbers[0]}"
    return f"blocks {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
