"""Batches of encoded images, decoded and augmented in worker processes, that depend on the seed and the step alone.

The order of an epoch is a function of the seed and the epoch, and every random draw for an image one of the seed, the
epoch and its place in that order. So the pixels of a step are the same for any number of workers and ranks, and for a
run that was resumed. Repeated augmentation: https://arxiv.org/abs/1901.09335, as in DeiT, https://arxiv.org/abs/2012.12877
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import struct
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from se_nas.data.on_disk.transforms import EvalTransform, Pixels, TrainTransform
from se_nas.data.worker_processes import end_with_parent
from se_nas.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_DAMAGED = 100
_WINDOW = 16
"""Shards whose images are shuffled among each other; with 1,000 images each, 16,000 images."""

Batch = tuple[Tensor, Tensor]
"""(B, 3, H, W) uint8, channels_last, and (B,) int64."""


class StreamedImages(Protocol):
    """N images that are had one by one, such as `EncodedImages`; picklable, so that worker processes may have them.

    Attributes:
        labels: (N,) the class of each image.
        groups: see `EncodedImages`.
    """

    @property
    def labels(self) -> NDArray[np.int64]:  # noqa: D102
        ...

    @property
    def groups(self) -> NDArray[np.int64] | None:  # noqa: D102
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a person finds an image by."""
        ...

    def image(self, index: int) -> Image.Image:
        """The decoded image; nearly any exception where it is damaged."""
        ...


