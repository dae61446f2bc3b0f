"""The parts of a run's evidence by name."""

from __future__ import annotations

from dataclasses import dataclass

from se_nas.records.registry import Code


@dataclass(frozen=True)
class Part:
    """How a part is gathered, and the file that it is written to.

    Attributes:
        gather: gives what is drawn, of a `Gathering`; None where the run has nothing to show for it.
    """

    gather: Code
    file: str


def _part(function: str, file: str) -> Part:
    return Part(f"se_nas.runs.evidence.parts:{function}", file)


#: In the order in which they are gathered: what takes longest comes late.
PARTS = {
    "latency": _part("latency_part", "latency_check.json"),
    "where-se-pays": _part("where_part", "where_se_pays.json"),
    "controls": _part("controls_part", "controls.json"),
    "ranking": _part("ranking_part", "ranking.json"),
    "stability": _part("stability_part", "stability.json"),
    "ledger": _part("ledger_part", "ledger.json"),
}
