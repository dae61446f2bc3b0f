"""Training the network of a run's answer, on the images that the run searched on, in memory or on disk."""

from __future__ import annotations

from se_nas.data.sources import stays_on_disk
from se_nas.records.models.run_result import ImageNetResult, LedgerEntry, RetrainSummary
from se_nas.records.run_log import logging_to
from se_nas.runs.prepare import Say, Setting
from se_nas.runs.retraining.in_memory import retrain, retrained, spent
from se_nas.runs.retraining.job import Job
from se_nas.runs.retraining.on_disk import retrain_from_disk
from se_nas.runs.run_folder import RETRAINING
from se_nas.search.answer import Answer
from se_nas.space.architecture_file import ArchitectureFile
from se_nas.training.recipe import Recipe

Training = tuple[RetrainSummary, LedgerEntry]
"""What `result.json` says of it, and what it took."""


def retrain_answer(
    setting: Setting, recipe: Recipe, answer: Answer, *, resume: bool, progress: bool, say: Say
) -> Training:
    """Train the answer from scratch, as it was searched, or go on with that; the run's folder gets its files.

    Raises:
        SeNasError: see `retrain` and `retrain_from_disk`.
    """
    with logging_to(setting.config.loggers):
        if stays_on_disk(setting.options.name):
            return _from_disk(setting, recipe, resume=resume, progress=progress, say=say)
        info, train, options = setting.images_at(answer.network.resolution)
        trained = retrain(
            ArchitectureFile.of(setting.space, answer.architecture),
            recipe,
            info,
            train,
            options,
            device=setting.device,
            seed=setting.config.seed,
            folder=setting.run / RETRAINING,
            resume=resume,
            progress=progress,
            say=say,
        )
    return retrained(trained, recipe), spent("retraining", trained)


def _from_disk(setting: Setting, recipe: Recipe, *, resume: bool, progress: bool, say: Say) -> Training:
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
    result = retrain_from_disk(job, setting.device, resume=resume, progress=progress, say=say)
    assert result is not None  # there is one rank
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
