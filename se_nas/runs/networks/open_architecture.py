"""What a user may name as an architecture: an exported file, or a space that holds one network, as baselines do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from se_nas.errors import ArchitectureError
from se_nas.records.shipped import find_space
from se_nas.space.architecture_file import ArchitectureFile, load_architecture
from se_nas.space.size import exact_size
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space


def open_architecture(name_or_path: Path, space_file: Path | None = None) -> ArchitectureFile:
    """The architecture of an architecture.json, or of a space (YAML) of exactly one network, also by its shipped name.

    Args:
        space_file: a file of the architecture's space, whose `scaling:` then replaces what the architecture was
            exported with.

    Raises:
        ArchitectureError: the file holds no architecture that this version can read, the space has several networks,
            or `space_file` is of another space.
        ConfigError: the space's file has faults, or there is neither a file nor a shipped space of that name.
    """
    path = find_space(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        space = load_space(path)
        if space.size != 1:
            raise ArchitectureError(
                f"{path}: a space to be trained must hold one network, as those in search_spaces/baselines do, "
                f"but holds {exact_size(space.size)}: search it, and give the architecture.json that the search exports"
            )
        return ArchitectureFile.of(space, next(space.enumerate()))
    file = load_architecture(path)
    if space_file is None:
        return file
    network = file.network  # a search gives its space the classes and channels of its data
    space = replace(load_space(space_file), classes=network.head.classes, channels=network.in_channels)
    return ArchitectureFile.of(space, file.architecture)


def check_channels(source: Path, network: NetworkSpec, channels: int) -> None:
    """Raise ArchitectureError unless the network of `source` takes images of so many channels."""
    if network.in_channels != channels:
        raise ArchitectureError(
            f"{source}: channels must be {channels}, as the images have, but the network's are {network.in_channels}"
        )
