"""The versioned, self-contained file of an architecture: its picks, and every network that its space makes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError

from se_nas.errors import ArchitectureError, ConfigError, counted
from se_nas.plugins import PluginRecord, copy_plugins, load_recorded, loaded_plugins
from se_nas.records.files import read_json
from se_nas.records.record import Record, parse_record, write_record
from se_nas.records.yaml_input import validation_problems
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.network_faults import network_faults
from se_nas.space.scaling import resolve_scaled
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec

FORMAT = "se_nas architecture"
VERSION = 1
#: A network made for images at least this large, pixels, is trained on full-size images as it is.
FULL_SIZE = 128
#: Faults of a file that are told one by one.
_SHOWN = 10


def _option(value: object) -> Option:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number or text")
    return value


_NETWORK = TypeAdapter(NetworkSpec)


def _unknown(value: Any, known: Any, path: str = "") -> Iterator[str]:
    """The keys in a value that was read which nothing reads: a fault, as in every file."""
    if isinstance(value, Mapping) and isinstance(known, Mapping):
        for key, item in value.items():
            if key not in known:
                yield f"{path}{key}: unknown key"
            else:
                yield from _unknown(item, known[key], f"{path}{key}.")
    elif isinstance(value, list) and isinstance(known, (list, tuple)):
        for index, (item, other) in enumerate(zip(value, known, strict=True)):
            yield from _unknown(item, other, f"{path.removesuffix('.')}[{index}].")


def _faults(source: str, problems: list[str]) -> ArchitectureError:
    """The first few faults, a line each."""
    shown = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        shown.append(f"and {counted(len(problems) - _SHOWN, 'more fault')}")
    return ArchitectureError("\n".join(f"{source}: {problem:.300}" for problem in shown))


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
        scaled = {scaling.data: resolve_scaled(space, architecture, scaling.data) for scaling in space.scaling}
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


class _StoredSpace(Record):
    name: str
    digest: str


class _Stored(Record):
    """The file; `blocks`, its blocks in plain words, is for people alone."""

    format: str
    version: int
    space: _StoredSpace
    picks: dict[str, Annotated[Any, PlainValidator(_option)]]
    blocks: tuple[str, ...] = ()
    network: dict[str, object]
    scaled: dict[str, dict[str, object]] = Field(default_factory=dict)
    plugins: tuple[PluginRecord, ...] | None = None


def network_from_dict(value: Mapping[str, Any], source: str = "network", path: str = "") -> NetworkSpec:
    """Read back `NetworkSpec.to_dict`.

    Args:
        source: names the value's origin in errors; `path` is where in it the network stands.

    Raises:
        ArchitectureError: it is malformed, or no network that can be built and run; with its faults and their paths.
    """
    try:
        spec = _NETWORK.validate_python(value)
    except ValidationError as error:
        raise _faults(source, [f"{path}{problem}" for problem in validation_problems(error, NetworkSpec)]) from error
    problems = [*_unknown(value, spec.to_dict()), *network_faults(spec)]
    if problems:
        raise _faults(source, [f"{path}{problem}" for problem in problems])
    return spec


def save_architecture(path: str | os.PathLike[str], file: ArchitectureFile) -> Path:
    """Write an architecture with its network, every block in plain words beside the picks; atomically.

    It names the plugins of this process, copies of whose files are put beside it.
    """
    stored = _Stored(
        format=FORMAT,
        version=VERSION,
        space=_StoredSpace(name=file.space_name, digest=file.architecture.space_digest),
        picks=dict(file.architecture.as_dict()),
        blocks=tuple(block.words() for block in file.network.blocks),
        network=file.network.to_dict(),
        scaled={data: network.to_dict() for data, network in file.scaled.items()},
    )
    if plugins := copy_plugins(Path(path).parent, loaded_plugins()):
        stored = stored.model_copy(update={"plugins": tuple(plugins)})
    return write_record(path, stored)


def load_architecture(path: str | os.PathLike[str]) -> ArchitectureFile:
    """Read an architecture file, the plugins that it names imported first.

    Raises:
        ArchitectureError: the file is missing, no JSON, of another format or version, or malformed.
        ConfigError: a plugin's fault; see `load_plugins`.
    """
    try:
        value = read_json(path)
    except ConfigError as error:
        raise ArchitectureError(str(error)) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ArchitectureError(f"{path}: 'format' must be '{FORMAT}', but this file has none of that name")
    if value.get("version") != VERSION:
        got = f"{value.get('version')!r:.40}"
        raise ArchitectureError(f"{path}: 'version' must be {VERSION} for this release of se_nas, but got {got}")
    try:
        stored = parse_record(_Stored, value, str(path))
    except ConfigError as error:
        raise _faults(str(path), list(error.problems)) from error
    load_recorded(stored.plugins or (), str(path))
    network = network_from_dict(stored.network, str(path), "network.")
    scaled = {data: network_from_dict(item, str(path), f"scaled.{data}.") for data, item in stored.scaled.items()}
    architecture = Architecture(stored.space.digest, tuple(stored.picks.items()))
    return ArchitectureFile(architecture, stored.space.name, network, scaled)
