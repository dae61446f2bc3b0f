"""The parts of the evidence in the order of the page, each with the command that makes it again.

`evidence_sections` reads nothing but `evidence/*.json` in the run's folder; a part that was not made is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup, escape
from matplotlib.figure import Figure

from se_nas.records.models.evidence import ControlsPart, LatencyPart, LedgerPart, RankingPart, StabilityPart, WherePart
from se_nas.records.record import Record, read_record
from se_nas.report.pages.evidence.controls import Controls, show_controls
from se_nas.report.pages.evidence.latency import show_latency
from se_nas.report.pages.evidence.ledger import show_ledger
from se_nas.report.pages.evidence.ranking import show_ranking
from se_nas.report.pages.evidence.stability import show_stability
from se_nas.report.pages.evidence.where_se_pays import show_where_se_pays
from se_nas.report.pages.evidence.words import Claim, Shown
from se_nas.report.plots.controls import trainings
from se_nas.report.plots.figure import Plot

_P = TypeVar("_P", bound=Record)


@dataclass(frozen=True)
class Section:
    """A part of the evidence: its name, which its file, its figure and its template have, and its values."""

    name: str
    command: Markup
    values: Shown


@dataclass(frozen=True)
class EvidenceParts:
    """What `se-nas evidence` found of a run: the parts that were made, in the page's order, for `evidence.html`.

    Attributes:
        controls: what `controls.json` holds.
        searches: from how many seeds the search was run.
    """

    sections: Sequence[Section]
    controls: ControlsPart | None
    searches: int

    @property
    def figures(self) -> Mapping[str, Figure | Plot]:
        """By name, for the run's `plots/` and for the page."""
        found = {part.name: part.values.figure for part in self.sections if part.values.figure is not None}
        trained = None if self.controls is None else trainings(self.controls)
        return found if trained is None else {"trainings": trained, **found}

    @property
    def compared(self) -> Sequence[Claim]:
        """How the answer came out against its controls, in short; none where it was compared with nothing."""
        return [claim for part in self.sections if isinstance(part.values, Controls) for claim in part.values.in_short]


def evidence_sections(folder: Path, run_name: str) -> EvidenceParts:
    """The evidence in a run's folder, as sections and figures.

    Args:
        folder: the run's; its `evidence/` may be missing.
        run_name: the run's folder as a command of the page names it.

    Raises:
        ConfigError: a file is not what `se-nas evidence` writes.
    """

    def read(kind: type[_P], name: str) -> _P | None:
        path = folder / "evidence" / f"{name}.json"
        return read_record(kind, path) if path.exists() else None

    def section(kind: type[_P], name: str, option: str, show: Callable[[_P], Shown]) -> list[Section]:
        found = read(kind, name)
        command = Markup(escape(f"se-nas evidence {shlex.quote(run_name)} --part {option}"))  # with its folder
        return [] if found is None else [Section(name, command, show(found))]

    searches = read(StabilityPart, "stability")
    count = max(len(searches.answers), 1) if searches is not None else 1
    return EvidenceParts(
        [
            *section(ControlsPart, "controls", "controls", lambda found: show_controls(found, count)),
            *section(RankingPart, "ranking", "ranking", show_ranking),
            *section(StabilityPart, "stability", "stability", show_stability),
            *section(WherePart, "where_se_pays", "where-se-pays", show_where_se_pays),
            *section(LatencyPart, "latency_check", "latency", show_latency),
            *section(LedgerPart, "ledger", "ledger", show_ledger),
        ],
        controls=read(ControlsPart, "controls"),
        searches=count,
    )
