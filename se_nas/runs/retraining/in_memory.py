"""Training the network of an answer, or of an exported architecture, on images that fit the memory."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.transforms import EvalTransform
from se_nas.data.sources import check_test, load_test, load_train
from se_nas.hardware.device import pin_threads
from se_nas.hardware.distributed import Ranks, join_ranks
from se_nas.hardware.environment import describe_environment, resumed_elsewhere
from se_nas.hardware.lines import Say, silent
from se_nas.records.models.environment import Environment
from se_nas.records.models.history import HISTORY, write_history
from se_nas.records.models.run_result import LedgerEntry, RetrainResult, RetrainSummary, TrainingPhase
from se_nas.records.models.started_from import StartedFrom
from se_nas.records.record import read_record, write_record
from se_nas.runs.networks.open_architecture import check_channels, open_architecture
from se_nas.runs.retraining.extending import all_phases
from se_nas.runs.retraining.job import Job
from se_nas.runs.retraining.start import Start, open_start
from se_nas.runs.retraining.teacher import teacher_of_recipe
from se_nas.runs.run_file import completed
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.search.certificate import extend_certificate
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.training.images import test_transform
from se_nas.training.in_memory import Retrained, train_network
from se_nas.training.initial_weights import InitialWeights
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import whole_recipe
from se_nas.training.train import Outcome
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS, DataCard, save_weights


def retrain(
    file: ArchitectureFile,
    recipe: Recipe,
    info: DataInfo,
    train: ImageSet,
    options: DataOptions,
    *,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    progress: bool,
    ranks: Ranks | None = None,
    workers: int = 0,
    teacher: nn.Module | None = None,
    keep_every: int | None = None,
    initial: InitialWeights | None = None,
    say: Say = silent,
) -> Retrained:
    """Train the network of `file`, from scratch or from `initial`; `folder` gets what `load_trained` reads."""
    ranks = ranks or Ranks()
    with ranks.together():
        test = load_test(options)
    if ranks.first:
        for line in test.notes:
            say(line)
    trained = train_network(
        file.network,
        recipe,
        info,
        train,
        test,
        device=device,
        seed=seed,
        folder=folder,
        resume=resume,
        workers=workers,
        ranks=ranks,
        teacher=teacher,
        keep_every=keep_every,
        initial=initial,
        progress=progress,
    )
    if ranks.first:
        write_history(folder / HISTORY, trained.history)
        save_architecture(folder / ARCHITECTURE, replace(file, scaled={}))
        tested = test_transform(recipe, info) or EvalTransform(info.resolution, 1.0, "bilinear")
        DataCard.of(info.name, info.class_names, info.mean, info.std, tested).save(folder)
        save_weights(folder / WEIGHTS, trained.network, trained.average, accuracies=trained.accuracies)
    return trained


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    file: ArchitectureFile
    recipe: Recipe
    info: DataInfo
    train: ImageSet
    options: DataOptions
    teacher: nn.Module | None
    start: Start
    begun: bool


def retrain_exported(job: Job, device: torch.device, *, resume: bool, progress: bool, say: Say) -> Retrained | None:
    """Do a job, on every rank that torchrun started; a job that it starts again, once begun, resumes.

    Returns:
        What came of it; None on ranks other than the first.

    Raises:
        SeNasError: bad input, on the first rank alone; the training cannot go on.
    """
    pin_threads()
    with ExitStack() as work, join_ranks(device) as (ranks, own_device):
        with ranks.together():
            if ranks.first:
                work.enter_context(alone_in(job.folder))
            say = say if ranks.first else silent
            prepared = _prepare(job, ranks, own_device, resume or ranks.was_begun(), say)
        trained = retrain(
            prepared.file,
            prepared.recipe,
            prepared.info,
            prepared.train,
            prepared.options,
            device=own_device,
            seed=job.seed,
            folder=job.folder,
            resume=ranks.from_first(prepared.begun),
            progress=progress,
            ranks=ranks,
            workers=job.workers,
            teacher=prepared.teacher,
            keep_every=job.keep_every,
            initial=prepared.start.initial,
            say=say,
        )
        if not ranks.first:
            return None
        result = RetrainResult(
            data=job.data.name,
            seed=job.seed,
            retrain=retrained(
                trained,
                prepared.recipe,
                all_phases(job.phases, prepared.recipe, trained),
                prepared.start.record,
            ),
            environment=read_record(Environment, job.folder / "environment.json"),
        )
        if prepared.start.record is not None:  # the search's own may be of another classifier
            told = {"data": result.data, **result.retrain.plain()}
            certificate = extend_certificate(job.search_certificate, prepared.file.network, own_device.type, told, say)
            write_record(job.folder / "certificate.json", certificate)
        write_record(job.folder / "result.json", result)
        return trained


def _prepare(job: Job, ranks: Ranks, device: torch.device, resume: bool, say: Say) -> _Prepared:
    """Read and check all that a training needs, and mark the folder as holding it."""
    recipe = job.read_recipe(ranks.size)
    file = open_architecture(job.architecture)
    options = replace(job.data, resolution=file.network.resolution, channels=file.network.in_channels)
    check_test(options)  # before the folder is marked: what is corrected may be another data set
    info, train = load_train(options)
    for line in train.notes:
        say(line)
    check_channels(job.architecture, file.network, info.channels)
    spec = replace(file.network, head=replace(file.network.head, classes=info.classes))
    start = open_start(job, recipe, spec, info.class_names, info.mean, info.std)
    info = replace(info, mean=start.normalisation.mean, std=start.normalisation.std)
    teacher = teacher_of_recipe(job.teacher, recipe, info.class_names, info.mean, info.std, device)
    for line in start.lines:
        say(line)
    if start.record is not None:
        job.check_certificate()
    data = job.data
    resolved = {
        "network": json.loads(json.dumps(spec.to_dict())),
        "data": {"name": data.name, "dir": str(data.data_dir.resolve()) if data.data_dir else None, "size": data.size}
        | data.files.stated()
        | start.stated(),
        "recipe": recipe.model_dump(mode="json"),
        "teacher": asdict(job.teacher) if job.teacher else None,
        "weights": start.initial.digest if start.initial else None,
        "seed": job.seed,
    }
    run = RunFolder(job.folder)
    begun = ranks.first and resumes(run, resolved, resume, device, say)
    if ranks.first and not begun:
        write_record(job.folder / "environment.json", describe_environment(device.type))
        run.begin(resolved)
    if ranks.first:
        ranks.mark_begun()
    return _Prepared(
        file=replace(file, network=spec),
        recipe=recipe,
        info=info,
        train=train,
        options=options,
        teacher=teacher,
        start=start,
        begun=begun,
    )


def resumes(run: RunFolder, resolved: dict[str, object], resume: bool, device: torch.device, say: Say) -> bool:
    """Whether a folder holds this very training; until that has a checkpoint, its recipe may be corrected.

    Raises:
        OutputError: it holds a training and `resume` is not given.
        ConfigError: it holds another one.
    """
    if not run.has_begun(resume):
        return False

    def whole(stored: dict[str, object]) -> dict[str, object]:
        recipe = completed(Recipe, whole_recipe(stored.get("recipe")), str(run / "config.yaml"))
        return {"teacher": None, **stored, "recipe": recipe}

    corrections = run.corrections(resolved, whole, None if any(run.path.glob("checkpoint*")) else r"recipe\..*")
    for line in (*corrections, *resumed_elsewhere(run / "environment.json", device.type)):
        say(line)
    if corrections:
        run.begin(resolved)
    return True


def spent(part: str, training: Outcome) -> LedgerEntry:
    """What a training took, as a part of a run."""
    return LedgerEntry(part=part, seconds=training.seconds, cpu_seconds=training.cpu_seconds, images=training.images)


def retrained(
    trained: Retrained,
    recipe: Recipe,
    phases: tuple[TrainingPhase, ...] | None = None,
    started_from: StartedFrom | None = None,
) -> RetrainSummary:
    """What `result.json` says of a training."""
    return RetrainSummary(
        epochs=recipe.epochs,
        seconds=trained.seconds,
        images=trained.images,
        test_accuracy=trained.test_accuracy,
        ema_test_accuracy=trained.ema_test_accuracy,
        balanced_accuracy=trained.history[-1].balanced_accuracy,
        train_accuracy=trained.history[-1].accuracy,
        test_images=trained.test_images,
        phases=phases,
        started_from=started_from,
    )
