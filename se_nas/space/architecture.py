"""An architecture: one pick for every choice of a space; and the versioned, self-contained file that carries it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from se_nas.errors import ArchitectureError
from se_nas.records.files import write_json
from se_nas.space.choice import Option
from se_nas.space.specs import NetworkSpec

if TYPE_CHECKING:
    from se_nas.space.search_space import SearchSpace

FORMAT = "se_nas architecture"
VERSION = 1
#: A network made for images at least this large, pixels, is trained on full-size images as it is.
FULL_SIZE = 128


@dataclass(frozen=True)
class Architecture:
    """Total and canonical: built by `SearchSpace.architecture`, so that equal networks are equal and hash alike."""

    space_digest: str
    picks: tuple[tuple[str, Option], ...]

    def as_dict(self) -> dict[str, Option]:
        """The picks by choice name."""
        return dict(self.picks)

    def __getitem__(self, choice: str) -> Option:
        return self.as_dict()[choice]


@dataclass(frozen=True)
class ArchitectureFile:
    """What `architecture.json` holds: enough to build the network without the space's file.

    Attributes:
        network: at the size of the search.
        scaled: the same architecture for other data sets, by their names, where the space says how.
    """

    architecture: Architecture
    space_name: str
    network: NetworkSpec
    scaled: Mapping[str, NetworkSpec] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, space: SearchSpace, architecture: Architecture) -> ArchitectureFile:
        """The file of an architecture of `space`, with every network that the space makes of it.

        Raises:
            ArchitectureError: the architecture is of another space.
        """
        scaled = {scaling.data: space.resolve_scaled(architecture, scaling.data) for scaling in space.scaling}
        return cls(architecture, space.name, space.resolve(architecture), scaled)


def network_for(file: ArchitectureFile, data_name: str) -> NetworkSpec:
    """The network to train on the full-size images of a data set: the one scaled to it, or the file's own.

    Raises:
        ArchitectureError: the network is of a smaller size than `FULL_SIZE` and none is scaled to the data set.
    """
    if data_name in file.scaled:
        return file.scaled[data_name]
    if file.network.resolution >= FULL_SIZE:
        return file.network
    size = file.network.resolution
    raise ArchitectureError(
        f"an architecture to be trained on {data_name} must be scaled to it or be of at least {FULL_SIZE}x{FULL_SIZE} "
        f"pixels, but this one of space {file.space_name} is of {size}x{size}; give --space a file of that space whose "
        f"`scaling:` has {data_name}"
    )


@dataclass(frozen=True)
class _StoredSpace:
    name: str
    digest: str


@dataclass(frozen=True)
class _Stored:
    space: _StoredSpace
    picks: dict[str, Option]
    network: NetworkSpec
    scaled: dict[str, NetworkSpec] = field(default_factory=dict)


def network_from_dict(value: Any) -> NetworkSpec:
    """Read back `NetworkSpec.to_dict`; ValidationError when it is malformed."""
    return TypeAdapter(NetworkSpec).validate_python(value)


def save_architecture(path: str | os.PathLike[str], file: ArchitectureFile) -> Path:
    """Write an architecture with its network, every block in plain words beside the picks; atomically."""
    return write_json(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "space": {"name": file.space_name, "digest": file.architecture.space_digest},
            "picks": file.architecture.as_dict(),
            "blocks": [block.words() for block in file.network.blocks],
            "network": file.network.to_dict(),
            "scaled": {data: network.to_dict() for data, network in file.scaled.items()},
        },
    )


def load_architecture(path: str | os.PathLike[str]) -> ArchitectureFile:
    """Read an architecture file.

    Raises:
        ArchitectureError: the file is missing, no JSON, of another format or version, or malformed.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchitectureError(f"{path}: the architecture file must be readable, but got: {error.strerror}") from error
    except ValueError as error:
        raise ArchitectureError(f"{path}: an architecture file must be JSON, but got: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ArchitectureError(f"{path}: 'format' must be '{FORMAT}', but this file has none of that name")
    if value.get("version") != VERSION:
        raise ArchitectureError(
            f"{path}: 'version' must be {VERSION} for this release of se_nas, but got {value.get('version')!r}"
        )
    try:
        stored = TypeAdapter(_Stored).validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        what = "must be given" if fault["type"] == "missing" else f"{fault['msg']}, but got {fault['input']!r}"
        raise ArchitectureError(f"{path}: {where}: {what}") from error
    architecture = Architecture(stored.space.digest, tuple(stored.picks.items()))
    return ArchitectureFile(architecture, stored.space.name, stored.network, stored.scaled)
