"""Kernels that a step launches on a CUDA device, and how often it makes the host wait there; counted without one.

`python -m benchmarks.launches [--space search_spaces/mbconv_cifar.yaml]` from the checkout's folder. The devices are
those of `tests/simulated_cuda`, so that the numbers are of operations, not of time. They do not depend on the batch.
Where torch is built for CUDA its profiler counts on the device that is there: calls that launch, and calls that wait.
"""

from __future__ import annotations

from tests.simulated_cuda.if_possible import SIMULATED  # before torch

# isort: split
import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.parts import split_parts
from se_nas.hardware.distributed import Ranks
from se_nas.records.models.history import History
from se_nas.search.budgets.decode import greatest_cost
from se_nas.search.differentiable.search import DifferentiableConfig, _Search
from se_nas.search.problem import SearchProblem
from se_nas.space.yaml.file import load_space
from se_nas.training import train as training
from se_nas.training.guard import Position, Snapshots
from se_nas.training.images import images_in_memory
from se_nas.training.loop import Loop, StepContext
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import default_recipe
from se_nas.training.train import HeldOut
from tests.simulated_cuda import counts

CUDA = torch.device("cuda")
BATCH = 8
STEPS = 8
BEFORE_CAPTURED = 7
BARS = {
    "waits": {
        "weight step, pretraining": 0,
        "weight step": 0,
        "choice step": 1,
        "choice step, captured": 1,
        "clipping and optimizer": 0,
        "snapshot": 0,
        "look for NaN": 1,
        "end of epoch with validation": 10,
        "stand-alone step": 0,
        "stand-alone step, captured": 0,
        "step on images that workers decode": 0,
    },
    "launches": {
        "clipping and optimizer": 40,
        "snapshot": 20,
        "look for NaN": 20,
        "choice step, captured": 20,
        "stand-alone step, captured": 40,
    },
}
"""Most of each for the parts that are held to something."""


def counted(work: Callable[[], object], times: int = 1) -> dict[str, float]:
    """Mean launches and waits of doing it."""
    if not SIMULATED:
        return profiled(work, times)
    counts.reset()
    for _ in range(times):
        work()
    return {"launches": sum(counts.launches().values()) / times, "waits": sum(counts.waits.values()) / times}


