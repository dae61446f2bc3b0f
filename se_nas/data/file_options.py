"""What a user may say of the image files of a data set, in a run file and on the command line alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from se_nas.data.image_file import MAX_DAMAGED
from se_nas.data.pixels import Reading
from se_nas.errors import DataError


@dataclass(frozen=True)
class FileOptions:
    """How image files are understood, and which faults are put up with.

    Attributes:
        orient, value_range: see `data.pixels.Reading`.
        max_damaged: so many images may be damaged; each is named and left out.
        val_labels: the classes of held-out images that lie unsorted; see `class_folders.labelled_images`.

    Raises:
        DataError: max_damaged is below 0, or value_range does not rise.
    """

    orient: bool = True
    value_range: tuple[float, float] | None = None
    max_damaged: int = MAX_DAMAGED
    val_labels: Path | None = None

    def __post_init__(self) -> None:
        if self.max_damaged < 0:
            raise DataError(f"max_damaged must be at least 0, but got {self.max_damaged}")
        self.reading(3)

    def reading(self, channels: int) -> Reading:
        """How a file becomes a picture of so many channels."""
        return Reading(channels, self.orient, self.value_range)

    def stated(self) -> dict[str, Any]:
        """What decides the pixels and the classes and is not as usual, as plain values: a training's notes have it."""
        said: dict[str, Any] = {}
        if not self.orient:
            said["orient"] = False
        if self.value_range is not None:
            said["value_range"] = list(self.value_range)
        if self.val_labels is not None:
            said["val_labels"] = str(self.val_labels.resolve())
        return said

    @staticmethod
    def of(said: Mapping[str, Any]) -> FileOptions:
        """What `stated` noted, also among other values."""
        values = {field.name: said[field.name] for field in fields(FileOptions) if said.get(field.name) is not None}
        if "value_range" in values:
            low, high = values["value_range"]
            values["value_range"] = float(low), float(high)
        if "val_labels" in values:
            values["val_labels"] = Path(values["val_labels"])
        return FileOptions(**values)


USUAL = FileOptions()
"""Where nothing is said."""
