"""Retraining on ImageNet, or other images that stay on disk, and evaluating what came of it; alone or on many ranks."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from se_nas.data.file_options import FileOptions
from se_nas.data.on_disk.encoded_images import EncodedImages
from se_nas.data.on_disk.normalisation import normalisation
from se_nas.data.on_disk.stream import EvaluationStream
from se_nas.data.on_disk.transforms import MEAN, STD
from se_nas.data.sources import DATASETS, open_on_disk, stays_on_disk
from se_nas.errors import ConfigError, counted
from se_nas.hardware.device import pin_threads, pins
from se_nas.hardware.distributed import Ranks, join_ranks
from se_nas.hardware.environment import describe_environment
from se_nas.hardware.lines import Say, silent
from se_nas.hardware.progress_bar import tracked
from se_nas.records.models.environment import Environment
from se_nas.records.models.history import HISTORY, write_history
from se_nas.records.models.run_result import ImageNetLedger, ImageNetResult, ImageNetSummary
from se_nas.records.record import read_record, write_record
from se_nas.report.pages.retraining import write_retrain_report
from se_nas.runs.data_folder import data_folder
from se_nas.runs.networks.open_architecture import check_channels, open_architecture
from se_nas.runs.retraining.extending import all_phases
from se_nas.runs.retraining.in_memory import resumes
from se_nas.runs.retraining.job import Job
from se_nas.runs.retraining.start import Start, open_start
from se_nas.runs.retraining.teacher import teacher_of_recipe
from se_nas.runs.run_folder import RETRAINING, RunFolder, alone_in
from se_nas.search.certificate import extend_certificate
from se_nas.space.architecture_file import ArchitectureFile, network_for, save_architecture
from se_nas.space.specs import NetworkSpec
from se_nas.training.evaluate import TopAccuracies, top_accuracies
from se_nas.training.images import StreamedHeldOut, check_for_disk, images_on_disk
from se_nas.training.metrics import print_line
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import stored_recipe
from se_nas.training.train import HeldOut, Outcome, train
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS, DataCard, check_classes, load_trained, save_weights


def retrain_from_disk(
    job: Job,
    device: torch.device,
    *,
    resume: bool,
    progress: bool,
    say: Say,
    ranks: Ranks | None = None,
) -> ImageNetResult | None:
    """Do a job, on every rank that torchrun started; a job that it starts again, once begun, resumes.

    Args:
        ranks: who do it, where they have met already; `device` is then this one's.

    Returns:
        What `result.json` holds; None on ranks other than the first.

    Raises:
        SeNasError: bad input, on the first rank alone; the training cannot go on.
    """
    pin_threads()
    with ExitStack() as work:
        with join_ranks(device) if ranks is None else nullcontext((ranks, device)) as (ranks, own_device):
            with ranks.together():
                if ranks.first:
                    work.enter_context(alone_in(job.folder))
                resume = resume or ranks.was_begun()
                prepared = _prepare(job, ranks, own_device, resume, say if ranks.first else silent)
            begun = ranks.from_first(prepared.begun)
            with ranks.together():
                images, held_out = images_on_disk(
                    prepared.recipe,
                    prepared.spec.resolution,
                    prepared.train,
                    prepared.held_out,
                    ranks=ranks,
                    device=own_device,
                    seed=job.seed,
                    workers=job.workers,
                    max_damaged=job.data.files.max_damaged,
                    say=_to_screen,
                    mean=prepared.start.normalisation.mean,
                    std=prepared.start.normalisation.std,
                )
            training = train(
                prepared.spec,
                prepared.recipe,
                images,
                HeldOut(held_out, {"top1": "val_top1", "top5": "val_top5"}, keep_best=True),
                ranks=ranks,
                device=own_device,
                seed=job.seed,
                folder=job.folder,
                resume=begun,
                teacher=prepared.teacher,
                keep_every=job.keep_every,
                initial=prepared.start.initial,
                progress=progress,
            )
            if not ranks.first:
                return None
            save_weights(
                job.folder / WEIGHTS,
                training.network,
                training.average,
                accuracies=training.accuracies,
                epoch=prepared.recipe.epochs - 1,
            )
            result = _conclude(job, prepared, training, ranks, own_device, say)
        _report(job.folder, say)
    return result


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    spec: NetworkSpec
    recipe: Recipe
    train: EncodedImages
    held_out: EncodedImages
    teacher: nn.Module | None
    start: Start
    begun: bool


def _prepare(job: Job, ranks: Ranks, device: torch.device, resume: bool, say: Say) -> _Prepared:
    """Read and check all that a training needs, and mark the folder as holding it."""
    recipe, options = job.read_recipe(ranks.size), job.data
    file = open_architecture(job.architecture, job.space)
    spec = network_for(file, options.name) if job.scaled else file.network
    check_for_disk(recipe, spec.in_channels)
    train, held_out = open_on_disk(options.name, options.data_dir, spec.in_channels, options.files)
    check_channels(job.architecture, spec, train.channels)
    for line in (*train.notes, *held_out.notes):
        say(line)
    if recipe.batch_size > len(train):
        problem = f"batch_size: must be at most the number of training images, {len(train)}"
        raise ConfigError("recipe", [f"{problem}, but got {recipe.batch_size}"])
    spec = replace(spec, head=replace(spec.head, classes=len(train.classes)))
    start = open_start(job, recipe, spec, train.classes, *normalisation(train))
    mean, std = start.normalisation.mean, start.normalisation.std
    teacher = teacher_of_recipe(job.teacher, recipe, train.classes, mean, std, device)
    for line in start.lines:
        say(line)
    job.check_certificate()
    resolved = {
        "network": json.loads(json.dumps(spec.to_dict())),
        "data": {
            "name": options.name,
            "dir": str(options.data_dir.resolve()) if options.data_dir else None,
            "train": len(train),
            "val": len(held_out),
            "digest": _digest(train, held_out),
            **options.files.stated(),
            **start.stated(),
        },
        "recipe": recipe.model_dump(mode="json"),
        "teacher": asdict(job.teacher) if job.teacher else None,
        "weights": start.initial.digest if start.initial else None,
        "seed": job.seed,
    }
    run = RunFolder(job.folder)
    begun = ranks.first and resumes(run, resolved, resume, device, say)
    if ranks.first and not begun:
        write_record(run / "environment.json", describe_environment(device.type))
        tested = recipe.eval_transform(spec.resolution)
        DataCard.of(options.name, train.classes, mean, std, tested).save(job.folder)
        # as scaled, too, so that the file can be trained again whatever its size
        own = ArchitectureFile(file.architecture, file.space_name, spec, {options.name: spec})
        save_architecture(run / ARCHITECTURE, own)
        run.begin(resolved)
    if ranks.first:
        ranks.mark_begun()
    where = f"{ranks.size} ranks" if ranks.size > 1 else "1 process"
    say(
        f"{len(train):,} training and {len(held_out):,} held-out images of {len(train.classes):,} classes, "
        f"{counted(recipe.epochs, 'epoch')} in batches of {recipe.batch_size} on {device.type} ({where})"
    )
    return _Prepared(
        spec=spec,
        recipe=recipe,
        train=train,
        held_out=held_out,
        teacher=teacher,
        start=start,
        begun=begun,
    )


def _digest(*halves: EncodedImages) -> str:
    """Sixteen hexadecimal digits of the classes and of which image is of which class."""
    digest = hashlib.sha256(json.dumps([list(half.classes) for half in halves]).encode())
    for half in halves:
        digest.update(half.labels.tobytes())
    return digest.hexdigest()[:16]


def _conclude(
    job: Job,
    prepared: _Prepared,
    training: Outcome,
    ranks: Ranks,
    device: torch.device,
    say: Say,
) -> ImageNetResult:
    """Write history, certificate and result."""
    run, recipe, last = job.folder, prepared.recipe, training.history[-1]
    write_history(run / HISTORY, training.history)
    environment = read_record(Environment, run / "environment.json")
    named = {prepared.held_out.name(index) for index in range(len(prepared.held_out))} if training.damaged else set()
    left_out = len(named.intersection(training.damaged))
    retrained = ImageNetSummary(
        data=job.data.name,
        classes=len(prepared.train.classes),
        recipe=job.recipe if isinstance(job.recipe, str) else job.whose,
        source=recipe.source,
        epochs=recipe.epochs,
        seed=job.seed,
        top1=last.of("val_top1"),
        top5=last.of("val_top5"),
        ema_top1=last.of("ema_val_top1"),
        ema_top5=last.of("ema_val_top5"),
        balanced_accuracy=last.balanced_accuracy,
        best=training.best,
        train_accuracy=last.accuracy,
        held_out_images=len(prepared.held_out) - left_out,
        damaged_images=len(training.damaged),
        phases=all_phases(job.phases, recipe, training),
        started_from=prepared.start.record,
    )
    ledger = ImageNetLedger(
        seconds=training.seconds,
        device=device.type,
        ranks=ranks.size,
        device_hours=training.seconds * ranks.size / 3600,
        images=training.images,
        images_per_second=training.images / training.seconds,
    )
    certificate = extend_certificate(job.search_certificate, prepared.spec, device.type, retrained.plain(), say)
    write_record(run / "certificate.json", certificate)
    result = ImageNetResult(retrain=retrained, ledger=ledger, environment=environment)
    write_record(run / "result.json", result)
    return result


def _report(folder: Path, say: Say) -> None:
    """Write the page of a training whose results are written: no fault in drawing may end that training as failed."""
    try:
        say(f"report: {write_retrain_report(folder)}")
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"the report could not be written ({reason}); `se-nas report {folder}` tries again")


@dataclass(frozen=True)
class OnDiskEvaluation:
    """What a network gets right of the images that could be read, at a resolution, and how many were left out."""

    accuracies: TopAccuracies
    resolution: int
    damaged: int


def evaluate_from_disk(
    source: Path,
    data_dir: Path | None,
    device: torch.device,
    *,
    weights: Path | None = None,
    average: bool | None = None,
    resolution: int | None = None,
    crop: float | None = None,
    batch_size: int = 128,
    workers: int = 4,
    max_damaged: int = 100,
    val_labels: Path | None = None,
    progress: bool = True,
    say: Say,
) -> OnDiskEvaluation | None:
    """The accuracy of a retraining on the held-out images, each counted once whatever the number of ranks.

    Args:
        source: the folder of a retraining, or of a run whose answer was retrained.
        data_dir: of the images; of a run by default the one that it names.
        weights, average: see `training.trained_network.load_trained`.
        resolution, crop: of the test images; by default as the recipe tested.
        val_labels: the classes of images that lie unsorted; by default as in the training, as all else of their files.

    Returns:
        What the first rank knows; None on the others.

    Raises:
        SeNasError: the folder, its weights or the images are missing, damaged or do not fit each other.
    """
    pin_threads()
    if (source / RETRAINING).is_dir():
        data_dir = data_dir or _named_folder(RunFolder(source))
        source = source / RETRAINING
    with join_ranks(device) as (ranks, own_device):
        with ranks.together():
            run = RunFolder(source)
            recipe = recipe_of(run)
            network, file, taken = load_trained(source, weights, average=average)
            if ranks.first:
                say(taken.words())
            known = FileOptions.of(run.config["data"])
            known = replace(known, val_labels=val_labels or known.val_labels)
            held_out = images_for(source, file.network, data_of(run), data_dir, known)
            mean, std = (card.mean, card.std) if (card := DataCard.load(source)) else (MEAN, STD)
            transform = recipe.eval_transform(file.network.resolution)
            transform = replace(transform, resolution=resolution or transform.resolution, crop=crop or transform.crop)
            images = EvaluationStream(
                held_out,
                transform,
                batch_size=batch_size,
                rank=ranks.rank,
                ranks=ranks.size,
                workers=workers,
                max_damaged=max_damaged,
                pin_memory=pins(own_device),
            )
            for line in held_out.notes if ranks.first else ():
                _to_screen(line)
        network = network.to(own_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        batches = -(-len(held_out) // (ranks.size * batch_size))
        looked_at = StreamedHeldOut(images, own_device, mean, std)
        shown = tracked(looked_at, "evaluating", batches, wanted=progress and ranks.first)
        found = top_accuracies(network, shown, own_device, ranks, recipe.precision)
        damaged = sum(len(part) for part in ranks.gathered(dict(images.damaged)))
        return OnDiskEvaluation(found, transform.resolution, damaged) if ranks.first else None


def _named_folder(run: RunFolder) -> Path | None:
    data = run.config.get("data")
    word = data.get("dir") if isinstance(data, dict) else None
    return data_folder(run / "config.yaml", word) if isinstance(word, str) else None


def data_of(run: RunFolder) -> str:
    """The data set of a retraining on images that stay on disk; ConfigError where the folder holds another run."""
    data = run.config.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or name not in DATASETS or not stays_on_disk(name):
        known = ", ".join(filter(stays_on_disk, DATASETS))
        raise ConfigError(str(run.path), [f"must be the folder of a retraining on {known}, but holds another run"])
    return name


def recipe_of(run: RunFolder) -> Recipe:
    """The recipe of such a retraining."""
    data_of(run)
    return stored_recipe(run / "config.yaml", run.config.get("recipe"))


def images_for(
    folder: Path, network: NetworkSpec, data: str, data_dir: Path | None, files: FileOptions, *, training: bool = False
) -> EncodedImages:
    """Held-out images, or those of the training, for the network of a retraining's folder.

    Raises:
        SeNasError: they cannot be opened, or the network has not their classes and channels.
    """
    train, held_out = open_on_disk(data, data_dir, network.in_channels, files)
    found = train if training else held_out
    check_channels(folder, network, found.channels)
    check_classes(folder, network, found.classes)
    return found


def _to_screen(line: str) -> None:
    """A line for whoever watches, of every rank: each has images of its own."""
    print_line(Console(stderr=True), line)
