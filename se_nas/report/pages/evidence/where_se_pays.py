"""What each option of SE is worth in each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from se_nas.cost.metrics import METRICS, device_of, is_latency
from se_nas.records.models.evidence import BlockGains, GainEntry, StandAloneGain, WherePart
from se_nas.report.pages.evidence.words import Shown, Table, block_cell, ends_words
from se_nas.report.plots import where_se_pays
from se_nas.report.plots.evidence import points
from se_nas.report.plots.where_se_pays import excludes_zero
from se_nas.report.theme.words import ABSENT, TIMES

_HEADS = ("block", "channels", "map", "chosen", "its gain in points", "parameters", "MACs")
_LAST_HEADS = ("best", "its gain in points")
_ALONE_HEADS = ("block", "option", "gain (points)", "95 % interval", "n")


@dataclass(frozen=True, kw_only=True)
class WhereSePays(Shown):
    """The values of `where_se_pays.html`; `by_chance` is how many useless options would seem of use."""

    images: int
    contexts: int
    options: int
    gains: int
    losses: int
    by_chance: str
    blocks: Table
    stand_alone: Table


def show_where_se_pays(found: WherePart) -> WhereSePays:
    """What `where_se_pays.json` says."""
    blocks = [block for block in found.blocks if block.options]
    options = [option for block in blocks for option in block.options]
    sure = [option.gain for option in options if option.gain is not None and excludes_zero(option.low, option.high)]
    expected = 0.05 * len(options)
    latencies = [m for m in METRICS.listed(name for option in options for name in option.plain()) if is_latency(m)]
    micros = [f"µs on {device}" if (device := device_of(metric)) else "µs" for metric in latencies]
    return WhereSePays(
        figure=where_se_pays.where_se_pays(blocks) if blocks else None,
        images=found.images,
        contexts=found.contexts,
        options=len(options),
        gains=sum(gain > 0 for gain in sure),
        losses=sum(gain < 0 for gain in sure),
        by_chance=f"{expected:.0f}" if expected >= 1 else f"{expected:.1g}",
        blocks=Table(
            (*_HEADS, *micros, *_LAST_HEADS),
            [_block_row(block, latencies) for block in blocks],
            (1, 2, *range(4, len(_HEADS) + len(micros)), len(_HEADS) + len(micros) + 1),
        ),
        stand_alone=Table(_ALONE_HEADS, [_alone_row(one) for one in found.stand_alone], (2, 3, 4)),
    )


def _block_row(block: BlockGains, latencies: Sequence[str]) -> Sequence[str]:
    gaining = [(option.gain, option) for option in block.options if option.gain is not None and option.gain > 0]
    best = max(gaining, key=lambda pair: pair[0])[1] if gaining else None
    known = (option for option in block.options if option.gain is not None)
    chosen = next((option for option in known if option.option == block.chosen), None)
    return [
        block_cell(block.block),
        str(block.channels),
        f"{block.resolution} {TIMES} {block.resolution}".replace(" ", "\N{NO-BREAK SPACE}"),
        "unused" if block.chosen is None else block.chosen,
        _gain(chosen),
        *_price_cells(chosen, latencies),
        block.reference if best is None else best.option,
        _gain(best),
    ]


def _gain(option: GainEntry | None) -> str:
    if option is None or option.gain is None:
        return ABSENT
    interval = "" if option.low is None else f" ({ends_words(option.low, option.high, points)})"
    return f"{points(option.gain)}{interval}"


def _price_cells(option: GainEntry | None, latencies: Sequence[str]) -> list[str]:
    if option is None:
        return [ABSENT] * (2 + len(latencies))
    counts = [ABSENT if count is None else f"{round(count):+,}" for count in (option.params, option.macs)]
    added = [option.of(metric) for metric in latencies]
    return [*counts, *(ABSENT if ms is None else f"{1000 * ms:+.1f}" for ms in added)]


def _alone_row(one: StandAloneGain) -> Sequence[str]:
    gain = ABSENT if one.value is None else points(one.value)
    return [block_cell(one.block), one.option, gain, ends_words(one.low, one.high, points), str(one.n)]
