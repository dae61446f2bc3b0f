"""Trained networks on disk: the weights that a retraining leaves, and the network built to hold them.

A retraining's folder has `architecture.json`, the network as it was trained, `data.json`, what it was trained on, and
weights in `network.pt` (the last) and, of ImageNet, `best.pt` (the best on the held-out images): checkpoints with the
state dicts "network" and, of averaged weights or None, "average". What is not told which of the two to take takes those
that did better on the held-out images, by the file's own "accuracies" or, where it is of before these, by result.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import FiniteFloat, PositiveInt
from torch import Tensor

from se_nas.data.on_disk.transforms import EvalTransform
from se_nas.errors import CheckpointError, ConfigError, DataError
from se_nas.layers.network import Network
from se_nas.records.checkpoint import StateDict, check_finite, load_checkpoint, save_checkpoint
from se_nas.records.fields import Share
from se_nas.records.files import write_json
from se_nas.records.models.run_result import AnyRetrained, WhichWeights
from se_nas.records.record import read_record, read_value
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
        resolution, crop, interpolation: of test images, as an `EvalTransform` has them; None in files of before.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    std: tuple[FiniteFloat, ...]
    resolution: PositiveInt | None = None
    crop: Share | None = None
    interpolation: str | None = None

    @classmethod
    def of(
        cls,
        name: str,
        classes: tuple[str, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        tested: EvalTransform,
    ) -> DataCard:
        """Of images that are tested on as `tested` says."""
        return cls(
            name,
            classes,
            mean=mean,
            std=std,
            resolution=tested.resolution,
            crop=tested.crop,
            interpolation=tested.interpolation,
        )

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


Accuracies = Mapping[str, float | None]
"""Top-1 accuracy on held-out images, from 0 to 1, of the weights "network" and "average"; None or absent: not known."""


@dataclass(frozen=True)
class Taken:
    """Which weights of a file were taken.

    Attributes:
        kind: those of the last step, or their running average.
        accuracies: of both, where they are known.
    """

    path: Path
    kind: WhichWeights
    accuracies: Accuracies

    def words(self) -> str:
        """One line for whoever did not say which to take."""
        other: WhichWeights = "network" if self.kind == "average" else "average"
        known = {kind: value for kind, value in self.accuracies.items() if value is not None}
        line = f"weights: {_KINDS[self.kind]} of {self.path}"
        if self.kind in known:
            line += f", top-1 {known[self.kind]:.2%} on the held-out images of the training"
        return line + (f" ({_KINDS[other]}: {known[other]:.2%})" if other in known else "")


_KINDS = {"network": "the last ones", "average": "the averaged ones"}


class Trained(NamedTuple):
    """A network of a retraining, its architecture, and which weights it has."""

    network: Network
    file: ArchitectureFile
    taken: Taken


def save_weights(
    path: Path,
    network: torch.nn.Module,
    average: torch.nn.Module | None,
    *,
    accuracies: Accuracies | None = None,
    **facts: Any,
) -> None:
    """Write a network's weights, those of its running average, and plain facts about them; atomically."""
    averaged = None if average is None else average.state_dict()
    known = dict(accuracies or {})
    save_checkpoint(path, {"network": network.state_dict(), "average": averaged, "accuracies": known, **facts})


def load_trained(source: Path, weights: Path | None = None, *, average: bool | None = None) -> Trained:
    """The network of a retraining, in evaluation mode on the CPU, and its architecture.

    Args:
        source: a retraining's folder, or an architecture.json; then `weights` must be given.
        weights: a file of weights; by default `network.pt` of the folder.
        average: whether the averaged weights are wanted; None takes those that did better on the held-out images.

    Raises:
        ArchitectureError: there is no readable architecture.
        CheckpointError: the weights are missing, damaged, of another architecture, or have no average.
    """
    folder = source if source.is_dir() else source.parent
    file = load_architecture(folder / ARCHITECTURE if source.is_dir() else source)
    if weights is None and not source.is_dir():
        raise CheckpointError(f"{source}: the file of its weights must be given too, with --weights, but got none")
    path = weights or folder / WEIGHTS
    network, taken = network_with(file.network, path, average=average)
    return Trained(network, file, taken)


def network_with(spec: NetworkSpec, path: Path, *, average: bool | None = None) -> tuple[Network, Taken]:
    """The network of a specification with the weights of a file, in evaluation mode on the CPU, and which these are.

    Raises:
        CheckpointError: the weights are missing, damaged, of another architecture, or have no average.
    """
    network = Network(spec)
    state = load_checkpoint(path)
    taken = _taken(path, state, average)
    network.load_state_dict(_fitting(network, state[taken.kind], path))
    return network.eval(), taken


def better_kind(state: Mapping[str, Any]) -> WhichWeights:
    """Of the weights in a file's state those that did better on the held-out images; the averaged ones by default."""
    if not state.get("average"):
        return "network"
    accuracies = state.get("accuracies") or {}
    network, average = accuracies.get("network"), accuracies.get("average")
    if network is not None and average is not None:
        return "network" if network > average else "average"
    return "network" if state.get("weights") == "network" else "average"  # "weights": of a `best.pt` from before


def _told(path: Path) -> Accuracies:
    """What `result.json` says of the file `network.pt` beside it, or in a folder of the run whose it is."""
    results = [folder / "result.json" for folder in (path.parent, path.parent.parent)]
    found = next((result for result in results if result.exists()), None)
    summary = read_record(AnyRetrained, found).retrain if found is not None and path.name == WEIGHTS else None
    if summary is None:
        return {}
    network, average = summary.accuracies
    return {"network": network, "average": average}


def _taken(path: Path, state: Mapping[str, Any], average: bool | None) -> Taken:
    if not isinstance(state.get("network"), dict):
        raise CheckpointError(f"{path}: the file must hold the weights of a network, but holds {', '.join(state)}")
    if average and not state.get("average"):
        raise CheckpointError(f"{path}: averaged weights were asked for, but the training kept none")
    accuracies = state.get("accuracies") or _told(path)
    kind = better_kind({**state, "accuracies": accuracies})
    if average is not None:
        kind = "average" if average else "network"
    return Taken(path, kind, accuracies)


def _fitting(network: Network, weights: StateDict, path: Path) -> StateDict:
    try:
        check_fit(weights, network.state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return weights


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