def profiled(work: Callable[[], object], times: int) -> dict[str, float]:
    """The same on a device that is there."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(times):
            work()
    calls = {event.key: event.count for event in profile.key_averages()}
    launches = sum(count for name, count in calls.items() if re.fullmatch(r"cu(da)?LaunchKernel\w*", name))
    waits = calls.get("cudaStreamSynchronize", 0) + calls.get("cudaEventSynchronize", 0)
    return {"launches": launches / times, "waits": waits / times}


def search_of(path: Path, folder: Path, captured: bool = False) -> _Search:
    """A differentiable search on noise, with a budget on MACs that half of the space keeps."""
    space = load_space(path)
    generator = torch.Generator().manual_seed(0)
    shape = (40 * space.classes, space.resolution, space.resolution, space.channels)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    train = ImageSet(images, torch.arange(len(images)) % space.classes)
    names = tuple(f"class {number}" for number in range(space.classes))
    info = DataInfo.of("noise", names, train, flip=True)
    tables = count_tables(space)
    rng = np.random.default_rng(0)
    limit = float(np.median([tables["macs"].cost(space.sample(rng)) for _ in range(99)]))
    parts = split_parts(train.labels, {"weights": 0.4, "choices": 0.4, "validation": 0.2}, 0)
    problem = SearchProblem(
        space=space,
        budgets=(Budget("macs", limit),),
        tables=tables,
        info=info,
        train=train,
        parts=parts,
        device=CUDA,
        seed=0,
        folder=folder,
        progress=False,
    )
    values = {"pretrain_epochs": 1, "epochs": 2, "batch_size": BATCH, "calibration_images": 32}
    return _Search(problem, DifferentiableConfig.model_validate({**values, "cuda_graphs": captured}))


def context(step: int, epoch: int = 1) -> StepContext:
    """Of a step of an epoch."""
    return StepContext(step, epoch, step, 0, 1.0, step)


def of_search(search: _Search) -> Iterator[tuple[str, dict[str, float]]]:
    """The parts of a search, each under its name."""
    steps = iter(range(10**6))
    for _ in range(2):
        search.step(context(next(steps)))  # what is made at the first step
    yield "weight step, pretraining", counted(lambda: search._weight_step(context(next(steps), 0), False), STEPS)
    yield "weight step", counted(lambda: search._weight_step(context(next(steps)), True), STEPS)
    yield "choice step", counted(lambda: search._choice_step(context(next(steps))), STEPS)
    search._weight_step(context(next(steps)), True)
    yield "clipping and optimizer", counted(search.update.end)
    more = {"logits": search.logits, "projection": search.projection, "choices": search.choice_optimizer}
    state = Snapshots({"supernet": search.supernet, **search.update.state, **more})
    state.propose(Position())
    yield "snapshot", counted(lambda: state.propose(Position()))
    yield "look for NaN", counted(state.state_has_nan)
    yield "end of epoch with validation", counted(lambda: search.end_epoch(1))


class _Counted(Exception):
    """How a training ends whose steps were counted."""


def of_training(problem: SearchProblem, recipe: Recipe, folder: Path) -> dict[str, float]:
    """A step of training the largest network of a problem's space on the problem's images."""
    found: dict[str, float] = {}

    class Counting(Loop):
        def run(self, resume: bool) -> History:
            steps = iter(range(10**6))
            for _ in range(BEFORE_CAPTURED if recipe.cuda_graphs is True else 2):
                self._step(context(next(steps), 0))
            found.update(counted(lambda: self._step(context(next(steps), 0)), STEPS))
            raise _Counted

    architecture = greatest_cost(problem.space, problem.tables, "macs").architecture
    whole, training.Loop = training.Loop, Counting  # type: ignore[misc]
    images = images_in_memory(recipe, problem.info, problem.train, problem.train, ranks=Ranks(), device=CUDA, seed=0)
    try:
        spec, held_out = problem.space.resolve(architecture), HeldOut(images[1], {"top1": "test_accuracy"})
        training.train(spec, recipe, images[0], held_out, device=CUDA, seed=0, folder=folder, resume=False)
    except _Counted:
        pass
    finally:
        training.Loop = whole  # type: ignore[misc]
    return found


def every(space: Path, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """All that is counted, each under its name."""
    search = search_of(space, folder)
    yield from of_search(search)
    search = search_of(space, folder, captured=True)
    steps = iter(range(10**6))
    for _ in range(BEFORE_CAPTURED):
        search._choice_step(context(next(steps)))
    yield "choice step, captured", counted(lambda: search._choice_step(context(next(steps))), STEPS)
    in_memory = default_recipe(epochs=1, batch_size=BATCH, average_decay=0.99, cutout=4)
    yield "stand-alone step", of_training(search.problem, in_memory, folder)
    captured = in_memory.model_copy(update={"cuda_graphs": True})
    yield "stand-alone step, captured", of_training(search.problem, captured, folder)
    streamed = in_memory.model_copy(update={"color_jitter": 0.1, "cutout": None})
    yield "step on images that workers decode", of_training(search.problem, streamed, folder)


def main() -> None:
    """Count, and print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", type=Path, default=Path("search_spaces/mbconv_cifar.yaml"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, numbers in every(options.space, Path(folder)):
            found[name] = numbers
            print(name, numbers, dict(counts.waits), flush=True)
    holds = all(found[part][kind] <= bar for kind, bars in BARS.items() for part, bar in bars.items())
    print(json.dumps({"benchmark": "launches", "figures": found, "bars": BARS, "holds": holds}))


if __name__ == "__main__":
    main()
