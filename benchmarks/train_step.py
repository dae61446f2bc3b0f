"""Claim: training on ImageNet-size images runs at least at 0.98 times the images/s of timm's training loop, on the CPU.

Ours is the whole of `train`, which `se-nas retrain` drives: seeds, guard, copies of the state, log; only its
stream is replaced by batches in memory (`benchmarks/loader.py` times the reading), which let the other loop have its
turn between two steps. timm's wheel has no loop, so `timm_epoch` says in our words what `train_one_epoch` of its
train.py does, of timm's own parts. Both train the same network from the same weights on the same uint8 batches, with
the same recipe and precision. A round is 20 steps of each, in turns of `--turn` steps, since our loop copies the state
every 20 steps. What a round leaves out is our checkpoint every two minutes, and the evaluation. Run:
python benchmarks/train_step.py [--network search_spaces/baselines/mobilenetv3_large.yaml] [--recipe mobile-150]
[--resolution 128] [--batch-size 16] [--precision bfloat16] [--device cuda].
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from se_nas.data.training_batches import StreamedBatches
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import PRECISIONS, autocast_dtype, pick_device
from se_nas.hardware.environment import describe_environment
from se_nas.layers.network import Network, initialise
from se_nas.layers.torchvision_guard import import_timm
from se_nas.runs.networks.open_architecture import open_architecture
from se_nas.space.specs import NetworkSpec
from se_nas.training.guard import GuardConfig
from se_nas.training.images import StreamedHeldOut
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import load_recipe
from se_nas.training.timm_parts import make_timm_optimizer
from se_nas.training.train import HeldOut, train

NETWORK = Path(__file__).resolve().parent.parent / "search_spaces" / "baselines" / "mobilenetv3_large.yaml"
SEED = 0
ROUND = GuardConfig().snapshot_every
BATCHES = 4
"""Different batches in memory."""
BARS = {"ratio": 0.98}
"""Least images/s of ours over timm's: the median of the rounds."""

Batch = tuple[Tensor, Tensor]
logger = logging.getLogger("train")


