"""What a retraining begins with in place of random weights, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from se_nas.errors import ConfigError
from se_nas.layers.freezing import frozen_parts
from se_nas.layers.pairing import CLASSIFIER
from se_nas.records.models.started_from import StartedFrom
from se_nas.records.models.starting_weights import WeightsSource
from se_nas.runs.retraining.job import Job
from se_nas.space.specs import NetworkSpec
from se_nas.training.initial_weights import InitialWeights, read_initial_weights
from se_nas.training.recipe import Recipe
from se_nas.training.trained_network import DataCard, check_classes


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Mean and deviation of each channel, by which images from 0 to 1 are normalised.

    Attributes:
        of: the data set of the training that they are taken over from, where they are not the images' own.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    of: str | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a training begins with.

    Attributes:
        record: what `result.json` says of it; None of a training that goes on with the same images.
        normalisation: that of the images.
    """

    initial: InitialWeights | None
    record: StartedFrom | None
    normalisation: Normalisation

    @property
    def lines(self) -> list[str]:
        """What is said of it."""
        lines = [] if self.record is None else [self.record.words()]
        if self.normalisation.of is not None:
            lines.append(f"images are normalised as in the training on {self.normalisation.of}, which the weights know")
        return lines

    def stated(self) -> dict[str, str]:
        """What a training's notes of its images have of it."""
        return {} if self.normalisation.of is None else {"normalised_as": self.normalisation.of}


def open_start(
    job: Job,
    recipe: Recipe,
    spec: NetworkSpec,
    classes: Sequence[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Start:
    """What a job begins with; random weights, and nothing to say of them, where it names no others.

    The classifier of weights that know other classes is left out, even where these are as many.

    Args:
        spec: the network, with a classifier for the classes of the images.
        mean, std: of the images; weights that know others are shown these images as they know them.

    Raises:
        ConfigError: what is to be frozen is not there, or is random.
        CheckpointError: the weights cannot be read, or are of another network.
        DataError: the images must be of the classes of before, and are not.
    """
    frozen = frozen_parts(spec, recipe.freeze)
    own = Normalisation(mean=mean, std=std)
    if job.weights is None:
        if frozen:
            must = "must be left out where a training begins with random weights, but names"
            raise ConfigError("recipe", [f"freeze: {must} {', '.join(recipe.freeze)}"])
        return Start(initial=None, record=None, normalisation=own)
    home = job.weights.parent
    if job.same_classes:
        check_classes(home, spec, classes)
    card = DataCard.load(home)
    initial = read_initial_weights(job.weights, spec)
    if card is not None and card.classes != tuple(classes):
        tensors = {name: tensor for name, tensor in initial.tensors.items() if not name.startswith(CLASSIFIER)}
        initial = replace(initial, tensors=tensors)
    if card is not None and len(card.mean) == len(mean) and (card.mean, card.std) != (mean, std):
        own = Normalisation(mean=card.mean, std=card.std, of=card.name)
    if job.phases:
        return Start(initial=initial, record=None, normalisation=own)
    modules = tuple(f"{module}." for part in frozen.values() for module in part)
    classifier = any(name.startswith(CLASSIFIER) for name in initial.tensors)
    record = StartedFrom(
        weights=WeightsSource(source=_short_name(job.weights), digest=initial.digest),
        source_data=card.name if card else None,
        source_classes=len(card.classes) if card else None,
        source_accuracy=initial.accuracy,
        data=job.data.name,
        classes=len(classes),
        kept=len(initial.tensors),
        replaced=0 if classifier else 1 + spec.head.classifier_bias,
        frozen=tuple(frozen),
        frozen_tensors=sum(name.startswith(modules) for name in initial.tensors),
    )
    return Start(initial=initial, record=record, normalisation=own)


def _short_name(path: Path) -> str:
    """A file with the folder that it lies in."""
    return f"{path.resolve().parent.name}/{path.name}"
