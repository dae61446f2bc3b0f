"""Stand-alone trainings for comparisons: networks by seeds, each trained once, several at a time, kept as records.

What says how far the trainings are is their folder alone: a record for each that is done, a checkpoint and a lock for
each that is not. So a call that was killed is finished by the same call, and several may work on one folder.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.sources import load_test, load_train
from se_nas.errors import SeNasError, TrainingError, TrainingInterrupted
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import take_turn
from se_nas.hardware.environment import describe_environment
from se_nas.hardware.interrupt import signals_to
from se_nas.hardware.progress_bar import counted_up
from se_nas.plugins import Plugin, load_again, loaded_plugins
from se_nas.records.locks import locked
from se_nas.records.models.evidence import TrainingRecord
from se_nas.records.record import read_record, write_record
from se_nas.space.specs import NetworkSpec
from se_nas.training.in_memory import train_network
from se_nas.training.recipe import Recipe

_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Task:
    """One training: a network from the random weights, and in the order of images, of a seed."""

    network: NetworkSpec
    seed: int


@dataclass(frozen=True)
class Trainings:
    """The trainings of one comparison: one recipe, one data set, one folder.

    Attributes:
        options: of the data; all training images are learned from, and the test images are looked at.
        device: a kind, such as "cuda", of which processes that train at a time take one each.
    """

    folder: Path
    recipe: Recipe
    options: DataOptions
    device: str

    def key(self, task: Task) -> str:
        """Of all that an accuracy depends on, so that no other recipe's or network's record is taken for it."""
        options = self.options
        data: tuple[Any, ...] = (options.name, task.network.resolution, options.seed, options.size)
        if options.channels not in (None, 3):
            data = (*data, options.channels)
        if said := options.files.stated():
            data = (*data, said)
        recipe = self.recipe.model_dump(mode="json")
        for name in ("class_weights", "balanced_sampling"):  # of before there were such
            if not recipe[name]:
                del recipe[name]
        words = json.dumps([task.network.to_dict(), task.seed, recipe, data, self.device], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    def record(self, task: Task) -> TrainingRecord | None:
        """What is known of a training that is done; None of one that is not.

        Raises:
            ConfigError: it is damaged.
        """
        path = self._record_path(task)
        return read_record(TrainingRecord, path) if path.exists() else None

    def records(self) -> list[TrainingRecord]:
        """All that are there."""
        return [read_record(TrainingRecord, path) for path in sorted(self.folder.glob("*.json"))]

    def accuracy(self, task: Task) -> float | None:
        """Its test accuracy, from 0 to 1, where it is done and did not diverge."""
        record = self.record(task)
        return record.test_accuracy if record else None

    def failure(self, task: Task) -> str | None:
        """Why it diverged, in words, where it did."""
        record = self.record(task)
        return record.failed if record else None

    def adopt(self, task: Task, record: TrainingRecord) -> None:
        """Take the record of a training that was done elsewhere with these very settings."""
        if self.record(task) is None:
            write_record(self._record_path(task), record)

    def take_over(self, tasks: Sequence[Task], folders: Sequence[Path]) -> int:
        """Take the records that other runs have of trainings with these very settings, where there is none yet.

        Args:
            folders: of their trainings.

        Returns:
            How many were taken.

        Raises:
            ConfigError: one is damaged.
        """
        taken = 0
        for task in tasks:
            name = self._record_path(task).name
            theirs = [folder / name for folder in folders if (folder / name).exists()]
            if theirs and self.record(task) is None:
                self.adopt(task, read_record(TrainingRecord, theirs[0]).model_copy(update={"taken": True}))
                shutil.rmtree(self.folder / self.key(task), ignore_errors=True)  # half a training of our own
                taken += 1
        return taken

    def left(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that are not done, each once."""
        return list({self.key(task): task for task in tasks if self.record(task) is None}.values())

    def train(self, tasks: Sequence[Task], jobs: int, progress: bool) -> None:
        """Do the trainings that are not done, in their order, `jobs` at a time.

        Raises:
            SeNasError: what a user can mend, such as missing data; what is done stays.
            TrainingInterrupted: SIGINT or SIGTERM; the states are saved.
        """
        left = self.left(tasks)
        if not left:
            return
        with counted_up("stand-alone trainings", wanted=progress) as count:

            def show() -> int:
                done = sum(self._record_path(task).exists() for task in left)
                count(done, len(left))
                return done

            if jobs == 1:
                worker = _Worker(self)
                while show() < len(left):  # one that another process holds is waited for
                    for task in left:
                        worker.train(task)
                        show()
            else:
                self._train_in_processes(left, jobs, show)

    def _train_in_processes(self, tasks: Sequence[Task], jobs: int, show: Callable[[], int]) -> None:
        threads = max(1, torch.get_num_threads() // jobs)
        context = multiprocessing.get_context("spawn")
        faults: SimpleQueue[str] = context.SimpleQueue()
        workers = [
            context.Process(
                target=_work, args=(self, tasks, number, threads, os.getpid(), faults, loaded_plugins()), daemon=True
            )
            for number in range(min(jobs, len(tasks)))
        ]
        with signals_to(self._stop):
            try:
                for process in workers:
                    process.start()
                while any(process.is_alive() for process in workers):
                    show()
                    time.sleep(_LOOK_EVERY)
            finally:
                for process in workers:
                    process.terminate()  # it saves its state
                for process in workers:
                    process.join()
        if not faults.empty():
            raise SeNasError(faults.get())
        if (done := show()) < len(tasks):
            codes = ", ".join(str(process.exitcode) for process in workers)
            raise SeNasError(
                f"{self.folder}: every training must be done, but of {len(tasks)} only {done} are, and the processes "
                f"ended with {codes}; the same command goes on"
            )

    def _stop(self, number: int) -> None:
        """End the wait for the processes, which would otherwise outlive this one by a network."""
        raise TrainingInterrupted("stand-alone trainings", number, self.folder)

    def _record_path(self, task: Task) -> Path:
        return self.folder / f"{self.key(task)}.json"


class _Worker:
    """Trains one network after another on images that are loaded once."""

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings
        self._images: dict[int, tuple[DataInfo, ImageSet, ImageSet]] = {}

    def train(self, task: Task) -> None:
        """Do a training, or go on with it, unless it is done or another process is at it."""
        trainings = self._trainings
        folder = trainings.folder / trainings.key(task)
        if trainings.record(task) is not None:
            return
        with locked(folder.with_suffix(".lock"), wait=False) as held:
            if not held:
                time.sleep(_LOOK_EVERY)
            elif trainings.record(task) is None:
                write_record(trainings._record_path(task), self._trained(task, folder))
                shutil.rmtree(folder, ignore_errors=True)

    def _trained(self, task: Task, folder: Path) -> TrainingRecord:
        trainings = self._trainings
        resolution = task.network.resolution
        if resolution not in self._images:
            options = replace(trainings.options, resolution=resolution)
            self._images[resolution] = (*load_train(options), load_test(options))
        info, train, test = self._images[resolution]
        started, cpu_started = time.monotonic(), time.process_time()
        quiet = Console(quiet=True)  # the comparison has a bar of its own
        try:
            trained = train_network(
                task.network,
                trainings.recipe,
                info,
                train,
                test,
                device=torch.device(trainings.device),
                seed=task.seed,
                folder=folder,
                resume=True,
                progress=False,
                console=quiet,
            )
        except TrainingError as error:
            seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
            return TrainingRecord(seed=task.seed, failed=str(error), seconds=seconds, cpu_seconds=cpu_seconds)
        return TrainingRecord(
            seed=task.seed,
            test_accuracy=trained.test_accuracy,
            test_images=trained.test_images,
            train_accuracy=trained.history[-1].accuracy,
            seconds=trained.seconds,
            cpu_seconds=trained.cpu_seconds,
            images=trained.images,
            commit=describe_environment().commit,
        )


def _work(
    trainings: Trainings,
    tasks: Sequence[Task],
    number: int,
    threads: int,
    parent: int,
    faults: SimpleQueue[str],
    plugins: Sequence[Plugin],
) -> None:
    """What a process does: all that no other one does, until its parent is gone."""
    torch.set_num_threads(threads)
    take_turn(trainings.device, number)
    tune_allocator()
    worker = _Worker(trainings)
    try:
        load_again(plugins)
        while any(trainings.record(task) is None for task in tasks) and os.getppid() == parent:
            for task in tasks:
                if os.getppid() == parent:
                    worker.train(task)
    except SeNasError as error:
        faults.put(str(error))
    except KeyboardInterrupt:  # the parent speaks for all
        pass
