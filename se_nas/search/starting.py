"""Weights that the supernet of a search starts from, in place of random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import Tensor

from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.data.search_images import images_of_search
from se_nas.layers.network import Network
from se_nas.layers.pairing import CLASSIFIER
from se_nas.records.checkpoint import load_checkpoint, save_checkpoint
from se_nas.records.fields import PathText
from se_nas.records.models.starting_weights import StartingWeights, WeightsSource
from se_nas.records.record import read_record, write_record
from se_nas.search.strategy_config import StrategyConfig
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.supernet import SuperNet
from se_nas.supernet.warm_start.sorting import sort_channels
from se_nas.supernet.warm_start.taking import Came, take
from se_nas.training.evaluate import accuracy

#: In the problem's folder: what the supernet starts from, and where that comes from.
START, START_RECORD = "start.pt", "start.json"
#: The keys of `StartingConfig`.
STARTING_KEYS = ("weights", "architecture")
#: What the peak learning rate of random weights is divided by where none is said.
_SLOWER = 10
#: Training images over which mean gates are taken.
_GATE_IMAGES = 256


class StartingConfig(StrategyConfig):
    """Base of the models of `search:` of strategies that train a supernet.

    Attributes:
        weights: what the supernet starts from: a file with the state dict of a network of the space (of timm,
            torchvision, or a retraining's network.pt), relative to the run file, or `timm:` and the name of a model,
            for timm's own weights; null for random weights.
        architecture: which network these are of, where they fit several or are paired by name: an architecture file,
            a published network, or `timm:` and the name of a model; null for the architecture.json beside the
            weights or, without one, the one network of the space that has tensors of these shapes.
    """

    weights: PathText | None = None
    architecture: PathText | None = None

    @property
    def weight_rate(self) -> float | None:
        """Peak learning rate of the supernet's weights; None of a strategy that does not say it."""
        return None

    @model_validator(mode="after")
    def _of_weights(self) -> Self:
        if self.architecture is not None and self.weights is None:
            raise ValueError("architecture must be left out without weights, whose it is")
        return self


def slower(settings: Any, usual: float) -> Any:
    """How a supernet is trained that starts from trained weights: where the settings say no learning rate, at a tenth
    of the `usual` one, which would undo these.
    """
    if not isinstance(settings, dict) or "learning_rate" in settings:
        return settings
    return {**settings, "learning_rate": usual / _SLOWER}


@dataclass(frozen=True)
class Start:
    """Weights of one network of the space, its channels sorted.

    Attributes:
        weights: by the names of `layers.network.Network`; without those of a classifier for other classes.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]

    def put_into(self, supernet: SuperNet) -> Came:
        """See `supernet.warm_start.taking`."""
        return take(supernet, self.architecture, self.weights)

    def save(self, folder: Path, record: StartingWeights) -> None:
        """Into a problem's folder, the record last: what it is of is there."""
        save_checkpoint(folder / START, {"network": dict(self.weights)})
        write_record(folder / START_RECORD, record)

    @classmethod
    def load(cls, folder: Path, space: SearchSpace) -> Start | None:
        """Out of a problem's folder; None where the search started from random weights.

        Raises:
            ConfigError, CheckpointError: a file is damaged, or gone.
        """
        record = start_record(folder)
        if record is None:
            return None
        return cls(space.architecture(record.architecture), load_checkpoint(folder / START)["network"])


def start_record(folder: Path) -> StartingWeights | None:
    """What a problem's folder says of the weights that its search started from; None where they were random."""
    path = folder / START_RECORD
    return read_record(StartingWeights, path) if path.exists() else None


@dataclass(frozen=True, kw_only=True)
class TrainedPoint:
    """A trained network that is a point of a space.

    Attributes:
        network: of that architecture, on the CPU.
        trained: the names of its tensors that are; others, such as those of a classifier, are not.
        smaller: how many of them have zeros around a smaller kernel.
    """

    network: Network
    architecture: Architecture
    source: WeightsSource
    trained: frozenset[str]
    smaller: int

    def prepare(
        self,
        space: SearchSpace,
        info: DataInfo,
        train: ImageSet | TrainingSet,
        parts: Mapping[str, Tensor],
        device: torch.device,
    ) -> tuple[Start, StartingWeights]:
        """The start of a search, and what is said of it; changes the network."""
        classifier = any(name.startswith(CLASSIFIER) for name in self.trained)
        images = images_of_search(info, train, device).at(self.network.spec.resolution)
        self.network.to(device).eval()
        share = accuracy(self.network, images, parts["validation"]) if classifier else None
        chosen = images.evaluate_batches(parts["weights"][:_GATE_IMAGES], 64)
        in_order = sort_channels(self.network, space, self.architecture, (x for x, _ in chosen))
        state = self.network.cpu().state_dict()
        start = Start(self.architecture, {name: value for name, value in state.items() if name in self.trained})
        with torch.random.fork_rng([]):
            came = start.put_into(SuperNet(space))
        record = StartingWeights(
            weights=self.source,
            architecture=self.architecture.as_dict(),
            taken=came.taken,
            padded=max(came.padded, self.smaller),
            sorted=len(in_order),
            opened=came.opened,
            random=came.random,
            classifier=classifier,
            accuracy=share,
        )
        return start, record


def start_lines(record: StartingWeights, rate: float | None) -> list[str]:
    """What a run says of the weights that its supernet starts from, which move at a learning rate."""
    first = f"weights: {record.weights.words()}: {record.taken} tensors"
    if record.accuracy is not None:
        first += f", top-1 {record.accuracy:.2%} on the validation images before the search"
    parts = [
        f"{record.padded} are parts of larger ones, with zeros beside them",
        f"{record.sorted} have their channels sorted by importance",
        f"{record.opened} places of SE start open" if record.opened else "",
        f"{record.random} tensors of the supernet stay random" if record.random else "",
        "" if record.classifier else "the classifier, which is for other classes, is random",
    ]
    moves = [] if rate is None else [f"the supernet's weights move at a learning rate of at most {rate:g}"]
    return [first, "of them " + "; ".join(part for part in parts if part), *moves]
