"""Trained networks on disk: the weights that a retraining leaves, and the network built to hold them.

A retraining's folder has `architecture.json`, the network as it was trained, `data.json`, what it was trained on, and
weights in `network.pt` (the last) and, of ImageNet, `best.pt` (the best on the held-out images): checkpoints with the
state dicts "network" and, of averaged weights or None, "average".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import FiniteFloat
from torch import Tensor

from se_nas.errors import CheckpointError, ConfigError, DataError
from se_nas.layers.network import Network
from se_nas.records.checkpoint import StateDict, check_finite, load_checkpoint, save_checkpoint
from se_nas.records.files import write_json
from se_nas.records.record import read_value
from se_nas.space.architecture_file import ArchitectureFile, load_architecture
from se_nas.space.specs import NetworkSpec

ARCHITECTURE = "architecture.json"
WEIGHTS = "network.pt"
BEST_WEIGHTS = "best.pt"
TRAINED_ON = "data.json"


@dataclass(frozen=True)
class DataCard:
    """What whoever uses a trained network must know of its data.

    Attributes:
        name: of the data set.
        classes: names, in the order of the network's outputs.
        mean, std: of each channel of images from 0 to 1: the network is given (image - mean) / std.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    std: tuple[FiniteFloat, ...]

    def save(self, folder: Path) -> None:
        """Write it into the folder of a retraining."""
        write_json(folder / TRAINED_ON, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> DataCard | None:
        """Read it back; None where there is none.

        Raises:
            ConfigError: the file is damaged.
        """
        path = folder / TRAINED_ON
        if not path.exists():
            return None
        found: DataCard = read_value(cls, path)
        if not (len(found.mean) == len(found.std) and all(deviation > 0 for deviation in found.std)):
            raise ConfigError(str(path), ["mean, std: must be of equal length, with std above 0, but are not"])
        return found


def check_classes(folder: Path, network: NetworkSpec, classes: Sequence[str]) -> None:
    """Raise DataError unless images of these classes are of those that the network of a retraining's folder knows.

    Where the folder does not say which they are, there must be as many.
    """
    trained_on = DataCard.load(folder)
    known = trained_on.classes if trained_on is not None else None
    if tuple(classes) == known or (known is None and len(classes) == network.head.classes):
        return
    other = next((name for name in classes if known is not None and name not in known), None)
    what = f"{other!r} is not" if other else f"there are {len(classes)} instead of {network.head.classes}"
    raise DataError(f"{folder}: the images must be of the classes that the network was trained on, but {what}")


def save_weights(path: Path, network: torch.nn.Module, average: torch.nn.Module | None, **facts: Any) -> None:
    """Write a network's weights, those of its running average, and plain facts about them; atomically."""
    averaged = None if average is None else average.state_dict()
    save_checkpoint(path, {"network": network.state_dict(), "average": averaged, **facts})


def load_trained(
    source: Path, weights: Path | None = None, *, average: bool | None = None
) -> tuple[Network, ArchitectureFile]:
    """The network of a retraining, in evaluation mode on the CPU, and its architecture.

    Args:
        source: a retraining's folder, or an architecture.json; then `weights` must be given.
        weights: a file of weights; by default `network.pt` of the folder.
        average: whether the averaged weights are wanted; None takes them where there are any.

    Raises:
        ArchitectureError: there is no readable architecture.
        CheckpointError: the weights are missing, damaged, of another architecture, or have no average.
    """
    folder = source if source.is_dir() else source.parent
    file = load_architecture(folder / ARCHITECTURE if source.is_dir() else source)
    if weights is None and not source.is_dir():
        raise CheckpointError(f"{source}: the file of its weights must be given too, with --weights, but got none")
    network = network_with(file.network, weights or folder / WEIGHTS, average=average)
    return network, file


def network_with(spec: NetworkSpec, path: Path, *, average: bool | None = None) -> Network:
    """The network of a specification with the weights of a file, in evaluation mode on the CPU.

    Raises:
        CheckpointError: the weights are missing, damaged, of another architecture, or have no average.
    """
    network = Network(spec)
    network.load_state_dict(_fitting(network, load_checkpoint(path), path, average))
    return network.eval()


def _fitting(network: Network, state: Mapping[str, Any], path: Path, average: bool | None) -> StateDict:
    if not isinstance(state.get("network"), dict):
        raise CheckpointError(f"{path}: the file must hold the weights of a network, but holds {', '.join(state)}")
    if average and not state.get("average"):
        raise CheckpointError(f"{path}: averaged weights were asked for, but the training kept none")
    averaged = state.get("average") if average is not False else None
    found: StateDict = averaged or state["network"]
    try:
        check_fit(found, network.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return found


def check_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless `weights` has the names and shapes of `own`, the state dict of a network, and finite
    values.
    """
    for name, tensor in own.items():
        got = tuple(weights[name].shape) if name in weights else "nothing"
        if got != tuple(tensor.shape):
            raise CheckpointError(
                f"the weights must be of this architecture, with {name} of shape {tuple(tensor.shape)}, but got {got}"
            )
    if unknown := [name for name in weights if name not in own]:
        raise CheckpointError(f"the weights must be of this architecture, which has no {unknown[0]}")
    check_finite(weights)
