"""What SE learned as files: `excitation.html` to look at, JSON and NumPy arrays to go on with, PNGs of every plot."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from se_nas.errors import DataError
from se_nas.evidence.excitation import NEGLIGIBLE, Excitation, Loss, UnitStudy
from se_nas.evidence.gates import BINS, Values
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.files import write_atomic, write_json
from se_nas.report.pages.parts import environment_rows, pairs, plot_section, section, text, whole_page
from se_nas.report.plots import excitation as excitation_plots
from se_nas.report.plots import figure as plots_figure
from se_nas.report.theme.words import ABSENT, format_percent
from se_nas.space.block_plan import block_plan
from se_nas.space.specs import BlockSpec

_FIXED = "the mean of the gate over these very images (their classes are not used), channel by channel"
_IMPORTANCE = (
    "root mean square of the channel behind its SE, over images and positions, as a share of the sum over the channels"
)
_TABLE_WORDS = (
    "Gate: mean over images and channels, and how far it moves over images (standard deviation). Changes of accuracy "
    "are in points. An SE works where fixed gates lose accuracy, is idle where they do not, and is unclear where the "
    "images are too few to tell."
)
_SATURATED = 0.5
"""Share of gates in the two ends from which on a unit is called saturated."""
_ENDLESS = "Gates of relu and tanh do not end at 0 and 1, so that they saturate there is not said of them."
_SHARED = "Of spatial attention, all channels have the one gate of the position, which is given for each channel."


@dataclass(frozen=True)
class Studied:
    """What was looked at.

    Attributes:
        network: the name of its space.
        data: the name of the data set.
        of_images: how many test images there are, of which some or all were looked at.
        environment: see `training.environment.describe_environment`.
    """

    network: str
    data: str
    of_images: int
    environment: Mapping[str, Any]


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
    figures = {
        "accuracy_lost": excitation_plots.accuracy_lost(excitation),
        **({"class_gates": excitation_plots.class_gates(excitation, classes)} if _has_channels(excitation) else {}),
        "class_by_depth": excitation_plots.class_by_depth(excitation),
        "by_depth": excitation_plots.by_depth(excitation),
    }
    head = {"version": 1, "network": studied.network, "data": studied.data, "images": excitation.images}
    tail = {"environment": studied.environment}
    write_json(folder / "excitation.json", {"format": "se_nas excitation", **head, **_facts(excitation), **tail})
    importance = {"format": "se_nas channel importance", **head, **_importance(excitation), **tail}
    write_json(folder / "importance.json", importance)
    write_atomic(folder / "gates.npz", _arrays(excitation))
    for name, figure in figures.items():
        write_atomic(folder / "plots" / f"{name}.png", plots_figure.figure_png(figure))
    inline = {name: plots_figure.figure_svg(figure, name.replace("_", "-")) for name, figure in figures.items()}
    return write_atomic(folder / "excitation.html", _page(excitation, studied, inline))


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


# ---- files to go on with


def _facts(excitation: Excitation) -> dict[str, Any]:
    return {
        "classes": list(excitation.classes),
        "parameters": excitation.parameters,
        "accuracy": excitation.accuracy,
        "fixed_gate": _FIXED,
        **_explained(excitation),
        "blocks": [_block(study, excitation) for study in excitation.units],
        "idle_together": excitation.together.to_dict() if excitation.together else None,
        "notes": notes(excitation),
    }


def _block(study: UnitStudy, excitation: Excitation) -> dict[str, Any]:
    gates, spec = study.gates, study.unit.spec
    by_class = dict(zip(excitation.classes, zip(gates.class_mean, gates.class_distance, strict=True), strict=True))
    return {
        "block": study.unit.number,
        "se": study.unit.name,
        "position": study.unit.attention.position,
        "channels": spec.se_channels,
        "one_gate_for_all_channels": study.unit.shares_gates,
        "hidden": spec.se_hidden,
        "resolution": spec.se_resolution,
        "parameters": study.unit.parameters,
        "gate_mean": float(gates.mean.mean()),
        "gate_std_over_images": _moving(study),
        "gate_std_over_channels": float(gates.mean.std()),
        "class_share": gates.class_share,
        "below_0.05": study.closed,
        "above_0.95": study.opened,
        "entropy": gates.entropy,
        "histogram": _rounded(gates.histogram),
        "fixed": study.fixed.to_dict(),
        "removed": study.removed.to_dict(),
        "verdict": study.fixed.verdict,
        "channel_mean": _rounded(gates.mean),
        "channel_std": _rounded(gates.std),
        "classes": {
            name: {"gate_mean": round(float(mean.mean()), 6), "distance": round(float(distance), 6)}
            for name, (mean, distance) in by_class.items()
            if np.isfinite(distance)
        },
    }


def _importance(excitation: Excitation) -> dict[str, Any]:
    """What a pruner needs: for each unit its channels, and which of them to take away first."""
    blocks = []
    for study in excitation.units:
        rms, total = study.gates.rms, float(study.gates.rms.sum())
        blocks.append(
            {
                "block": study.unit.number,
                "se": study.unit.name,
                "position": study.unit.attention.position,
                "one_gate_for_all_channels": study.unit.shares_gates,
                "importance": _rounded(rms / total if total else rms, 8),
                "least_first": np.argsort(rms, kind="stable").tolist(),
                "rms": _rounded(rms),
                "gate_mean": _rounded(study.gates.mean),
            }
        )
    shared = {"shared_gates": _SHARED} if _some_share(excitation) else {}
    return {"importance": _IMPORTANCE, **shared, "blocks": blocks}


def _explained(excitation: Excitation) -> dict[str, str]:
    """What must be said of some of the units."""
    endless = not all(study.unit.may_saturate for study in excitation.units)
    return {
        **({"shared_gates": _SHARED} if _some_share(excitation) else {}),
        **({"saturation": _ENDLESS} if endless else {}),
    }


def _some_share(excitation: Excitation) -> bool:
    return any(study.unit.shares_gates for study in excitation.units)


def _has_channels(excitation: Excitation) -> bool:
    """Whether the channels of some unit have gates of their own."""
    return not all(study.unit.shares_gates for study in excitation.units)


def _arrays(excitation: Excitation) -> bytes:
    """Mean and deviation of the gates for every class and channel, too many numbers for JSON."""
    arrays: dict[str, Any] = {"classes": np.array(excitation.classes), "images": excitation.units[0].gates.counts}
    for study in excitation.units:
        arrays[f"{study.unit.name}.class_mean"] = study.gates.class_mean.astype(np.float32)
        arrays[f"{study.unit.name}.class_std"] = study.gates.class_std.astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _rounded(values: Values, digits: int = 6) -> list[float]:
    return [round(value, digits) for value in values.tolist()]


def _moving(study: UnitStudy) -> float:
    """Standard deviation of the gates over the images, root mean square over the channels."""
    return float(np.sqrt(np.square(study.gates.std).mean()))


# ---- plain words


def notes(excitation: Excitation) -> list[str]:
    """What the numbers say, in plain words: of the whole, then of each unit that does not earn its place."""
    return [*_of_all(excitation), *_of_units(excitation)]


def _of_all(excitation: Excitation) -> list[str]:
    lines = []
    if _working(excitation) == len(excitation.units):
        lines.append("Every SE earns its place: with fixed gates each of them loses accuracy.")
    shares = {study.unit.number: study.gates.class_share or 0.0 for study in excitation.units}
    if len(shares) > 1:
        least, most = min(shares, key=lambda n: shares[n]), max(shares, key=lambda n: shares[n])
        lines.append(
            f"The gates are least class-specific in block {least} (classes explain {format_percent(shares[least])} of "
            f"their variance) and most in block {most} ({format_percent(shares[most])})."
        )
    if excitation.together is not None:
        saved = sum(_saved(study) for study in excitation.idle)
        lines.append(
            f"With fixed gates in all {len(excitation.idle)} idle units at once, {_change(excitation.together)}; "
            f"without their layers the network has {saved:,} parameters less "
            f"({format_percent(saved / excitation.parameters)})."
        )
    return lines


def _of_units(excitation: Excitation) -> list[str]:
    return [_note(study, excitation) for study in excitation.units if study.fixed.verdict != "works"]


def _note(study: UnitStudy, excitation: Excitation) -> str:
    words = f"Block {study.unit.number}: with its gates fixed at their mean, {_change(study.fixed)}"
    if study.fixed.verdict == "unclear":
        return f"{words}: {excitation.images:,} images are too few to tell whether this SE does anything."
    words += f", so this SE does nothing that a fixed scale would not do. {_behaviour(study)}It can be dropped: "
    if study.removed.verdict == "idle":
        return f"{words}left out whole, which saves {_share(study.unit.parameters, excitation)}."
    taker = takes_scale(study.unit.spec)
    where = f"goes into {taker}" if taker else "stays, as a fixed scale that no convolution of the block can take in"
    return f"{words}its mean gate {where}, which saves {_share(_saved(study), excitation)}."


def takes_scale(spec: BlockSpec) -> str | None:
    """Which convolution of a block takes in a fixed scale in place of its SE, in words; None where there is none."""
    assert spec.se is not None
    plan, position = block_plan(spec), spec.se.position
    if position == "inside" and plan.last is not None:
        return "the convolution behind it"
    if position == "identity" and plan.shortcut is not None:
        return "the convolution of the shortcut"
    if position == "pre":  # a shortcut reads what was there before SE
        through_maximum = plan.entry_pool or any(branch.pool == "max" for branch in plan.branches)
        if through_maximum and spec.se.gate == "tanh":  # a scale below 0 would make it a minimum
            return None
        if plan.branches:
            return "the convolutions behind it" if all(branch.layers for branch in plan.branches) else None
        return "the convolution behind it" if plan.body or plan.last else None
    alone = position == "standard" or (position == "post" and plan.skip == "none")
    if alone and plan.last is not None and not plan.last.activation:
        return "the convolution before it"
    return None


def _saved(study: UnitStudy) -> int:
    """Parameters that fixed gates in place of a unit save: all, but for a scale that must stay."""
    stays = 0 if takes_scale(study.unit.spec) else 1 if study.unit.shares_gates else study.unit.spec.se_channels
    return max(study.unit.parameters - stays, 0)  # ECA has fewer than a scale has


def _share(parameters: int, excitation: Excitation) -> str:
    return f"{parameters:,} parameters ({format_percent(parameters / excitation.parameters)})"


def _behaviour(study: UnitStudy) -> str:
    """What is odd about the gates, as a sentence; empty where nothing is."""
    gates = study.gates
    ends = [(gates.opened, "above 0.95"), (gates.closed, "below 0.05")]
    if study.unit.may_saturate and gates.opened + gates.closed >= _SATURATED:
        told = " and ".join(f"{format_percent(share, 0)} {where}" for share, where in ends if share >= 0.005)
        return f"It saturates: of its gates {told}. "
    if _moving(study) < 1 / BINS / 2:
        return f"Its gates hardly move from image to image (standard deviation {_moving(study):.2g}). "
    return ""


def _change(loss: Loss) -> str:
    low, high = (-100 * end for end in reversed(loss.interval))
    return f"accuracy changes by {_signed(-100 * loss.share)} points (95 % interval {_signed(low)} to {_signed(high)})"


def _signed(value: float) -> str:
    """With two digits and its sign; what rounds to none has no sign."""
    return f"{value:+.2f}" if round(value, 2) else "0.00"


# ---- the page


def _page(excitation: Excitation, studied: Studied, figures: Mapping[str, str]) -> str:
    body = [
        _headline(excitation, studied),
        _unit_notes(excitation),
        plot_section(figures, "accuracy_lost", "What each SE is worth", _lost_words(excitation)),
        section(
            "Every unit",
            " ".join([_TABLE_WORDS, *_explained(excitation).values()]),
            f'<div class="wide">{_table(excitation)}</div>',
        ),
        _class_gates(figures, excitation),
        plot_section(
            figures,
            "class_by_depth",
            "Classes by depth",
            "Root mean square over the channels of how far the mean gates of a class are from those of all images.",
        ),
        plot_section(
            figures,
            "by_depth",
            "Depth",
            "The variance that classes explain is of all channels of a block together, corrected for chance (epsilon "
            "squared).",
        ),
        section(
            "Provenance",
            "",
            f'<div class="columns"><div><h3>Data</h3>{pairs(_data(excitation, studied))}</div>'
            f"<div><h3>Machine and versions</h3>{pairs(environment_rows(studied.environment))}</div></div>",
        ),
    ]
    return whole_page(f"What SE learned: {studied.network} on {studied.data}", body)


def _headline(excitation: Excitation, studied: Studied) -> str:
    idle, units = excitation.idle, excitation.units
    spent = sum(study.unit.parameters for study in units)
    words = (
        f"of {len(units)} SE units earn{'s' * (_working(excitation) == 1)} "
        f"{'its' if _working(excitation) == 1 else 'their'} place: with gates that no longer look at the image the "
        "network would be less accurate"
    )
    facts = [
        ("accuracy", format_percent(excitation.accuracy, 2)),
        ("95 % interval", accuracy_interval(excitation.accuracy, excitation.images)),
        ("test images", f"{excitation.images:,} of {studied.of_images:,}"),
        ("parameters of SE", f"{spent:,} ({format_percent(spent / excitation.parameters)})"),
        ("idle units", f"{len(idle)}"),
        ("their parameters", f"{sum(study.unit.parameters for study in idle):,}"),
    ]
    shown = "".join(f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>" for key, value in facts)
    return (
        f'<header><div class="eyebrow">se_nas · what SE learned · {text(studied.data)}</div>'
        f"<h1>{text(studied.network)}</h1>"
        f'<div class="headline"><div><div class="figure">{_working(excitation)}</div>'
        f'<p class="quiet">{words}</p></div><div>{_list(_of_all(excitation))}</div></div>'
        f'<dl class="facts">{shown}</dl></header>\n'
    )


def _working(excitation: Excitation) -> int:
    return sum(study.fixed.verdict == "works" for study in excitation.units)


def _list(lines: Iterable[str]) -> str:
    return "".join(f"<p>{text(line)}</p>" for line in lines)


def _unit_notes(excitation: Excitation) -> str:
    lines = _of_units(excitation)
    return section("Which SE can go", "", _list(lines)) if lines else ""


def _class_gates(figures: Mapping[str, str], excitation: Excitation) -> str:
    words = (
        f"Mean gate of each channel, at most {excitation_plots.CHANNELS} of a block evenly spaced, for images of "
        "one class each, and for all images (grey). Where the lines lie on each other the gates are shared by all "
        "classes."
    )
    words += " Spatial attention is left out: its gates are of positions." if _some_share(excitation) else ""
    return plot_section(figures, "class_gates", "Gates by class", words)


def _lost_words(excitation: Excitation) -> str:
    return (
        f"Accuracy lost on the same {excitation.images:,} images. Gates fixed: each gate replaced by {_FIXED}; nothing "
        "is trained again. An SE is idle where 0 lies in the 95 % interval, or above it, and losses above "
        f"{format_percent(NEGLIGIBLE)} do not."
    )


def _table(excitation: Excitation) -> str:
    names = ("block", "channels", "hidden", "parameters", "gate", "over images", "class-specific", "&lt; 0.05",
             "&gt; 0.95", "gates fixed", "without SE")  # fmt: skip
    rows = ""
    for study in excitation.units:
        gates, spec = study.gates, study.unit.spec
        share = gates.class_share
        cells = (
            study.unit.number,
            spec.se_channels,
            spec.se_hidden or ABSENT,
            f"{study.unit.parameters:,}",
            f"{gates.mean.mean():.3f}",
            f"± {_moving(study):.3f}",
            ABSENT if share is None else format_percent(share),
            *(ABSENT if end is None else format_percent(end) for end in (study.closed, study.opened)),
            _signed(-100 * study.fixed.share),
            _signed(-100 * study.removed.share),
        )
        rows += "<tr>" + "".join(f'<td class="n">{text(cell)}</td>' for cell in cells)
        rows += f"<td>{study.fixed.verdict}</td></tr>"
    head = "".join(f'<th class="n">{name}</th>' for name in names)
    return f"<table><tr>{head}<th>verdict</th></tr>{rows}</table>"


def _data(excitation: Excitation, studied: Studied) -> list[tuple[str, object]]:
    return [
        ("data set", studied.data),
        ("test images", f"{excitation.images:,} of {studied.of_images:,}"),
        ("classes", f"{len(excitation.classes):,}"),
        ("every number", "excitation.json; for every class and channel gates.npz"),
        ("for pruning", f"importance.json: {_IMPORTANCE}"),
    ]
