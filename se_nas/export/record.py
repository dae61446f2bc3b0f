"""What `export.json` holds."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, PositiveInt

from se_nas.records.fields import Count, Number, Share
from se_nas.records.models.certificate import LatencyConditions, Timing
from se_nas.records.models.environment import Environment
from se_nas.records.models.int8 import Int8Export
from se_nas.records.record import Record
from se_nas.training.trained_network import DataCard


class ExportedNetwork(Record):
    """The network, the same in every form."""

    space: str
    resolution: PositiveInt
    channels: PositiveInt
    classes: PositiveInt
    params: Count
    macs: Count
    weights_sha256: str


class Normalisation(Record):
    """What a network's images went through: (pixel / 255 - mean) / std, channel by channel, after resizing.

    Attributes:
        resolution: side of the square that the network was tested on, in pixels.
        crop: that side over the shorter one that an image is resized to first; the square is its centre.
        interpolation: how it is resized, in timm's words.
        class_names: in the order of the network's outputs.
    """

    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    resolution: PositiveInt | None = None
    crop: Share | None = None
    interpolation: str | None = None
    class_names: tuple[str, ...] | None = None


def normalisation_of(card: DataCard) -> Normalisation:
    """What a retraining says of its images."""
    return Normalisation(
        mean=card.mean,
        std=card.std,
        resolution=card.resolution,
        crop=card.crop,
        interpolation=card.interpolation,
        class_names=card.classes,
    )


class ExportTiming(Record):
    """Milliseconds for one image, of PyTorch's network and, by its name, of the runtime beside it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Timing] = Field(init=False)

    pytorch: Timing
    conditions: LatencyConditions
    clock: str | None

    def of(self, runtime: str) -> Timing:
        """That of a runtime."""
        return (self.__pydantic_extra__ or {})[runtime]


class ExportedForm(Record):
    """A form: its files with their bytes and sums, and what its comparison and its clock gave.

    Attributes:
        sha256: none in reports of before there were sums.
        greatest_difference: from the network, as a share of the greatest logit; at most `bar`.
        latency: None where it has no runtime.
    """

    files: dict[str, Count]
    sha256: dict[str, str] = Field(default_factory=dict)
    greatest_difference: Number
    bar: Number
    batches: tuple[PositiveInt, ...]
    latency: ExportTiming | None
    environment: Environment | None = None


class ExportReport(Record):
    """The forms of one network in a folder; while files are exchanged, those that are not, and every file of ours.

    Attributes:
        int8: the network in INT8, where it was asked for.
        exchanged: files of ours that no entry lists, as they are being replaced or were when the export was stopped.
    """

    format: Literal["se_nas export"] = "se_nas export"
    version: Literal[1] = 1
    network: ExportedNetwork
    normalisation: Normalisation | None
    forms: dict[str, ExportedForm]
    int8: Int8Export | None = None
    exchanged: tuple[str, ...] | None = None
