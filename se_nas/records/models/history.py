"""What `history.json` holds: a line an epoch of a training or a search."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from se_nas.records.fields import Count, Metric, Number, Share
from se_nas.records.record import Record

Plain = Number | bool | str | None


class Epoch(Record):
    """An epoch, counted from 0. A column that is not named here holds plain values, such as an accuracy of a half."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Plain | list[Plain] | dict[str, Plain]] = Field(init=False)

    epoch: Count
    loss: Number | None = None
    lr: Number | None = None
    accuracy: Share | None = None
    test_accuracy: Share | None = None
    validation_accuracy: Share | None = None
    searching: bool | None = None
    choice_loss: Number | None = None
    temperature: Number | None = None
    entropy: Number | None = None
    expected: dict[Metric, Number] | None = None
    multipliers: dict[Metric, Number] | None = None
    probabilities: dict[str, tuple[Share, ...]] | None = None
    warnings: tuple[str, ...] | None = None


History = tuple[Epoch, ...]
