"""What SE learned as numbers to go on with: `excitation.json`, `importance.json` for pruning, and `gates.npz`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from se_nas.evidence.excitation import Excitation, UnitStudy
from se_nas.evidence.gates import Values
from se_nas.records.models.environment import Environment
from se_nas.records.models.excitation import ClassGates, ExcitationFile, ImportanceFile, UnitGates, UnitImportance
from se_nas.report.pages.excitation.notes import SHARED_GATES, explained, moving, notes, some_share

FIXED = "the mean of the gate over these very images (their classes are not used), channel by channel"
IMPORTANCE = (
    "root mean square of the channel behind its SE, over images and positions, as a share of the sum over the channels"
)


@dataclass(frozen=True)
class Studied:
    """What was looked at.

    Attributes:
        network: the name of its space.
        data: the name of the data set.
        of_images: how many test images there are, of which some or all were looked at.
        environment: what it was looked at with.
    """

    network: str
    data: str
    of_images: int
    environment: Environment


def excitation_file(excitation: Excitation, studied: Studied) -> ExcitationFile:
    """Every number of `excitation.json`, and the notes."""
    return ExcitationFile(
        network=studied.network,
        data=studied.data,
        images=excitation.images,
        classes=excitation.classes,
        parameters=excitation.parameters,
        accuracy=excitation.accuracy,
        fixed_gate=FIXED,
        blocks=tuple(_unit_gates(study, excitation) for study in excitation.units),
        idle_together=excitation.together.entry if excitation.together else None,
        notes=tuple(notes(excitation)),
        environment=studied.environment,
        **explained(excitation),
    )


def _unit_gates(study: UnitStudy, excitation: Excitation) -> UnitGates:
    gates, spec = study.gates, study.unit.spec
    by_class = dict(zip(excitation.classes, zip(gates.class_mean, gates.class_distance, strict=True), strict=True))
    return UnitGates(
        block=study.unit.number,
        se=study.unit.name,
        position=study.unit.attention.position,
        channels=spec.se_channels,
        one_gate_for_all_channels=study.unit.shares_gates,
        hidden=spec.se_hidden,
        resolution=spec.se_resolution,
        parameters=study.unit.parameters,
        gate_mean=float(gates.mean.mean()),
        gate_std_over_images=moving(study),
        gate_std_over_channels=float(gates.mean.std()),
        class_share=gates.class_share,
        closed=study.closed,
        opened=study.opened,
        entropy=gates.entropy,
        histogram=_rounded(gates.histogram),
        fixed=study.fixed.entry,
        removed=study.removed.entry,
        verdict=study.fixed.verdict,
        channel_mean=_rounded(gates.mean),
        channel_std=_rounded(gates.std),
        classes={
            name: ClassGates(gate_mean=round(float(mean.mean()), 6), distance=round(float(distance), 6))
            for name, (mean, distance) in by_class.items()
            if np.isfinite(distance)
        },
    )


def importance_file(excitation: Excitation, studied: Studied) -> ImportanceFile:
    """What a pruner needs: for each unit its channels, and which of them to take away first."""
    shared = {"shared_gates": SHARED_GATES} if some_share(excitation) else {}
    return ImportanceFile(
        network=studied.network,
        data=studied.data,
        images=excitation.images,
        importance=IMPORTANCE,
        blocks=tuple(_unit_importance(study) for study in excitation.units),
        environment=studied.environment,
        **shared,
    )


def _unit_importance(study: UnitStudy) -> UnitImportance:
    rms, total = study.gates.rms, float(study.gates.rms.sum())
    return UnitImportance(
        block=study.unit.number,
        se=study.unit.name,
        position=study.unit.attention.position,
        one_gate_for_all_channels=study.unit.shares_gates,
        importance=_rounded(rms / total if total else rms, 8),
        least_first=tuple(np.argsort(rms, kind="stable").tolist()),
        rms=_rounded(rms),
        gate_mean=_rounded(study.gates.mean),
    )


def arrays(excitation: Excitation) -> bytes:
    """Mean and deviation of the gates for every class and channel, too many numbers for JSON."""
    arrays: dict[str, Any] = {"classes": np.array(excitation.classes), "images": excitation.units[0].gates.counts}
    for study in excitation.units:
        arrays[f"{study.unit.name}.class_mean"] = study.gates.class_mean.astype(np.float32)
        arrays[f"{study.unit.name}.class_std"] = study.gates.class_std.astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _rounded(values: Values, digits: int = 6) -> tuple[float, ...]:
    return tuple(round(value, digits) for value in values.tolist())
