"""The command that trains a network that was found, or a published one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from se_nas.cli.options import (
    DataDir,
    Device,
    Download,
    ImageFiles,
    Loggers,
    Plugins,
    Quiet,
    Resume,
    parse_changes,
    with_options,
)
from se_nas.cli.screen import say, stop_explained, tune_allocator
from se_nas.errors import ConfigError, SeNasError, counted
from se_nas.records.bounds import MOST_COUNT, MOST_SEED, MOST_WORKERS
from se_nas.records.shipped import find_space, place_of_results

if TYPE_CHECKING:
    from se_nas.runs.networks.teacher import Teacher
    from se_nas.runs.retraining.extending import Extension
    from se_nas.runs.retraining.job import Job
    from se_nas.runs.subnets.fine_tuning import FineTuning

#: Heading in the help of options that only such a retraining has.
_ON_DISK = "With images that stay on disk, such as imagenet"
ON_DISK_RECIPE, SMALL_RECIPE = "mobile-150", "small-images"
Workers = Annotated[int, typer.Option(min=0, max=MOST_WORKERS, help="Processes of each rank that decode images.")]


@dataclass(frozen=True)
class RecipeOptions:
    """By what the network is trained."""

    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"Recipe: a YAML file or one of {{se_nas.records.shipped:recipes}}. By default {ON_DISK_RECIPE} for "
            f"images that stay on disk, and {SMALL_RECIPE} for the others."
        ),
    ] = None
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE replaces a value of the recipe, as in mixup=0.2; may be repeated."),
    ] = None
    epochs: Annotated[int | None, typer.Option(help="Epochs to train, in place of the recipe's.")] = None
    extend: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_COUNT,
            metavar="EPOCHS",
            help="Train a finished network on for so many epochs: ARCHITECTURE is then the folder of a retraining, or "
            "of a run whose winner was retrained. Images, seed and recipe are as they were; the learning rate restarts "
            "at a tenth of its first peak, or at --learning-rate, and falls as a cosine to the recipe's floor.",
        ),
    ] = None
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN|FILE",
            help="Train on from trained weights, in place of ARCHITECTURE: the folder of a run, whose subnet is made "
            "where there is none yet, of a subnet or of a retraining, or a file of weights in one. By default with the "
            "images and the recipe of these weights, at a tenth of its learning rate, in fine-tuned/ beside them. With "
            "--data of another set it is a transfer, in transfer-DATA/: the classifier is replaced.",
        ),
    ] = None
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="Parts of trained weights that stay as they are: stem, numbers of stages, head (what stands before "
            "the classifier), or all of these; with commas, such as stem,1,2.",
        ),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(help="Batch size over all ranks together, in place of the recipe's.")
    ] = None
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate, in place of the recipe's.")] = None

    def changes(self) -> dict[str, object]:
        """What is said otherwise than the recipe, by name; ConfigError where two say it."""
        shorthand: dict[str, tuple[str, object]] = {
            "epochs": ("--epochs", self.epochs),
            "batch_size": ("--batch-size", self.batch_size),
            "learning_rate": ("--learning-rate", self.learning_rate),
            "freeze": ("--freeze", self.freeze),
        }
        return with_options(parse_changes(self.change), shorthand)


@dataclass(frozen=True)
class TeacherOptions:
    """By whom the network is taught, and what is kept of it."""

    teacher: Annotated[
        str | None,
        typer.Option(help="Teacher for distillation: the folder of a retraining, or the name of a timm model."),
    ] = None
    teacher_checkpoint: Annotated[
        Path | None, typer.Option(help="File of the teacher's weights, which a timm model needs.")
    ] = None
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_WORKERS,
            help="Processes of each rank that decode images. Images in memory they augment, if the recipe asks for "
            "more than a padded crop and a mirror image.",
        ),
    ] = 4
    keep_every: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_COUNT, metavar="N", help="Keep the weights of every N-th epoch, in epochs/."),
    ] = None

    def teacher_named(self) -> Teacher | None:
        """The teacher, if there is one."""
        from se_nas.runs.networks.teacher import Teacher

        if self.teacher is None:
            if self.teacher_checkpoint is not None:
                raise ConfigError("--teacher-checkpoint", ["must be left out without --teacher"])
            return None
        return Teacher(self.teacher, str(self.teacher_checkpoint) if self.teacher_checkpoint else None)


@dataclass(frozen=True)
class TrainingOptions:
    """What every retraining has."""

    data: Annotated[
        str | None,
        typer.Option(
            help="Data set: one of {se_nas.data.sources:DATASETS}; by default digits. imagenet stands for any images "
            "in its layout, which stay on disk; the others are held in memory."
        ),
    ] = None
    data_dir: DataDir = None
    download: Download = False
    space: Annotated[
        Path | None,
        typer.Option(
            help="File of the architecture's space, whose `scaling:` is used as it is now.", rich_help_panel=_ON_DISK
        ),
    ] = None
    weights: Annotated[
        Path | None,
        typer.Option(
            help="File of weights to start from: those of a retraining, or of a timm model of this architecture (a "
            "state_dict that was written by torch.save). Tensors are paired by their order and shape alone, so take "
            "the timm model that the baseline's header names: one that looks like it (tf_..., legacy_...) loads as "
            "well and gives wrong outputs. A classifier for other classes starts from random weights."
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_SEED,
            help="Seed for the initial weights, the order of the images and the augmentation; by default 0.",
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the weights. By default retrain-DATA beside the file, or NAME-DATA for a published "
            "network; with --extend the folder extended in that of the retraining.",
        ),
    ] = None
    plugin: Plugins = None
    logger: Loggers = None
    device: Device = "auto"
    resume: Resume = False
    quiet: Quiet = False

    @property
    def images(self) -> str:
        """The data set."""
        return self.data or "digits"

    def folder(self, architecture: Path) -> Path:
        """Where the retraining goes."""
        name = f"retrain-{self.images}" if architecture.suffix == ".json" else f"{architecture.stem}-{self.images}"
        return self.output or place_of_results(architecture) / name


def retrain(
    architecture: Annotated[
        Path | None,
        typer.Argument(
            metavar="[ARCHITECTURE]",
            show_default=False,
            help="Network to train: the architecture.json of a search, the YAML file of a published network, or the "
            "name of a shipped one such as mobilenetv3_large. Left out with --from.",
        ),
    ] = None,
    *,
    recipe: RecipeOptions,
    teacher: TeacherOptions,
    files: ImageFiles,
    options: TrainingOptions,
) -> None:
    """Train a network from scratch or from trained weights, also on other images than these know, and report its
    accuracy on the test images.

    For images on disk, such as ImageNet's, the network is scaled as its space says. With the same options,
    `torchrun --standalone --nproc-per-node N -m se_nas retrain ...` trains on N devices, whatever the images.
    """
    from se_nas.data.sources import DATASETS, stays_on_disk
    from se_nas.hardware.rank import rank_of_environment
    from se_nas.runs.networks.open_architecture import open_architecture
    from se_nas.runs.subnets.fine_tuning import FineTuning, accuracy_lines
    from se_nas.runs.subnets.on_page import show_on_page

    going_on: Extension | FineTuning | None = None
    if recipe.from_ is not None:
        going_on = _fine_tuning(recipe.from_, architecture, recipe, files, options)
    elif architecture is None:
        raise ConfigError("ARCHITECTURE", ["must be given, or --from and what is trained, but got neither"])
    elif recipe.extend is not None:
        going_on = _extension(architecture, recipe, teacher, files, options)
    else:
        architecture = find_space(architecture)
    if going_on is not None:
        architecture = going_on.architecture
    assert architecture is not None
    tune_allocator()
    with suppress(SeNasError):  # imports its plugins, which may add the data set; a fault is told by the first rank
        open_architecture(architecture)
    data = options.images if going_on is None else going_on.data.name
    on_disk = data in DATASETS and stays_on_disk(data)
    usual = ON_DISK_RECIPE if on_disk else SMALL_RECIPE
    job = _job(architecture, recipe, teacher, files, options, going_on, usual)
    (_retrain_from_disk if on_disk else _retrain_in_memory)(job, options)
    if isinstance(going_on, FineTuning) and rank_of_environment() == 0:
        for line in accuracy_lines(going_on.folder):
            say(line)
        show_on_page(going_on.folder, say)


def _extension(
    source: Path, recipe: RecipeOptions, teacher: TeacherOptions, files: ImageFiles, options: TrainingOptions
) -> Extension:
    """The finished training that is trained on; what it has settled must not be said again."""
    from se_nas.hardware.rank import rank_of_environment
    from se_nas.runs.retraining.extending import open_extension

    given = {
        "--recipe": recipe.recipe is not None,
        "--epochs": recipe.epochs is not None,
        "--teacher": teacher.teacher is not None or teacher.teacher_checkpoint is not None,
        "--seed": options.seed is not None,
        "--data": options.data is not None,
    }
    _check_unsaid("--extend", "as in the training that goes on", given, files, options)
    changes = {name: value for name, value in recipe.changes().items() if name != "epochs"}
    extension = open_extension(source, recipe.extend or 0, changes, options.data_dir)
    if rank_of_environment() == 0:
        say(extension.words())
    return extension


def _check_unsaid(
    option: str, why: str, given: Mapping[str, bool], files: ImageFiles, options: TrainingOptions
) -> None:
    """Refuse what an option's folder has settled: the network, the images unless others are named, and what else is
    given.
    """
    from se_nas.data.file_options import USUAL

    same_images = options.data is None
    given = {
        **given,
        "--space": options.space is not None,
        "--weights": options.weights is not None,
        "--download": same_images and options.download,
        "how images are read": same_images and files.chosen() != USUAL,
    }
    if said := [name for name, is_said in given.items() if is_said]:
        raise ConfigError(option, [f"{', '.join(said)}: must be left out, {why}"])


def _fine_tuning(
    source: Path,
    architecture: Path | None,
    recipe: RecipeOptions,
    files: ImageFiles,
    options: TrainingOptions,
) -> FineTuning:
    """The weights that are trained on; a run's subnet is made where there is none yet."""
    from se_nas.data.in_memory.options import DataOptions
    from se_nas.data.sources import stays_on_disk
    from se_nas.hardware.rank import rank_of_environment
    from se_nas.runs.networks.open_architecture import open_architecture
    from se_nas.runs.run_file import load_plugins_of
    from se_nas.runs.run_folder import SUBNET
    from se_nas.runs.subnets.fine_tuning import accuracy_lines, no_weights, open_fine_tuning, weights_in
    from se_nas.runs.subnets.inherited import make_subnet
    from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS

    given = {"ARCHITECTURE": architecture is not None, "--extend": recipe.extend is not None}
    _check_unsaid("--from", "as the run says it", given, files, options)
    found, other, usual = weights_in(source), None, SMALL_RECIPE
    if found is None and not (source / "space.yaml").exists():
        raise no_weights(source)
    if found is not None:  # their plugins may add the data set; what else is wrong with the file is told later
        with suppress(SeNasError):
            open_architecture(found.with_name(ARCHITECTURE))
    load_plugins_of(source / "config.yaml")
    if options.data is not None:
        usual = ON_DISK_RECIPE if stays_on_disk(options.data) else SMALL_RECIPE
        other = DataOptions(
            options.data, options.data_dir, download=options.download, seed=options.seed or 0, files=files.chosen()
        )
    if found is None and rank_of_environment() == 0:
        own_images = options.data_dir if other is None else None
        make_subnet(source, (), source / SUBNET, data_dir=own_images, device=options.device, say=say)
        found = source / SUBNET / WEIGHTS
    if found is None:
        must = f"{source}: must have its subnet before several ranks train it: se-nas subnet {source}"
        raise ConfigError("--from", [must])
    fine_tuning = open_fine_tuning(found, recipe.recipe, usual, recipe.changes(), options.data_dir, other)
    accuracy_lines(fine_tuning.folder)  # a damaged record is told now, and not after the training
    if rank_of_environment() == 0:
        say(fine_tuning.words())
    return fine_tuning


