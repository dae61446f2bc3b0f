"""Claim: training batches come at least as fast as from timm's loader with the same transforms, batch and workers.

Both read the same JPEG files, crop at random (and do RandAugment with --auto-augment), and hand over normalised float32
batches; their worker processes take turns, each turn with fresh ones. Without --data-dir the files are made here:
500 x 375 pixels, of a photograph's spectrum and of about its bytes. The bytes are in the page cache. Run:
python benchmarks/loader.py [--workers 2] [--auto-augment rand-m9-mstd0.5] [--data-dir DIR].
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.stream import TrainStream
from se_nas.data.on_disk.transforms import MEAN, STD, TrainTransform, normalise
from se_nas.hardware.environment import describe_environment
from se_nas.layers.torchvision_guard import import_timm

CLASSES, PER_CLASS = 8, 64
WIDTH, HEIGHT = 500, 375
BARS = {"ratio": 1.0}
"""Least images/s of ours over timm's: the median of the turns."""

Batches = Generator[tuple[Tensor, Tensor], None, None]
Loader = Callable[[Path, TrainTransform, argparse.Namespace], AbstractContextManager[Batches]]


def write_images(root: Path) -> None:
    """Smooth colour noise (amplitude falls with frequency) as JPEG files in the ImageFolder layout."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1
    for half, count in (("train", PER_CLASS), ("val", 1)):
        for label in range(CLASSES):
            folder = root / half / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                grey = _noise(rng, frequency)[..., None]
                colour = np.stack([_noise(rng, frequency**1.5) for _ in range(3)], axis=-1)
                pixels = 128 + 45 * grey + 20 * colour
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / f"{number}.jpg", quality=92)


def _noise(rng: np.random.Generator, divisor: np.ndarray) -> np.ndarray:
    """(HEIGHT, WIDTH) of deviation 1."""
    spectrum = np.fft.rfft2(rng.normal(size=(HEIGHT, WIDTH))) / divisor
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(HEIGHT, WIDTH))
    normal: np.ndarray = noise / noise.std()
    return normal


@contextmanager
def ours(root: Path, transform: TrainTransform, options: argparse.Namespace) -> Iterator[Batches]:
    """Batches of a stream, epoch after epoch."""
    images, _ = open_encoded_images(root)
    stream = TrainStream(images, transform, batch_size=options.batch_size, workers=options.workers)

    def batches() -> Batches:
        epoch = 0
        while True:
            for step in range(stream.steps_per_epoch):
                for x, y in stream.micro_batches(epoch, step):
                    yield normalise(x), y
            epoch += 1

    with closing(stream):
        yield batches()


@contextmanager
def timms(root: Path, transform: TrainTransform, options: argparse.Namespace) -> Iterator[Batches]:
    """Batches of timm's loader, epoch after epoch, from workers that stay."""
    import_timm()
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(root), split="train", is_training=True),
        input_size=(3, transform.resolution, transform.resolution),
        batch_size=options.batch_size,
        is_training=True,
        use_prefetcher=True,
        scale=transform.scale,
        ratio=transform.ratio,
        hflip=transform.flip,
        color_jitter=transform.color_jitter or None,
        auto_augment=transform.auto_augment,
        interpolation=transform.interpolation,
        mean=MEAN,
        std=STD,
        num_workers=options.workers,
        device=torch.device("cpu"),
        persistent_workers=True,
        use_multi_epochs_loader=True,  # else the workers stand still where an epoch ends, and these epochs are short
    )

    def batches() -> Batches:
        while True:
            yield from loader

    yield batches()  # the workers end when nothing refers to the loader any more


def take_turn(
    loader: Loader, root: Path, transform: TrainTransform, options: argparse.Namespace
) -> tuple[float, float]:
    """Images/s over `--batches`, once no batch is left that was made before the clock ran; and CPU ms an image of the
    main process and the workers together, from their start to their end."""
    untimed, cpu = 2 * options.workers + 2, cpu_seconds()
    with loader(root, transform, options) as batches:
        for _ in islice(batches, untimed):
            pass
        start = time.perf_counter()
        images = sum(len(x) for x, _ in islice(batches, options.batches))
        rate = images / (time.perf_counter() - start)
        batches.close()
    del batches
    gc.collect()
    assert not multiprocessing.active_children(), "the workers of a turn must have ended before the next"
    return rate, (cpu_seconds() - cpu) * 1e3 / (images + untimed * options.batch_size)


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Time both in turn, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="train/CLASS/*, val/CLASS/*; else files are made")
    parser.add_argument("--workers", type=int, default=2, help="at least 1")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=30, help="timed, of each turn")
    parser.add_argument("--turns", type=int, default=7, help="of each loader, at least 2")
    parser.add_argument("--auto-augment", help="such as rand-m9-mstd0.5; otherwise crop and flip alone")
    options = parser.parse_args()
    load_before = os.getloadavg()
    transform = TrainTransform(auto_augment=options.auto_augment)
    loaders: dict[str, Loader] = {"timm": timms, "ours": ours}
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    cpu: dict[str, list[float]] = {name: [] for name in loaders}
    with tempfile.TemporaryDirectory() as folder:
        root = options.data_dir or Path(folder)
        if options.data_dir is None:
            write_images(root)
        images, _ = open_encoded_images(root)
        kilobytes = sum(len(images.read(i)) for i in range(len(images))) / len(images) / 1e3
        for turn in range(options.turns):
            for name in sorted(loaders, reverse=turn % 2 == 0):
                rate, cpu_ms = take_turn(loaders[name], root, transform, options)
                rates[name].append(rate)
                cpu[name].append(cpu_ms)
    ratios = [a / b for a, b in zip(rates["ours"], rates["timm"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    table = Table(title=f"{len(images)} images of {kilobytes:.0f} kB, {options.workers} workers")
    for heading in ("loader", "images/s, median", "least", "most", "CPU ms an image"):
        table.add_column(heading, justify="right")
    for name, values in rates.items():
        spread = (f"{f(values):.0f}" for f in (statistics.median, min, max))
        table.add_row(name, *spread, f"{statistics.median(cpu[name]):.2f}")
    Console(width=120).print(table)
    print(f"ours / timm: {median:.3f} (quartiles {low:.3f} to {high:.3f}), n {options.turns} turns")
    figures = {
        "images_per_second": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "cpu_ms_per_image": {name: [round(value, 2) for value in values] for name, values in cpu.items()},
        "ratio": round(median, 4),
        "ratio_quartiles": [round(low, 4), round(high, 4)],
    }
    setting = {
        "environment": describe_environment().plain(),
        "load_average": [load_before, os.getloadavg()],
        "images": len(images),
        "kilobytes": round(kilobytes, 1),
        "made_here": options.data_dir is None,
        "workers": options.workers,
        "batch_size": options.batch_size,
        "batches": options.batches,
        "auto_augment": options.auto_augment,
        "n": options.turns,
    }
    holds = median >= BARS["ratio"]
    print(json.dumps({"benchmark": "loader", **setting, "figures": figures, "bars": BARS, "holds": holds}))


if __name__ == "__main__":
    main()
