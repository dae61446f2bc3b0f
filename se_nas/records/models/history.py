"""What `history.json` holds: a line an epoch of a training or a search."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field

from se_nas.records.fields import Count, Metric, Number, Share
from se_nas.records.files import write_json
from se_nas.records.record import Record, read_value

Plain = bool | int | Number | str | None


class Epoch(Record):
    """An epoch, counted from 0. A column that is not named here holds plain values, such as an accuracy of a half.

    Attributes:
        accuracy_at: by resolution the accuracy on the validation part, whose greatest is `validation_accuracy`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Plain | list[Plain] | dict[str, Plain]] = Field(init=False)

    epoch: Count
    step: Count | None = None
    loss: Number | None = None
    lr: Number | None = None
    accuracy: Share | None = None
    test_accuracy: Share | None = None
    balanced_accuracy: Share | None = None
    class_accuracy: tuple[Share | None, ...] | None = None
    class_images: tuple[Count, ...] | None = None
    validation_accuracy: Share | None = None
    accuracy_at: dict[str, Share] | None = None
    searching: bool | None = None
    choice_loss: Number | None = None
    temperature: Number | None = None
    entropy: Number | None = None
    expected: dict[Metric, Number] | None = None
    multipliers: dict[Metric, Number] | None = None
    probabilities: dict[str, tuple[Share, ...]] | None = None
    warnings: tuple[str, ...] | None = None

    def of(self, column: str) -> float | None:
        """The number in a column; None where it has none."""
        found: float | None = getattr(self, column, None)
        return found


#: The file, in the folder of a search or a training.
HISTORY = "history.json"

History = tuple[Epoch, ...]


def write_history(path: Path, history: History) -> None:
    """Write the file, atomically."""
    write_json(path, [epoch.plain() for epoch in history])


def read_history(path: Path) -> History:
    """What the file holds; nothing where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    found: History = read_value(History, path) if path.exists() else ()
    return found