def _job(
    architecture: Path,
    recipe: RecipeOptions,
    teacher: TeacherOptions,
    files: ImageFiles,
    options: TrainingOptions,
    going_on: Extension | FineTuning | None,
    usual: str,
) -> Job:
    """What the options ask for, by the `usual` recipe where they name none."""
    from se_nas.data.in_memory.options import DataOptions
    from se_nas.runs.retraining.job import Job
    from se_nas.runs.subnets.fine_tuning import FineTuning

    seed = options.seed or 0
    job = Job(
        architecture=architecture,
        data=DataOptions(options.images, options.data_dir, download=options.download, seed=seed, files=files.chosen()),
        folder=options.folder(architecture),
        recipe=recipe.recipe or usual,
        changes=recipe.changes(),
        space=options.space,
        teacher=teacher.teacher_named(),
        seed=seed,
        workers=teacher.workers,
        keep_every=teacher.keep_every,
        weights=options.weights,
    )
    if going_on is None:
        return job
    job = replace(job, folder=options.output or going_on.default_folder)
    if isinstance(going_on, FineTuning):
        return replace(
            job,
            data=going_on.data,
            recipe=going_on.recipe,
            changes={},
            weights=going_on.weights,
            same_classes=not going_on.transfers,
            scaled=False,
            whose=going_on.whose,
        )
    return job.going_on(going_on)


