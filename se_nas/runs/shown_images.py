"""A trained network and the test images that it is shown, from memory or from disk, as its training had them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from se_nas.data.file_options import USUAL, FileOptions
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.encoded_images import EncodedImages
from se_nas.data.on_disk.normalisation import normalisation
from se_nas.data.on_disk.stream import EvaluationStream
from se_nas.data.on_disk.transforms import EvalTransform
from se_nas.data.sources import load_test, load_train, stays_on_disk
from se_nas.errors import ConfigError
from se_nas.evidence.gates import Batches
from se_nas.hardware.device import pins
from se_nas.hardware.lines import Say
from se_nas.hardware.progress_bar import tracked
from se_nas.layers.network import Network
from se_nas.runs.data_folder import data_folder
from se_nas.runs.networks.open_architecture import check_channels
from se_nas.runs.retraining.on_disk import images_for, recipe_of
from se_nas.runs.run_folder import RETRAINING, RunFolder
from se_nas.space.architecture_file import ArchitectureFile
from se_nas.space.specs import NetworkSpec
from se_nas.training.evaluate import TopAccuracies, top_accuracies
from se_nas.training.images import StreamedHeldOut
from se_nas.training.trained_network import DataCard, check_classes, load_trained


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """Which network is shown which test images.

    Attributes:
        source: a run's folder, a retraining's, or an architecture.json; then `weights` must be given.
        weights, average: see `training.trained_network.load_trained`.
        data: the name of the data set; by default what the network was trained on.
        data_dir: its folder; by default where it lay then.
        training: whether training images are shown, as test images are prepared, and not test images.
        images: at most so many images, evenly spaced; None for all.
        batch_size: images at once.
        workers: processes that decode images, where these stay on disk.
    """

    source: Path
    data: str | None = None
    data_dir: Path | None = None
    training: bool = False
    weights: Path | None = None
    average: bool | None = None
    images: int | None = None
    batch_size: int = 100
    workers: int = 4


@dataclass(frozen=True)
class ShownImages:
    """The images to look at: the name of their data set, the names of its classes, and how many of how many.

    Attributes:
        notes: a line for each that was left out, and for each kind of file that was passed over.
    """

    data: str
    classes: tuple[str, ...]
    of_images: int
    batches: Batches
    notes: tuple[str, ...] = ()


def trained_network(request: ImageRequest, say: Say) -> tuple[Network, ArchitectureFile, Path]:
    """The network, its architecture, and the folder of its retraining; `say` is told which of its weights it has.

    Raises:
        SeNasError: the network or its weights are missing or damaged.
    """
    inner = request.source / RETRAINING
    source = inner if inner.is_dir() else request.source
    network, file, taken = load_trained(source, request.weights, average=request.average)
    say(taken.words())
    return network, file, source if source.is_dir() else source.parent


def shown_images(
    request: ImageRequest, home: Path, network: NetworkSpec, device: torch.device, progress: bool
) -> ShownImages:
    """The images for a network whose retraining is in `home`, if it is a retraining's folder at all."""
    # of the folders, the one of a retraining by itself says all; that of a run's winner leaves it to the run's
    run = next((RunFolder(place) for place in (home, home.parent) if (place / "config.yaml").exists()), None)
    trained_on = DataCard.load(home)
    known: Mapping[str, Any] = (run.config.get("data") or {}) if run else {}
    name = request.data or known.get("name") or (trained_on.name if trained_on else None)
    if name is None:
        raise ConfigError("--data", [f"must name the data set, of which {home} says nothing, but got nothing"])
    same = name == known.get("name")
    data_dir = request.data_dir
    if data_dir is None and run and same and known.get("dir"):
        data_dir = data_folder(run / "config.yaml", str(known["dir"]))
    files = FileOptions.of(known) if same else USUAL
    if stays_on_disk(name):
        transform = (
            recipe_of(run).eval_transform(network.resolution)
            if run and same
            else EvalTransform(resolution=network.resolution)
        )
        encoded = images_for(home, network, name, data_dir, files, training=request.training)
        return _from_disk(request, name, encoded, transform, trained_on, device, progress)
    seed = run.config.get("seed", 0) if run and same else 0
    size = known.get("size", DataOptions.size) if same else DataOptions.size
    options = DataOptions(
        name, data_dir, network.resolution, seed=seed, size=size, channels=network.in_channels, files=files
    )
    info, found = _loaded(home, network, options, trained_on, request.training)
    return _from_memory(request, info, found, device, progress)


def trained_from_disk(source: Path) -> bool:
    """Whether the images of a run's or a retraining's folder stay on disk; true where it says nothing."""
    inner = source / RETRAINING
    card = DataCard.load(inner if inner.is_dir() else source)
    if card is not None:
        return stays_on_disk(card.name)
    known = RunFolder(source).config.get("data")
    return not isinstance(known, dict) or stays_on_disk(str(known.get("name")))


def evaluate_shown(request: ImageRequest, device: torch.device, *, progress: bool, say: Say) -> TopAccuracies:
    """What a trained network gets right of the test images.

    Raises:
        SeNasError: the network or the images cannot be read, or do not fit each other.
    """
    network, file, home = trained_network(request, say)
    images = shown_images(request, home, file.network, device, progress)
    for line in images.notes:
        say(line)
    return top_accuracies(network.to(device), images.batches("evaluating"), device)


def _loaded(
    home: Path, network: NetworkSpec, options: DataOptions, trained_on: DataCard | None, training: bool
) -> tuple[DataInfo, ImageSet]:
    """The test images, or those of the training, normalised as those of the training were."""
    info, trained_with = load_train(options)
    check_channels(home, network, info.channels)
    check_classes(home, network, info.class_names)
    if trained_on is not None:
        info = replace(info, mean=trained_on.mean, std=trained_on.std)
    return info, trained_with if training else load_test(options)


def _from_memory(
    request: ImageRequest, info: DataInfo, found: ImageSet, device: torch.device, progress: bool
) -> ShownImages:
    images = DeviceImages(info, found, device)
    indices = torch.arange(0, len(found), _stride(len(found), request.images))

    def batches(words: str) -> Iterable[tuple[Tensor, Tensor]]:
        cut = images.evaluate_batches(indices, request.batch_size)
        return _shown(cut, words, len(indices), request.batch_size, progress)

    return ShownImages(info.name, info.class_names, len(found), batches, found.notes)


def _from_disk(
    request: ImageRequest,
    data: str,
    encoded: EncodedImages,
    transform: EvalTransform,
    trained_on: DataCard | None,
    device: torch.device,
    progress: bool,
) -> ShownImages:
    stride = _stride(len(encoded), request.images)
    mean, std = (trained_on.mean, trained_on.std) if trained_on else normalisation(encoded)
    stream = EvaluationStream(  # of the first of so many ranks: every stride-th image
        encoded,
        transform,
        batch_size=request.batch_size,
        ranks=stride,
        workers=request.workers,
        pin_memory=pins(device),
    )

    def batches(words: str) -> Iterable[tuple[Tensor, Tensor]]:
        on_device = StreamedHeldOut(stream, device, mean, std)
        return _shown(on_device, words, -(-len(encoded) // stride), request.batch_size, progress)

    return ShownImages(data, encoded.classes, len(encoded), batches, encoded.notes)


def _stride(images: int, most: int | None) -> int:
    """From one image that is looked at to the next."""
    return 1 if most is None else -(-images // most)


def _shown(
    batches: Iterable[tuple[Tensor, Tensor]], words: str, images: int, batch_size: int, progress: bool
) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches under a progress bar."""
    return tracked(batches, words, -(-images // batch_size), wanted=progress)
