"""Divide training images into the disjoint parts of a search, and keep the division in a file.

A search names its parts `weights` (steps of the supernet's weights), `choices` (steps of the choice logits) and
`validation`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from se_nas.errors import DataError
from se_nas.records.files import write_atomic
from se_nas.records.record import Record, read_record


class PartsRecord(Record):
    """The division of a data set that a run holds to."""

    kind: Literal["se_nas parts"] = "se_nas parts"
    version: Literal[1] = 1
    seed: int
    images: int
    labels_sha256: str
    images_sha256: str | None = None
    sizes: dict[str, int]
    parts: dict[str, list[Annotated[int, Field(strict=True, ge=0, lt=2**63)]]]


def split_parts(labels: Tensor, fractions: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    """Indices of the images of each part: disjoint, covering, and the same for the same seed.

    Args:
        labels: (N,) int64, at least 0.
        fractions: the share of each part; all above 0, summing to 1.
        seed: fixes which images go where.

    Returns:
        Sorted (n,) int64 indices by name of part. Of each class, a part gets its fraction rounded up or down.

    Raises:
        DataError: the fractions are not as above, or a part would be empty.
    """
    shares = ", ".join(f"{name}: {fraction:g}" for name, fraction in fractions.items())
    if not fractions or min(fractions.values()) <= 0 or abs(math.fsum(fractions.values()) - 1) > 1e-6:
        raise DataError(f"the fractions of the parts must be above 0 and sum to 1, but got {shares or 'none'}")
    ends = torch.tensor(list(fractions.values()), dtype=torch.float64).cumsum(0)[:-1]
    generator = torch.Generator().manual_seed(seed)
    chosen: dict[str, list[Tensor]] = {name: [] for name in fractions}
    for label in labels.bincount().nonzero().flatten():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        # One random offset below 1 for all ends of a class rounds each up or down without a bias to any part; the
        # 1e-9 keep a product such as 0.3 * 10 from falling below its integer.
        offset = torch.rand((), generator=generator, dtype=torch.float64) * (1 - 2e-9) + 1e-9
        cuts = (ends * len(members) + offset).floor().long()
        for name, piece in zip(fractions, members.tensor_split(cuts), strict=True):
            chosen[name].append(piece)
    parts = {name: torch.cat(pieces).sort().values if pieces else labels[:0] for name, pieces in chosen.items()}
    for name, part in parts.items():
        if not len(part):
            raise DataError(f"every part must hold an image, but of {len(labels)} images {shares} leaves {name} none")
    return parts


def save_parts(path: Path, parts: Mapping[str, Tensor], labels: Tensor, seed: int, images: str | None = None) -> None:
    """Write parts as JSON, atomically, with the seed and a digest of the labels they were made from.

    Args:
        images: a digest of the images themselves, where they have one.

    Raises:
        OutputError: the file cannot be written.
    """
    record = PartsRecord(
        seed=seed,
        images=len(labels),
        labels_sha256=_digest(labels),
        images_sha256=images,
        sizes={name: len(part) for name, part in parts.items()},
        parts={name: part.tolist() for name, part in parts.items()},
    )
    write_atomic(path, record.model_dump_json() + "\n")  # not indented: it has a line for every image otherwise


def load_parts(path: Path, labels: Tensor, images: str | None = None) -> dict[str, Tensor]:
    """The parts in a file that `save_parts` wrote.

    Args:
        path: the file.
        labels: (N,) int64, of the data set at hand.
        images: see `save_parts`.

    Raises:
        ConfigError: the file cannot be read, or is no such file.
        DataError: it was made from other labels or images, or does not hold each image once.
    """
    record = read_record(PartsRecord, path)
    if record.labels_sha256 != _digest(labels):
        got = f"{record.images} images where there are {len(labels)}"
        raise DataError(f"{path}: the parts must be of this data set, but they are of other labels ({got})")
    if record.images_sha256 != images:
        raise DataError(
            f"{path}: the parts must be of this data set, but they are of as many images with other names or classes"
        )
    parts = {name: torch.tensor(part, dtype=torch.int64) for name, part in record.parts.items()}
    if record.sizes != {name: len(part) for name, part in parts.items()} or record.images != len(labels):
        raise DataError(f"{path}: the parts must be as many and as large as 'sizes' and 'images' say, but are not")
    placed = torch.cat([*parts.values(), torch.empty(0, dtype=torch.int64)]).sort().values
    if not torch.equal(placed, torch.arange(len(labels))):
        raise DataError(f"{path}: the parts must hold each of the {len(labels)} images once, but they do not")
    return parts


def _digest(labels: Tensor) -> str:
    return hashlib.sha256(labels.cpu().numpy().astype("<i8").tobytes()).hexdigest()