def shuffled_order(
    count: int, *, seed: int, epoch: int, repeats: int = 1, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The order in which one epoch takes its images: a function of the arguments alone.

    Args:
        count: number of images, at least 1.
        seed: at least 0.
        epoch: at least 0.
        repeats: each image comes so many times in a row, and only as many images as then fill the epoch.
        groups: (count,) numbers of files; images are then shuffled among those of several files only.

    Returns:
        (count,) indices of images.
    """
    rng = np.random.default_rng([seed, epoch])
    if groups is None:
        order = rng.permutation(count)
    else:
        members = np.argsort(groups, kind="stable")
        files = np.split(members, np.flatnonzero(np.diff(groups[members])) + 1)
        files = [files[number] for number in rng.permutation(len(files))]
        windows = (np.concatenate(files[start : start + _WINDOW]) for start in range(0, len(files), _WINDOW))
        order = np.concatenate([rng.permutation(window) for window in windows])
    return np.repeat(order[: -(-count // repeats)], repeats)[:count]


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
        max_damaged: so many images may be damaged.
        pin_memory: put batches where a CUDA device copies from fastest.
        report: is given one line for every damaged image that is met first.

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
        max_damaged: int = MAX_DAMAGED,
        pin_memory: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        least = {"batch_size": batch_size, "ranks": ranks, "accumulate": accumulate, "repeats": repeats}
        _check_at_least(1, least)
        _check_at_least(0, {"seed": seed, "workers": workers, "max_damaged": max_damaged})
        if batch_size % (ranks * accumulate):
            shares = f"{ranks} ranks x {accumulate} micro-batches"
            raise DataError(f"the batch size must be a multiple of {shares}, but got {batch_size}")
        if batch_size > len(images):
            raise DataError(f"an epoch must hold a whole batch of {batch_size}, but there are {len(images)} images")
        self.steps_per_epoch = len(images) // batch_size
        self._log = _DamageLog(max_damaged, report)
        self._reader = _TrainReader(images, transform.build(), transform.resolution, seed, repeats, max_damaged)
        self._batch_size = batch_size
        self._rank, self._ranks, self._accumulate = rank, ranks, accumulate
        self._workers, self._pin_memory = workers, pin_memory
        self._results: Generator[_Result, None, None] | None = None
        self._next = (0, 0)

    @property
    def damaged(self) -> dict[str, str]:  # noqa: D102
        return self._log.found

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
            self._results = _results(self._reader, self._tasks(epoch, step), self._workers, self._pin_memory)
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

    def _take(self, result: _Result) -> Batch:
        self._log.add(result.damaged)
        if result.batch is None:
            raise DataError(f"there must be an image that can be read, but all {len(self._reader.images)} are damaged")
        return result.batch

    def _tasks(self, epoch: int, step: int) -> Iterator[_Task]:
        parts = self._ranks * self._accumulate
        while True:
            order = self._reader.order(epoch)
            for number in range(step, self.steps_per_epoch):
                batch = np.arange(number * self._batch_size, (number + 1) * self._batch_size)
                for part in range(self._rank, parts, self._ranks):
                    yield _Task(epoch, batch[part::parts], order[batch[part::parts]])
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
        report: is given one line for every damaged image that is met first.

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
        report: Callable[[str], None] | None = None,
    ) -> None:
        _check_at_least(1, {"batch_size": batch_size, "ranks": ranks})
        _check_at_least(0, {"workers": workers, "max_damaged": max_damaged})
        self._log = _DamageLog(max_damaged, report)
        self._reader = _EvaluationReader(images, transform.build(), transform.resolution)
        self._indices = np.arange(rank, len(images), ranks)
        self._batch_size, self._workers, self._pin_memory = batch_size, workers, pin_memory

    @property
    def damaged(self) -> dict[str, str]:  # noqa: D102
        return self._log.found

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self._indices), self._batch_size)
        tasks = [self._indices[start : start + self._batch_size] for start in starts]
        with contextlib.closing(_results(self._reader, tasks, self._workers, self._pin_memory)) as results:
            for result in results:
                self._log.add(result.damaged)
                if result.batch is not None:
                    yield result.batch


@dataclass(frozen=True)
class _Task:
    epoch: int
    positions: NDArray[np.int64]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class _Result:
    """A batch, None where it would be empty, and the damaged images met on the way, by name."""

    batch: Batch | None
    damaged: dict[str, str]

    def pin_memory(self) -> _Result:
        """What torch's DataLoader asks of a type of its own."""
        batch = self.batch and (self.batch[0].pin_memory(), self.batch[1].pin_memory())
        return _Result(batch, self.damaged)


class _DamageLog:
    """Damaged images by name, with the reason, up to a limit."""

    def __init__(self, limit: int, report: Callable[[str], None] | None) -> None:
        self.found: dict[str, str] = {}
        self._limit, self._report = limit, report

    def add(self, damaged: dict[str, str]) -> None:
        for name, reason in damaged.items():
            if name in self.found:
                continue
            self.found[name] = reason
            if self._report is not None:
                within = len(self.found) <= self._limit
                count = f"{len(self.found)} {'of at most' if within else 'where there may be'} {self._limit}"
                self._report(f"{name}: the image is damaged and left out ({reason}); {count}")
        if len(self.found) > self._limit:
            name, reason = list(self.found.items())[-1]
            got = f"{len(self.found)} are, the last {name} ({reason})"
            raise DataError(f"at most {self._limit} images may be damaged (max_damaged), but {got}")


@dataclass
class _Reader:
    """Reads, decodes and transforms single images, in whichever process."""

    images: StreamedImages
    transform: Callable[..., Pixels]
    resolution: int

    def read(self, index: int) -> Pixels | str:
        """(3, H, W), or why the image is damaged."""
        try:
            return self.transform(self.images.image(index))
        except MemoryError:
            raise
        except Exception as error:  # a damaged image raises nearly anything
            return " ".join(str(error).split()) or type(error).__name__

    def buffer(self, count: int) -> tuple[Tensor, Pixels]:
        """An empty (count, 3, H, W) batch, channels_last, and the same memory as an array."""
        memory = torch.empty(count, self.resolution, self.resolution, 3, dtype=torch.uint8)
        return memory.permute(0, 3, 1, 2), memory.numpy().transpose(0, 3, 1, 2)

    def batch(self, images: Tensor, indices: Iterable[int]) -> Batch:
        """With the labels of the images."""
        return images, torch.from_numpy(self.images.labels[np.asarray(indices, dtype=np.int64)])


@dataclass
class _TrainReader(_Reader, Dataset[Any]):
    seed: int
    repeats: int
    max_damaged: int
    _order: tuple[int, NDArray[np.int64]] | None = field(default=None, repr=False)

    def order(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            count, groups = len(self.images), self.images.groups
            order = shuffled_order(count, seed=self.seed, epoch=epoch, repeats=self.repeats, groups=groups)
            self._order = epoch, order
        return self._order[1]

    def __getitem__(self, task: _Task) -> _Result:
        images, array = self.buffer(len(task.indices))
        damaged: dict[str, str] = {}
        indices = task.indices.tolist()
        for place, position in enumerate(task.positions.tolist()):
            for ahead in range(len(self.images)):
                if ahead:
                    order = self.order(task.epoch)
                    indices[place] = int(order[(position + ahead) % len(order)])
                _seed_generators(self.seed, task.epoch, position)
                pixels = self.read(indices[place])
                if not isinstance(pixels, str):
                    array[place] = pixels
                    break
                damaged[self.images.name(indices[place])] = pixels
                if len(damaged) > self.max_damaged:
                    return _Result(None, damaged)
            else:
                return _Result(None, damaged)
        return _Result(self.batch(images, indices), damaged)


@dataclass
class _EvaluationReader(_Reader, Dataset[Any]):
    def __getitem__(self, indices: NDArray[np.int64]) -> _Result:
        images, array = self.buffer(len(indices))
        damaged: dict[str, str] = {}
        sound: list[int] = []
        for index in indices.tolist():
            pixels = self.read(index)
            if isinstance(pixels, str):
                damaged[self.images.name(index)] = pixels
            else:
                array[len(sound)] = pixels
                sound.append(index)
        return _Result(self.batch(images[: len(sound)], sound) if sound else None, damaged)


def _results(
    reader: _TrainReader | _EvaluationReader, tasks: Iterable[Any], workers: int, pin_memory: bool
) -> Generator[_Result, None, None]:
    """What the reader makes of each task, in the order of the tasks."""
    if workers == 0:
        for task in tasks:
            with _generators_restored(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's about odd metadata
                result = reader[task]
            yield result.pin_memory() if pin_memory else result
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about more workers than cores, and about forking beside threads
        loader = DataLoader(
            reader,
            batch_size=None,
            sampler=tasks,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # of seeds that nothing uses; the global one must stay as it is
        )
        iterator = _start(loader)
    while True:
        try:
            result = next(iterator)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:  # the last two: a batch that a dead worker was to hand over
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            got = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"the {workers} workers that decode images must live (memory?), but got: {got}") from error
        yield result


def _start(loader: DataLoader[Any]) -> Iterator[_Result]:
    """Start the workers.

    They inherit that SIGINT and SIGTERM are blocked, for it is for the main process to end them. And torch's handler of
    SIGCHLD is taken out again: it would raise a worker's death wherever the main process is just then, and not in
    `next`, which finds it out within seconds.
    """
    of_child = signal.getsignal(signal.SIGCHLD)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if threading.current_thread() is threading.main_thread() and of_child is not None:
            signal.signal(signal.SIGCHLD, of_child)


def _as_it_is(result: Any) -> Any:
    return result


def _begin_worker(_: int) -> None:
    end_with_parent()  # torch's workers look for it only between two batches, and one may hang in a read
    warnings.simplefilter("ignore")  # Pillow's about odd metadata


def _seed_generators(seed: int, epoch: int, position: int) -> None:
    """Seed the global generators, which timm's transforms draw from, for one image."""
    digest = hashlib.blake2b(struct.pack("<qqq", seed, epoch, position), digest_size=20).digest()
    for_python, for_numpy, for_torch = struct.unpack("<QIQ", digest)
    random.seed(for_python)
    np.random.seed(for_numpy)  # noqa: NPY002
    torch.default_generator.manual_seed(for_torch)


@contextlib.contextmanager
def _generators_restored() -> Iterator[None]:
    python, legacy, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(tensors)


def _check_at_least(least: int, values: dict[str, int]) -> None:
    for name, value in values.items():
        if value < least:
            raise DataError(f"{name} must be at least {least}, but got {value}")
