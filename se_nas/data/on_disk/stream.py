"""Batches of encoded images, decoded and augmented in worker processes, that depend on the seed and the step alone.

The order of an epoch is a function of the seed and the epoch, and every random draw for an image one of the seed, the
epoch and its place in that order. So the pixels of a step are the same for any number of workers and ranks, and for a
run that was resumed. Repeated augmentation: https://arxiv.org/abs/1901.09335, as in DeiT, https://arxiv.org/abs/2012.12877
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from se_nas.data.image_file import MAX_DAMAGED
from se_nas.data.on_disk.encoded_images import StreamedImages
from se_nas.data.on_disk.stream_workers import Batch, DamageLog, EvaluationReader, Result, Task, TrainReader, results_of
from se_nas.data.on_disk.transforms import EvalTransform, TrainTransform
from se_nas.errors import DataError, counted
from se_nas.hardware.lines import Say


class TrainStream:
    """The training batches of one rank, decoded ahead of their use.

    Step s of an epoch has order[s * batch_size : (s + 1) * batch_size]; what is left over at the end is dropped. Of
    these images micro-batch a of rank r takes every (ranks * accumulate)-th, from a * ranks + r. In place of a damaged
    image stands the next sound one of the order.

    Args:
        images: to be read.
        transform: of every image.
        batch_size: of all ranks and micro-batches together.
        rank: which of the ranks this is, from 0.
        ranks: how many processes share each batch.
        accumulate: micro-batches to a step.
        seed: at least 0.
        workers: processes that decode; 0 decodes in this process, and leaves its random generators as they were.
        repeats: of an image within an epoch, in a row, each with its own draws; the epoch keeps its length.
        balanced: every class comes equally often in an epoch, which keeps its length.
        max_damaged: so many images may be damaged.
        pin_memory: put batches where a CUDA device copies from fastest.
        say: is given one line for every damaged image that is met first.
        damage: in place of max_damaged and say, a log that several streams share.

    Attributes:
        steps_per_epoch: whole batches in an epoch.
        damaged: name and reason of each damaged image that this rank met, complete for the batches returned.

    Raises:
        DataError: the batch does not divide, or is greater than the number of images.
    """

    def __init__(
        self,
        images: StreamedImages,
        transform: TrainTransform,
        *,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        accumulate: int = 1,
        seed: int = 0,
        workers: int = 0,
        repeats: int = 1,
        balanced: bool = False,
        max_damaged: int = MAX_DAMAGED,
        pin_memory: bool = False,
        say: Say | None = None,
        damage: DamageLog | None = None,
    ) -> None:
        least = {"batch_size": batch_size, "ranks": ranks, "accumulate": accumulate, "repeats": repeats}
        _check_at_least(1, least)
        _check_at_least(0, {"seed": seed, "workers": workers, "max_damaged": max_damaged})
        if batch_size % (ranks * accumulate):
            shares = f"{ranks} ranks x {accumulate} micro-batches"
            raise DataError(f"the batch size must be a multiple of {shares}, but got {batch_size}")
        if batch_size > len(images):
            raise DataError(
                f"an epoch must hold a whole batch of {batch_size}, but got {counted(len(images), 'image')}"
            )
        self.steps_per_epoch = len(images) // batch_size
        self._log = damage or DamageLog(max_damaged, say)
        self._reader = TrainReader(
            images,
            transform.build(),
            transform.resolution,
            seed=seed,
            repeats=repeats,
            max_damaged=self._log.limit,
            balanced=balanced,
        )
        self._batch_size = batch_size
        self._rank, self._ranks, self._accumulate = rank, ranks, accumulate
        self._workers, self._pin_memory = workers, pin_memory
        self._results: Generator[Result, None, None] | None = None
        self._next = (0, 0)

    @property
    def damaged(self) -> dict[str, str]:  # noqa: D102
        return self._log.found

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) the class of each image."""
        return self._reader.images.labels

    def micro_batches(self, epoch: int, step: int) -> list[Batch]:
        """This rank's part of one step: `accumulate` batches of batch_size / (ranks * accumulate) images.

        Steps that follow each other, also from one epoch to the next, stream; any other step begins anew.

        Raises:
            DataError: more images are damaged than may be, or a worker process died.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise DataError(f"an epoch has {self.steps_per_epoch} steps, but got step {step}")
        if self._results is None or self._next != (epoch, step):
            self.close()
            self._results = results_of(self._reader, self._tasks(epoch, step), self._workers, self._pin_memory)
        try:
            batches = [self._take(next(self._results)) for _ in range(self._accumulate)]
        except BaseException:
            self.close()
            raise
        self._next = (epoch, step + 1) if step + 1 < self.steps_per_epoch else (epoch + 1, 0)
        return batches

    def close(self) -> None:
        """End the worker processes; a later `micro_batches` starts new ones."""
        if self._results is not None:
            self._results.close()
            self._results = None

    def _take(self, result: Result) -> Batch:
        self._log.add(result.damaged)
        if result.batch is None:
            raise DataError(f"there must be an image that can be read, but all {len(self._reader.images)} are damaged")
        return result.batch

    def _tasks(self, epoch: int, step: int) -> Iterator[Task]:
        parts = self._ranks * self._accumulate
        while True:
            order = self._reader.order(epoch)
            for number in range(step, self.steps_per_epoch):
                batch = np.arange(number * self._batch_size, (number + 1) * self._batch_size)
                for part in range(self._rank, parts, self._ranks):
                    yield Task(epoch, batch[part::parts], order[batch[part::parts]])
            epoch, step = epoch + 1, 0


class EvaluationStream:
    """Every image exactly once over all ranks: iterating yields this rank's batches, the last one short.

    Ranks may have different numbers of batches. Damaged images are left out.

    Args:
        images: to be read.
        transform: of every image.
        batch_size: of one rank.
        rank: which of the ranks this is, from 0; it has the images rank, rank + ranks, ...
        ranks: how many processes share the images.
        workers: processes that decode, started by every iteration; 0 decodes in this process.
        max_damaged: so many images may be damaged.
        pin_memory: put batches where a CUDA device copies from fastest.
        say: is given one line for every damaged image that is met first.
        damage: in place of max_damaged and say, a log that several streams share.

    Attributes:
        damaged: name and reason of each damaged image that this rank met.

    Raises:
        DataError: an argument is out of its range; while iterating, more images are damaged than may be.
    """

    def __init__(
        self,
        images: StreamedImages,
        transform: EvalTransform,
        *,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        max_damaged: int = MAX_DAMAGED,
        pin_memory: bool = False,
        say: Say | None = None,
        damage: DamageLog | None = None,
    ) -> None:
        _check_at_least(1, {"batch_size": batch_size, "ranks": ranks})
        _check_at_least(0, {"workers": workers, "max_damaged": max_damaged})
        self._log = damage or DamageLog(max_damaged, say)
        self._reader = EvaluationReader(images, transform.build(), transform.resolution)
        self._indices = np.arange(rank, len(images), ranks)
        self._batch_size, self._workers, self._pin_memory = batch_size, workers, pin_memory

    @property
    def damaged(self) -> dict[str, str]:  # noqa: D102
        return self._log.found

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self._indices), self._batch_size)
        tasks = [self._indices[start : start + self._batch_size] for start in starts]
        with contextlib.closing(results_of(self._reader, tasks, self._workers, self._pin_memory)) as results:
            for result in results:
                self._log.add(result.damaged)
                if result.batch is not None:
                    yield result.batch


def _check_at_least(least: int, values: dict[str, int]) -> None:
    for name, value in values.items():
        if value < least:
            raise DataError(f"{name} must be at least {least}, but got {value}")
