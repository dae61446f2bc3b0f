"""What a run and its evidence cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from se_nas.errors import format_seconds
from se_nas.records.models.evidence import LedgerPart, SpentEntry
from se_nas.report.pages.evidence.words import Shown
from se_nas.report.theme.words import ABSENT

_SOURCES = {"RAPL": "the processor's own counter (RAPL)", "NVML": "the GPU's own counter (NVML)"}


@dataclass(frozen=True, kw_only=True)
class Ledger(Shown):
    """The values of `ledger.html`."""

    lead: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    totals: Sequence[str]


def show_ledger(found: LedgerPart) -> Ledger:
    """What `ledger.json` says."""
    columns: list[tuple[str, Callable[[SpentEntry], float | None], Callable[[float], str]]] = [
        ("wall time", lambda part: part.seconds, _time),
        ("device time", lambda part: part.device_seconds, _time),
        ("images seen", lambda part: part.images, lambda count: f"{round(count):,}"),
        ("energy", lambda part: part.joules, _energy),
    ]
    kept = [column for column in columns if any(column[1](part) is not None for part in found.parts)]
    rows = [
        [part.part, *(ABSENT if (spent := of(part)) is None else show(spent) for _, of, show in kept)]
        for part in found.parts
    ]
    totals = [show(sum(spent for part in found.parts if (spent := of(part)) is not None)) for _, of, show in kept]
    source = found.energy_source
    return Ledger(
        lead=f"Energy by {_SOURCES.get(source, source)}." if source else "The device reports no energy.",
        heads=("part", *(words for words, *_ in kept)),
        rows=rows,
        totals=("total of what is known", *totals),
    )


def _time(seconds: float) -> str:
    return format_seconds(seconds) if seconds >= 0.01 else "0 s"


def _energy(joules: float) -> str:
    return f"{joules / 3.6e6:.3g} kWh" if joules >= 3.6e6 else f"{joules / 3600:.3g} Wh"