def in_memory(spec: NetworkSpec, recipe: Recipe, device: torch.device) -> list[Batch]:
    """Random uint8 batches as `TrainStream` gives them."""
    torch.manual_seed(SEED)
    shape = (recipe.batch_size, spec.in_channels, spec.resolution, spec.resolution)
    batches = []
    for _ in range(BATCHES):
        images = torch.randint(256, shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(spec.head.classes, shape[:1])
        batches.append((images.pin_memory(), labels.pin_memory()) if device.type == "cuda" else (images, labels))
    return batches


class InTurns:
    """The batches as a stream of one epoch, between whose steps the other loop takes its turns; and both loops' times.

    Attributes:
        wall, cpu: seconds of each turn by loop; `cpu` is of all threads of this process.
    """

    def __init__(self, batches: list[Batch], other: Iterator[None], device: torch.device, turn: int, turns: int):
        self.damaged: dict[str, str] = {}
        self.labels = torch.cat([labels for _, labels in batches]).numpy()
        self.steps_per_epoch = turn * turns + 1  # the last ends the last turn, with all that follows a step
        self.wall: dict[str, list[float]] = {"timm": [], "ours": []}
        self.cpu: dict[str, list[float]] = {"timm": [], "ours": []}
        self._batches, self._other, self._turn = batches, other, turn
        self._wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        self._started = self._now()

    def micro_batches(self, epoch: int, step: int) -> list[Batch]:
        """What our loop asks for at the beginning of each step."""
        if step % self._turn == 0:
            if step:
                self._note("ours")
            self._started = self._now()
            for _ in range(self._turn if step + 1 < self.steps_per_epoch else 1):
                next(self._other)
            if step + 1 < self.steps_per_epoch:
                self._note("timm")
            self._started = self._now()
        return [self._batches[step % len(self._batches)]]

    def close(self) -> None:
        """There is nothing to end."""

    def __iter__(self) -> Iterator[Batch]:
        """As held-out images."""
        yield self._batches[0]

    def _now(self) -> tuple[float, float]:
        self._wait()
        return time.perf_counter(), time.process_time()

    def _note(self, name: str) -> None:
        wall, cpu = self._now()
        self.wall[name].append(wall - self._started[0])
        self.cpu[name].append(cpu - self._started[1])


def timm_epoch(
    network: nn.Module, recipe: Recipe, batches: Iterable[Batch], steps: int, device: torch.device, losses: Any
) -> Iterator[None]:
    """An epoch as timm's train.py runs it on one device, stopping after each step so that another can have a turn.

    Mirrored is `train_one_epoch` with what `main` hands it: PrefetchLoader (copies, normalises and erases one batch
    ahead), autocast around network and loss, NativeScaler for float16, ModelEmaV3, a learning rate that is set after
    every update or epoch, meters of time and loss, and a log line every 50 updates.

    Args:
        losses: a timm AverageMeter.
    """
    import_timm()
    from timm.data.loader import PrefetchLoader
    from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter, ModelEmaV3, NativeScaler, dispatch_clip_grad

    loader = PrefetchLoader(batches, device=device, re_prob=recipe.random_erasing, re_mode=recipe.random_erasing_mode)
    optimizer = make_timm_optimizer(network, recipe, recipe.peak_learning_rate)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=recipe.schedule,
        num_epochs=recipe.epochs,
        decay_epochs=recipe.decay_epochs,
        decay_rate=recipe.decay_rate or 1.0,
        min_lr=recipe.min_learning_rate * recipe.batch_scale,
        step_on_epochs=recipe.schedule_per == "epoch",
        updates_per_epoch=steps,
    )
    loss_of: nn.Module
    if recipe.loss == "binary_cross_entropy":
        loss_of = BinaryCrossEntropy(recipe.label_smoothing, recipe.binary_target_threshold)
    elif recipe.label_smoothing:
        loss_of = LabelSmoothingCrossEntropy(recipe.label_smoothing)
    else:
        loss_of = nn.CrossEntropyLoss()
    dtype = autocast_dtype(device, recipe.precision)
    autocast: Any = nullcontext if dtype is None else partial(torch.autocast, device.type, dtype=dtype)
    scaler = NativeScaler(device.type) if dtype == torch.float16 else None
    average = None
    if recipe.average_decay is not None:
        average = ModelEmaV3(network, decay=recipe.average_decay, use_warmup=recipe.average_warmup)

    scheduler.step(0) if recipe.schedule_per == "epoch" else scheduler.step_update(0)
    network.train()
    data_time, update_time = AverageMeter(), AverageMeter()
    optimizer.zero_grad()
    data_started = update_started = time.time()
    for number, (images, labels) in enumerate(loader):
        images = images.contiguous(memory_format=torch.channels_last)
        data_time.update(time.time() - data_started)
        with autocast():
            loss = loss_of(network(images), labels)
        if scaler is not None:
            scaler(loss, optimizer, clip_grad=recipe.clip, parameters=network.parameters())
        else:
            loss.backward()
            if recipe.clip is not None:
                dispatch_clip_grad(network.parameters(), recipe.clip)
            optimizer.step()
        losses.update(loss.item(), images.size(0))
        optimizer.zero_grad()
        if average is not None:
            average.update(network, step=number + 1)
        now = time.time()
        update_time.update(now - update_started)
        update_started = now
        if number % 50 == 0:
            rates = [group["lr"] for group in optimizer.param_groups]
            logger.info(
                f"Train: 0 [{number:>4d}/{steps}]  Loss: {losses.val:#.3g} ({losses.avg:#.3g})  "
                f"Time: {update_time.val:.3f}s ({update_time.avg:.3f}s)  LR: {sum(rates) / len(rates):.3e}  "
                f"Data: {data_time.val:.3f} ({data_time.avg:.3f})"
            )
        scheduler.step_update(num_updates=number + 1, metric=losses.avg)
        data_started = time.time()
        yield


class Endless:
    """The batches in turn, `steps` of them, as a loader that timm's PrefetchLoader wraps."""

    def __init__(self, batches: list[Batch], steps: int) -> None:
        self._batches, self._steps = batches, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self._steps):
            yield self._batches[step % len(self._batches)]


def build(spec: NetworkSpec, recipe: Recipe, device: torch.device) -> nn.Module:
    """The network with the weights that our training begins with."""
    torch.manual_seed(SEED)
    network = Network(spec)
    initialise(network, zero_last=recipe.zero_init_last)
    network.set_drop_path(recipe.drop_path)
    if recipe.dropout is not None:
        network.set_dropout(recipe.dropout)
    return network.to(device, memory_format=torch.channels_last)


def measure(
    spec: NetworkSpec, recipe: Recipe, device: torch.device, *, turn: int, rounds: int
) -> tuple[InTurns, dict[str, float]]:
    """Train with both loops, a round more than `rounds` for warming up; the turns' times and the loops' mean losses."""
    import_timm()
    from timm.utils import AverageMeter

    batches, turns = in_memory(spec, recipe, device), (rounds + 1) * ROUND // turn
    steps, losses = turns * turn + 1, AverageMeter()
    other = timm_epoch(build(spec, recipe, device), recipe, Endless(batches, steps), steps, device, losses)
    stream = InTurns(batches, other, device, turn, turns)
    with tempfile.TemporaryDirectory() as folder:
        training = train(
            spec,
            recipe,
            StreamedBatches(stream, recipe.batch_size, device),
            HeldOut(StreamedHeldOut(stream, device), {"top1": "val_top1"}),
            device=device,
            seed=SEED,
            folder=Path(folder),
            resume=False,
            progress=False,
            console=Console(quiet=True),
        )
    return stream, {"timm": losses.avg, "ours": training.history[0].loss}


