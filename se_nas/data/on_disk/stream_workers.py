"""The worker processes of a stream, which read and decode images; what is random there is a function of a seed."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from se_nas.data.on_disk.encoded_images import StreamedImages
from se_nas.data.on_disk.generators import generators_restored, seed_generators
from se_nas.data.on_disk.shuffle import shuffled_order
from se_nas.data.on_disk.transforms import Pixels
from se_nas.data.worker_processes import end_with_parent
from se_nas.errors import DataError, counted, in_line
from se_nas.hardware.lines import Say

Batch = tuple[Tensor, Tensor]
"""(B, C, H, W) uint8, channels_last, and (B,) int64."""


@dataclass(frozen=True)
class Task:
    """Images to read: their epoch, their places in its order, and their numbers in the set."""

    epoch: int
    positions: NDArray[np.int64]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """A batch, None where it would be empty, and the damaged images met on the way, by name."""

    batch: Batch | None
    damaged: dict[str, str]

    def pin_memory(self) -> Result:
        """What torch's DataLoader asks of a type of its own."""
        batch = self.batch and (self.batch[0].pin_memory(), self.batch[1].pin_memory())
        return Result(batch, self.damaged)


class DamageLog:
    """Damaged images by name, with the reason, up to a limit; streams of one set may share it.

    Attributes:
        found: reasons by name.
        limit: so many images may be damaged.
    """

    def __init__(self, limit: int, say: Say | None) -> None:
        self.found: dict[str, str] = {}
        self.limit, self._say = limit, say

    def add(self, damaged: dict[str, str]) -> None:
        """Take in what was met; DataError where it is more than the limit."""
        for name, reason in damaged.items():
            if name in self.found:
                continue
            self.found[name] = reason
            if self._say is not None:
                within = len(self.found) <= self.limit
                count = f"{len(self.found)} {'of at most' if within else 'where there may be'} {self.limit}"
                self._say(f"{name}: the image is damaged and left out ({reason}); {count}")
        if len(self.found) > self.limit:
            name, reason = list(self.found.items())[-1]
            got = f"{len(self.found)} are, the last {name} ({reason})"
            raise DataError(f"at most {counted(self.limit, 'image')} may be damaged (max_damaged), but {got}")


@dataclass
class Reader:
    """Reads, decodes and transforms single images, in whichever process."""

    images: StreamedImages
    transform: Callable[..., Pixels]
    resolution: int

    def read(self, index: int) -> Pixels | str:
        """(C, H, W), or why the image is damaged."""
        try:
            return self.transform(self.images.image(index))
        except MemoryError:
            raise
        except Exception as error:  # a damaged image raises nearly anything
            return in_line(error)

    def buffer(self, count: int) -> tuple[Tensor, Pixels]:
        """An empty (count, C, H, W) batch, channels_last, and the same memory as an array."""
        memory = torch.empty(count, self.resolution, self.resolution, self.images.channels, dtype=torch.uint8)
        return memory.permute(0, 3, 1, 2), memory.numpy().transpose(0, 3, 1, 2)

    def batch(self, images: Tensor, indices: Iterable[int]) -> Batch:
        """With the labels of the images."""
        return images, torch.from_numpy(self.images.labels[np.asarray(indices, dtype=np.int64)])


def results_of(
    reader: TrainReader | EvaluationReader, tasks: Iterable[Any], workers: int, pin_memory: bool
) -> Generator[Result, None, None]:
    """What the reader makes of each task, in the order of the tasks."""
    if workers == 0:
        for task in tasks:
            with generators_restored(), warnings.catch_warnings():
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
        iterator = start_workers(loader)
    while True:
        try:
            result = next(iterator)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:  # the last two: a batch that a dead worker was to hand over
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            got = in_line(error)
            raise DataError(
                f"the workers that decode images must stay alive, but got: {got} (they may have run out of memory)"
            ) from error
        yield result


def start_workers(loader: DataLoader[Any]) -> Iterator[Result]:
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


@dataclass
class TrainReader(Reader, Dataset[Any]):
    """Reads and augments the images of a training batch."""

    seed: int
    repeats: int
    max_damaged: int
    balanced: bool = False
    _order: tuple[int, NDArray[np.int64]] | None = field(default=None, repr=False)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order of an epoch, worked out once for it."""
        if self._order is None or self._order[0] != epoch:
            count, groups = len(self.images), self.images.groups
            labels = self.images.labels if self.balanced else None
            order = shuffled_order(
                count, seed=self.seed, epoch=epoch, repeats=self.repeats, groups=groups, balanced=labels
            )
            self._order = epoch, order
        return self._order[1]

    def __getitem__(self, task: Task) -> Result:
        images, array = self.buffer(len(task.indices))
        damaged: dict[str, str] = {}
        indices = task.indices.tolist()
        for place, position in enumerate(task.positions.tolist()):
            for ahead in range(len(self.images)):
                if ahead:
                    order = self.order(task.epoch)
                    indices[place] = int(order[(position + ahead) % len(order)])
                seed_generators(self.seed, task.epoch, position)
                pixels = self.read(indices[place])
                if not isinstance(pixels, str):
                    array[place] = pixels
                    break
                damaged[self.images.name(indices[place])] = pixels
                if len(damaged) > self.max_damaged:
                    return Result(None, damaged)
            else:
                return Result(None, damaged)
        return Result(self.batch(images, indices), damaged)


@dataclass
class EvaluationReader(Reader, Dataset[Any]):
    """Reads the images of an evaluation batch, each as it is."""

    def __getitem__(self, indices: NDArray[np.int64]) -> Result:
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
        return Result(self.batch(images[: len(sound)], sound) if sound else None, damaged)
