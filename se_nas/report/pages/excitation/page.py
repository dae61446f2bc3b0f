"""What SE learned as files: `excitation.html` to look at, JSON and NumPy arrays to go on with, PNGs of every plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from se_nas.errors import DataError
from se_nas.evidence.excitation import NEGLIGIBLE, Excitation, UnitStudy
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.files import write_atomic
from se_nas.records.record import write_record
from se_nas.report.pages.excitation.notes import (
    explained,
    moving,
    notes_of_all,
    notes_of_units,
    signed,
    some_share,
    working,
)
from se_nas.report.pages.excitation.numbers import FIXED, IMPORTANCE, Studied, arrays, excitation_file, importance_file
from se_nas.report.pages.render import render
from se_nas.report.pages.rows import Rows, environment_rows
from se_nas.report.plots import excitation as excitation_plots
from se_nas.report.plots import figure as plots_figure
from se_nas.report.theme.words import ABSENT, format_percent

_HEADS = ("block", "channels", "hidden", "parameters", "gate", "over images", "class-specific", "< 0.05", "> 0.95",
          "gates fixed", "without SE", "verdict")  # fmt: skip


def write_excitation(folder: Path, excitation: Excitation, studied: Studied, shown_classes: Sequence[str] = ()) -> Path:
    """Write everything into `folder`: the page, `excitation.json`, `importance.json`, `gates.npz` and `plots/`.

    Args:
        shown_classes: names of the classes whose gates are drawn; by default four, evenly spaced.

    Returns:
        The page's path.

    Raises:
        DataError: a class is not among those that were looked at, or there are too many.
        OutputError: the folder cannot be written to.
    """
    classes = _classes(excitation, shown_classes)
    figures: dict[str, Figure | plots_figure.Plot] = {
        "accuracy_lost": excitation_plots.accuracy_lost(excitation),
        **(
            {"class_gates": excitation_plots.class_gates(excitation, classes)}
            if not all(study.unit.shares_gates for study in excitation.units)
            else {}
        ),
        "class_by_depth": excitation_plots.class_by_depth(excitation),
        "by_depth": excitation_plots.by_depth(excitation),
    }
    write_record(folder / "excitation.json", excitation_file(excitation, studied))
    write_record(folder / "importance.json", importance_file(excitation, studied))
    write_atomic(folder / "gates.npz", arrays(excitation))
    for name, figure in figures.items():
        write_atomic(folder / "plots" / f"{name}.png", plots_figure.figure_png(figure))
    drawn = {name: plots_figure.figure_svg(figure, name.replace("_", "-")) for name, figure in figures.items()}
    page = render("excitation.html", title=_title(studied), page=_values(excitation, studied), figures=drawn)
    return write_atomic(folder / "excitation.html", page)


def _classes(excitation: Excitation, wanted: Sequence[str]) -> list[int]:
    """Numbers of the classes to draw."""
    counts = excitation.units[0].gates.counts
    seen = [number for number in range(len(excitation.classes)) if counts[number]]
    most = excitation_plots.SHOWN_CLASSES
    if not wanted:
        return [seen[place] for place in excitation_plots.spread_over(len(seen), most)]
    if len(wanted) > most:
        raise DataError(f"at most {most} classes can be drawn beside each other, but got {len(wanted)}")
    names = {excitation.classes[number]: number for number in seen}
    for name in wanted:
        if name not in names:
            known = ", ".join(list(names)[:10]) + (", ..." if len(names) > 10 else "")
            raise DataError(f"a class to draw must be one of the images looked at ({known}), but got {name!r}")
    return [names[name] for name in wanted]


# ---- the page


@dataclass(frozen=True)
class _Page:
    """The values of `excitation.html`.

    Attributes:
        working: how many of the `units` earn their place.
        notes, unit_notes: of the network, and of each unit that can go.
        explained: what must be said of some of the units.
        rows: a unit each, under `heads`; all but the last column are numbers.
        some_share: whether all channels of some unit have one gate.
    """

    network: str
    data: str
    working: int
    units: int
    facts: Rows
    notes: Sequence[str]
    unit_notes: Sequence[str]
    images: int
    fixed: str
    negligible: str
    explained: Sequence[str]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    drawn_channels: int
    some_share: bool
    files: Rows
    environment: Rows


def _title(studied: Studied) -> str:
    return f"What SE learned: {studied.network} on {studied.data}"


def _values(excitation: Excitation, studied: Studied) -> _Page:
    return _Page(
        network=studied.network,
        data=studied.data,
        working=working(excitation),
        units=len(excitation.units),
        facts=_summary(excitation, studied),
        notes=notes_of_all(excitation),
        unit_notes=notes_of_units(excitation),
        images=excitation.images,
        fixed=FIXED,
        negligible=format_percent(NEGLIGIBLE),
        explained=list(explained(excitation).values()),
        heads=_HEADS,
        rows=[_row(study) for study in excitation.units],
        drawn_channels=excitation_plots.CHANNELS,
        some_share=some_share(excitation),
        files=[
            ("data set", studied.data),
            ("test images", _images(excitation, studied)),
            ("classes", f"{len(excitation.classes):,}"),
            ("every number", "excitation.json; for every class and channel gates.npz"),
            ("for pruning", f"importance.json: {IMPORTANCE}"),
        ],
        environment=environment_rows(studied.environment),
    )


def _images(excitation: Excitation, studied: Studied) -> str:
    return f"{excitation.images:,} of {studied.of_images:,}"


def _summary(excitation: Excitation, studied: Studied) -> Rows:
    idle, spent = excitation.idle, sum(study.unit.parameters for study in excitation.units)
    return [
        ("accuracy", format_percent(excitation.accuracy, 2)),
        ("95 % interval", accuracy_interval(excitation.accuracy, excitation.images)),
        ("test images", _images(excitation, studied)),
        ("parameters of SE", f"{spent:,} ({format_percent(spent / excitation.parameters)})"),
        ("idle units", f"{len(idle)}"),
        ("their parameters", f"{sum(study.unit.parameters for study in idle):,}"),
    ]


def _row(study: UnitStudy) -> list[str]:
    gates, spec = study.gates, study.unit.spec
    return [
        str(study.unit.number),
        str(spec.se_channels),
        str(spec.se_hidden or ABSENT),
        f"{study.unit.parameters:,}",
        f"{gates.mean.mean():.3f}",
        f"± {moving(study):.3f}",
        *(
            ABSENT if share is None else format_percent(share)
            for share in (gates.class_share, study.closed, study.opened)
        ),
        signed(-100 * study.fixed.share),
        signed(-100 * study.removed.share),
        study.fixed.verdict,
    ]