def one_epoch(name: str, batch_size: int, precision: str, **changes: Any) -> Recipe:
    """The recipe cut down to one epoch without warm-up, which both loops can run in any number of steps.

    Raises:
        SystemExit: it mixes images, which timm does in its loader, or needs a teacher.
    """
    changes = {"epochs": 1, "warmup_epochs": 0, "learning_rate_noise": None, "accumulate": 1, **changes}
    recipe = load_recipe(name, {"batch_size": batch_size, "precision": precision, **changes})
    if recipe.mixes or recipe.distillation is not None:
        raise SystemExit(f"the recipe must train without mixing and without a teacher, but got {name}")
    return recipe


def by_round(turns: list[float], turn: int) -> list[float]:
    """Seconds of each round but the first."""
    size = ROUND // turn
    return [sum(turns[start : start + size]) for start in range(size, len(turns), size)]


def ratio(times: dict[str, list[float]]) -> tuple[float, list[float]]:
    """Median over the rounds of timm's time by ours, and the quartiles."""
    found = [theirs / ours for theirs, ours in zip(times["timm"], times["ours"], strict=True)]
    low, median, high = statistics.quantiles(found, n=4)
    return round(median, 4), [round(low, 4), round(high, 4)]


def main() -> None:
    """Measure, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, default=NETWORK, help="architecture.json, or a space of one network")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--recipe", default="mobile-150")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda, mps or xpu")
    parser.add_argument("--rounds", type=int, default=7, help=f"timed, of {ROUND} steps of each loop; at least 2")
    parser.add_argument("--turn", type=int, default=2, help=f"steps at a stretch, a divisor of {ROUND}")
    options = parser.parse_args()
    if options.rounds < 2 or options.turn < 1 or ROUND % options.turn:
        parser.error(f"--rounds must be at least 2 and --turn a divisor of {ROUND}")
    load_before, tuned, device = os.getloadavg(), tune_allocator(), pick_device(options.device)
    recipe = one_epoch(options.recipe, options.batch_size, options.precision)
    spec = replace(open_architecture(options.network).network, resolution=options.resolution)
    stream, losses = measure(spec, recipe, device, turn=options.turn, rounds=options.rounds)
    wall, cpu = ({name: by_round(v, options.turn) for name, v in times.items()} for times in (stream.wall, stream.cpu))
    images = ROUND * options.batch_size
    rates = {name: [round(images / seconds, 2) for seconds in values] for name, values in wall.items()}
    (by_wall, quartiles), (by_cpu, cpu_quartiles) = ratio(wall), ratio(cpu)
    table = Table(title=f"{options.network.stem} at {spec.resolution}, batch {options.batch_size}, {options.recipe}")
    for heading in ("loop", "images/s, median", "least", "most", "CPU ms an image", "mean loss"):
        table.add_column(heading, justify="right")
    for name, values in rates.items():
        spread = (f"{f(values):.1f}" for f in (statistics.median, min, max))
        table.add_row(name, *spread, f"{statistics.median(cpu[name]) * 1e3 / images:.2f}", f"{losses[name]:.3f}")
    Console(width=120).print(table)
    print(f"ours / timm, images/s: {by_wall:.3f} (quartiles {quartiles[0]:.3f} to {quartiles[1]:.3f})")
    print(f"by CPU time of the process: {by_cpu:.3f} ({cpu_quartiles[0]:.3f} to {cpu_quartiles[1]:.3f})")
    figures = {
        "images_per_second": rates,
        "ratio": by_wall,
        "ratio_quartiles": quartiles,
        "cpu_ratio": by_cpu,
        "cpu_ratio_quartiles": cpu_quartiles,
        "mean_loss": {name: round(loss, 4) for name, loss in losses.items()},
    }
    setting = {
        "environment": describe_environment().plain(),
        "load_average": [load_before, os.getloadavg()],
        "allocator_tuned": tuned,
        "device": device.type,
        "network": options.network.stem,
        "resolution": spec.resolution,
        "recipe": options.recipe,
        "batch_size": options.batch_size,
        "precision": str(autocast_dtype(device, recipe.precision) or torch.float32).removeprefix("torch."),
        "turn": options.turn,
        "steps_per_round": ROUND,
        "n": options.rounds,
    }
    holds = by_wall >= BARS["ratio"]
    print(json.dumps({"benchmark": "train_step", **setting, "figures": figures, "bars": BARS, "holds": holds}))


if __name__ == "__main__":
    main()
