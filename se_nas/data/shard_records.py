"""What `data.on_disk.shard_writing` notes in JSON files beside its tar files, and `data.on_disk.shards` reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from se_nas.data.class_folders import printable
from se_nas.errors import DataError
from se_nas.records.files import read_json, write_atomic, write_json
from se_nas.records.record import Record, parse_record, read_record, write_record

SUMMARY = "shards.json"
CLASSES = "classes.json"

Count = Annotated[int, Field(strict=True, ge=0, lt=2**62)]
"""Two of them still add up to an int64."""


class HalfSummary(Record):
    """How many tar files one half has, and images in them."""

    shards: Count
    images: Count


class Summary(Record):
    """By half, as `HALVES` names them."""

    train: HalfSummary
    val: HalfSummary


class ShardPlan(Record):
    """What decides the bytes of the tar files, noted before the first; and in the end what they hold."""

    kind: Literal["se_nas shards"] = "se_nas shards"
    version: Literal[1] = 1
    images_per_shard: Count
    resize: Count | None
    quality: Count
    seed: Annotated[int, Field(strict=True, ge=0)]
    source_sha256: str
    channels: Count = 3
    orient: bool = True
    value_range: tuple[float, float] | None = None
    finished: Summary | None = None

    def write(self, folder: Path) -> None:
        """OutputError where that cannot be."""
        write_record(folder / SUMMARY, self)

    @staticmethod
    def read(folder: Path) -> ShardPlan | None:
        """None where there is none, or a file of that name that another tool wrote; ConfigError where it is damaged."""
        path = folder / SUMMARY
        if not path.exists():
            return None
        content = read_json(path)
        ours = isinstance(content, dict) and (content.get("kind") == "se_nas shards" or "source_sha256" in content)
        return parse_record(ShardPlan, content, str(path)) if ours else None


class IndexRecord(Record):
    """Where the images of one tar file lie, and which were left out of it.

    Attributes:
        source: a digest of what the image files were when they were read; None in files from before it was there.
        sha256: of all the rest, so that no flipped bit passes for a label; None in files from before it was there.
    """

    kind: Literal["se_nas shard index"] = "se_nas shard index"
    version: Literal[1] = 1
    tar_bytes: Count
    names: list[str]
    offsets: list[Count]
    sizes: list[Count]
    labels: list[Count]
    damaged: dict[str, str]
    source: str | None = None
    sha256: str | None = None

    def write(self, path: Path) -> None:
        """OutputError where that cannot be."""
        content = {**self._content(), "sha256": self._digest()}
        write_atomic(path, json.dumps(content) + "\n")  # not indented: it has a line for every number otherwise

    @staticmethod
    def read(path: Path) -> IndexRecord:
        """ConfigError where it is missing or damaged in whichever way; DataError where only its digest tells."""
        record = read_record(IndexRecord, path)
        if record.sha256 is not None and record.sha256 != record._digest():
            raise DataError(f"{path}: the file must be as it was written, but its digest differs")
        return record

    def _digest(self) -> str:
        content = json.dumps(self._content())  # escapes what UTF-8 cannot say
        return hashlib.sha256(content.encode()).hexdigest()

    def _content(self) -> dict[str, object]:
        return self.model_dump(exclude={"sha256"} if self.source is not None else {"sha256", "source"})


def write_classes(folder: Path, classes: tuple[str, ...]) -> None:
    """Write the names of the classes, in the order of their numbers; OutputError where that cannot be."""
    write_json(folder / CLASSES, list(classes))


def read_classes(folder: Path) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        ConfigError: the file cannot be read, or is no JSON.
        DataError: it is no list of names.
    """
    content = read_json(folder / CLASSES)
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise DataError(f"{folder / CLASSES}: the file must hold a JSON list of class names, but it does not")
    return tuple(map(printable, content))
