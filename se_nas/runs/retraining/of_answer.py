"""Training the network of a run's answer, on the images that the run searched on, in memory or on disk."""

from __future__ import annotations

from se_nas.data.sources import stays_on_disk
from se_nas.hardware.distributed import Ranks
from se_nas.hardware.lines import Say
from se_nas.records.models.run_result import ImageNetResult, LedgerEntry, RetrainSummary
from se_nas.records.run_log import logging_to
from se_nas.runs.prepare import Setting
from se_nas.runs.retraining.in_memory import retrain, retrained, spent
from se_nas.runs.retraining.job import Job
from se_nas.runs.retraining.on_disk import retrain_from_disk
from se_nas.runs.run_folder import RETRAINING
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile
from se_nas.training.recipe import Recipe

Training = tuple[RetrainSummary, LedgerEntry]
"""What `result.json` says of it, and what it took."""


def retrain_answer(
    setting: Setting,
    recipe: Recipe,
    architecture: Architecture,
    *,
    ranks: Ranks,
    resume: bool,
    progress: bool,
    say: Say,
) -> Training | None:
    """Train the answer from scratch, as it was searched, or go on with that; the run's folder gets its files.

    Returns:
        None on ranks other than the first.

    Raises:
        SeNasError: see `retrain` and `retrain_from_disk`.
    """
    with logging_to(setting.config.loggers):
        if stays_on_disk(setting.options.name):
            return _from_disk(setting, recipe, ranks=ranks, resume=resume, progress=progress, say=say)
        with ranks.together():
            info, train, options = setting.images_at(setting.space.resolve(architecture).resolution)
        trained = retrain(
            ArchitectureFile.of(setting.space, architecture),
            recipe,
            info,
            train,
            options,
            device=setting.device,
            seed=setting.config.seed,
            folder=setting.run / RETRAINING,
            resume=resume,
            progress=progress,
            ranks=ranks,
            say=say,
        )
    if not ranks.first:
        return None
    return retrained(trained, recipe), spent("retraining", trained)


def _from_disk(
    setting: Setting, recipe: Recipe, *, ranks: Ranks, resume: bool, progress: bool, say: Say
) -> Training | None:
    job = Job(
        architecture=setting.run / "architecture.json",
        data=setting.options,
        folder=setting.run / RETRAINING,
        recipe=recipe,
        changes={},
        seed=setting.config.seed,
        workers=setting.config.data.workers,
        scaled=False,
    )
    result = retrain_from_disk(job, setting.device, ranks=ranks, resume=resume, progress=progress, say=say)
    if result is None:
        return None
    return _as_of_a_run(result), LedgerEntry(
        part="retraining", seconds=result.ledger.seconds, images=result.ledger.images
    )


def _as_of_a_run(result: ImageNetResult) -> RetrainSummary:
    """What a run says of a training whose own result lies in its folder; the held-out images were its test."""
    found = result.retrain
    return RetrainSummary(
        epochs=found.epochs,
        seconds=result.ledger.seconds,
        images=result.ledger.images,
        test_accuracy=found.top1,
        ema_test_accuracy=found.ema_top1,
        balanced_accuracy=found.balanced_accuracy,
        train_accuracy=found.train_accuracy,
        test_images=found.held_out_images,
    )
