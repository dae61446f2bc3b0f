"""What the numbers of a study say, in plain words, and which convolution could take in a fixed scale."""

from __future__ import annotations

import numpy as np

from se_nas.evidence.excitation import Excitation, Loss, UnitStudy
from se_nas.evidence.gates import BINS
from se_nas.report.theme.words import format_percent
from se_nas.space.block_plan import block_plan
from se_nas.space.specs import BlockSpec

_SATURATED = 0.5
"""Share of gates in the two ends from which on a unit is called saturated."""
_ENDLESS = "Gates of relu and tanh do not end at 0 and 1, so that they saturate there is not said of them."
SHARED_GATES = "Of spatial attention, all channels have the one gate of the position, which is given for each channel."


def notes(excitation: Excitation) -> list[str]:
    """What the numbers say, in plain words: of the whole, then of each unit that does not earn its place."""
    return [*notes_of_all(excitation), *notes_of_units(excitation)]


def notes_of_all(excitation: Excitation) -> list[str]:
    """Of the network as a whole."""
    lines = []
    if working(excitation) == len(excitation.units):
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
            f"without their layers the network has {saved:,} fewer parameters "
            f"({format_percent(saved / excitation.parameters)})."
        )
    return lines


def notes_of_units(excitation: Excitation) -> list[str]:
    """Of each unit that does not earn its place."""
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
    if moving(study) < 1 / BINS / 2:
        return f"Its gates hardly move from image to image (standard deviation {moving(study):.2g}). "
    return ""


def _change(loss: Loss) -> str:
    low, high = (-100 * end for end in reversed(loss.interval))
    return f"accuracy changes by {signed(-100 * loss.share)} points (95 % interval {signed(low)} to {signed(high)})"


def working(excitation: Excitation) -> int:
    """How many units earn their place."""
    return sum(study.fixed.verdict == "works" for study in excitation.units)


def moving(study: UnitStudy) -> float:
    """Standard deviation of the gates over the images, root mean square over the channels."""
    return float(np.sqrt(np.square(study.gates.std).mean()))


def signed(value: float) -> str:
    """With two digits and its sign; what rounds to none has no sign."""
    return f"{value:+.2f}" if round(value, 2) else "0.00"


# ---- what must be said of some units


def explained(excitation: Excitation) -> dict[str, str]:
    """What must be said of some of the units."""
    endless = not all(study.unit.may_saturate for study in excitation.units)
    return {
        **({"shared_gates": SHARED_GATES} if some_share(excitation) else {}),
        **({"saturation": _ENDLESS} if endless else {}),
    }


def some_share(excitation: Excitation) -> bool:
    """Whether all channels of some unit have the one gate of the position."""
    return any(study.unit.shares_gates for study in excitation.units)
