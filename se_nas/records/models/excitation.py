"""What `excitation.json` and `importance.json` hold; `report.pages.excitation.numbers` makes them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, PositiveInt

from se_nas.records.fields import Count, Interval, Number, Share
from se_nas.records.models.environment import Environment
from se_nas.records.record import Record

Verdict = Literal["works", "idle", "unclear"]


class LossEntry(Record):
    """Accuracy that a change of the network costs; `worse` and `better` are images."""

    accuracy_lost: Number
    ci95: Interval
    worse: Count
    better: Count


class ClassGates(Record):
    """Of one class: the mean gate, and how far its gates are from those of all images."""

    gate_mean: Number
    distance: Number


class StudiedUnit(Record):
    """One SE; files of before spatial attention do not say whether it has `one_gate_for_all_channels`."""

    block: PositiveInt
    se: str
    position: str
    one_gate_for_all_channels: bool | None = None


class UnitGates(StudiedUnit):
    """The gates of one SE, and what they are worth; `closed` and `opened` are None where gates have no such end."""

    model_config = ConfigDict(populate_by_name=True)

    channels: PositiveInt
    hidden: Count | None
    resolution: PositiveInt | None
    parameters: Count
    gate_mean: Number
    gate_std_over_images: Number
    gate_std_over_channels: Number
    class_share: Number | None
    closed: Share | None = Field(alias="below_0.05")
    opened: Share | None = Field(alias="above_0.95")
    entropy: Number
    histogram: tuple[Number, ...]
    fixed: LossEntry
    removed: LossEntry
    verdict: Verdict
    channel_mean: tuple[Number, ...]
    channel_std: tuple[Number, ...]
    classes: dict[str, ClassGates]


class UnitImportance(StudiedUnit):
    """The channels of one SE, and which of them to take away first."""

    importance: tuple[Number, ...]
    least_first: tuple[Count, ...]
    rms: tuple[Number, ...]
    gate_mean: tuple[Number, ...]


class _OfNetwork(Record):
    """Of which network, on which images, and with what; files of before it was written down have no environment."""

    network: str
    data: str
    images: PositiveInt
    environment: Environment | None = None


class ExcitationFile(_OfNetwork):
    """`excitation.json`."""

    format: Literal["se_nas excitation"] = "se_nas excitation"
    version: Literal[1] = 1
    classes: tuple[str, ...]
    parameters: Count
    accuracy: Share
    fixed_gate: str
    shared_gates: str | None = None
    saturation: str | None = None
    blocks: tuple[UnitGates, ...]
    idle_together: LossEntry | None
    notes: tuple[str, ...]


class ImportanceFile(_OfNetwork):
    """`importance.json`."""

    format: Literal["se_nas channel importance"] = "se_nas channel importance"
    version: Literal[1] = 1
    importance: str
    shared_gates: str | None = None
    blocks: tuple[UnitImportance, ...]