def _retrain_in_memory(job: Job, options: TrainingOptions) -> None:
    from se_nas.hardware.device import pick_device
    from se_nas.records.run_log import logging_to
    from se_nas.runs.retraining.in_memory import retrain_exported

    if options.space is not None:
        raise ConfigError("--space", [f"must be left out for images in memory, but got --data {options.images}"])
    with logging_to(options.logger), stop_explained():
        trained = retrain_exported(
            job, pick_device(options.device), resume=options.resume, progress=not options.quiet, say=say
        )
    if trained is None:  # a rank that does not speak
        return
    epochs = len(trained.history)
    how = f"{job.data.name}, {counted(epochs, 'epoch')}, seed {job.seed}"
    say(f"test accuracy: {trained.test_accuracy:.2%} ({how})")
    if trained.ema_test_accuracy is not None:
        say(f"with the averaged weights: {trained.ema_test_accuracy:.2%}")
    say(f"weights and history: {job.folder}")


def _retrain_from_disk(job: Job, options: TrainingOptions) -> None:
    from se_nas.cost.budget import format_cost
    from se_nas.hardware.device import pick_device
    from se_nas.records.models.certificate import Certificate
    from se_nas.records.record import read_record
    from se_nas.records.run_log import logging_to
    from se_nas.runs.retraining.on_disk import retrain_from_disk

    if options.download:
        raise ConfigError("--download", ["must be left out: no data set that stays on disk can be downloaded"])
    with logging_to(options.logger), stop_explained():
        result = retrain_from_disk(
            job, pick_device(options.device), resume=options.resume, progress=not options.quiet, say=say
        )
    if result is None:  # a rank that does not speak
        return
    found, ledger, best = result.retrain, result.ledger, result.retrain.best
    say(f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%} on {found.held_out_images:,} held-out images")
    if found.ema_top1 is not None:
        say(f"with the averaged weights: top-1 {found.ema_top1:.2%}, top-5 {found.ema_top5:.2%}")
    say(f"best: top-1 {best.top1:.2%} in epoch {best.epoch + 1} ({best.weights} weights)")
    part = read_record(Certificate, job.folder / "certificate.json").retrained
    for entry in part.costs if part else ():
        interval = f", 95 % {entry.ci95[0]:.3g} to {entry.ci95[1]:.3g}, n={entry.n}" if entry.ci95 else ""
        say(f"{entry.metric}: {format_cost(entry.metric, entry.value)} ({entry.how}{interval})")
    if found.damaged_images:
        say(f"left out as damaged: {counted(found.damaged_images, 'image')} ({job.folder / 'damaged.json'})")
    say(
        f"{ledger.images_per_second:,.1f} images/s, {ledger.device_hours:.3g} {ledger.device}-hours; "
        f"weights, history and certificate: {job.folder}"
    )
