"""Commands that prepare images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from se_nas.cli.options import ImageFiles, Quiet
from se_nas.cli.screen import say
from se_nas.errors import counted
from se_nas.records.bounds import MOST_CHANNELS, MOST_COUNT, MOST_PIXELS, MOST_SEED, MOST_WORKERS


def shard(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the images: train/CLASS/* and val/CLASS/*.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder for the tar files; training takes it as --data-dir.")
    ],
    files: ImageFiles,
    resize: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=MOST_PIXELS,
            help="Scale images down until their shorter side has this many pixels, such as 256, for smaller files "
            "and faster decoding.",
        ),
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=95, help="JPEG quality of the images that are resized.")] = 90,
    images_per_shard: Annotated[int, typer.Option(min=1, max=MOST_COUNT, help="Images in one tar file.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed that shuffles the training images.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, max=MOST_WORKERS, help="Processes that decode and encode the images.")
    ] = 4,
    channels: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_CHANNELS,
            help="Channels that the images must have: 3 for colours, 1 for grey, or any other.",
        ),
    ] = 3,
    quiet: Quiet = False,
) -> None:
    """Pack a folder of images into WebDataset tar files: few large files instead of a million small ones.

    If a call is cut off, give it again to finish it.
    """
    from se_nas.data.on_disk.shard_writing import write_shards
    from se_nas.hardware.progress_bar import counted_up

    chosen = files.chosen()
    with counted_up("writing shards", wanted=not quiet) as progress:
        summary = write_shards(
            root,
            output,
            resize=resize,
            quality=quality,
            images_per_shard=images_per_shard,
            seed=seed,
            workers=workers,
            max_damaged=chosen.max_damaged,
            reading=chosen.reading(channels),
            val_labels=chosen.val_labels,
            progress=progress,
        )
    written = ", ".join(f"{count:,} {half}" for half, count in summary.images.items())
    tars = f"{counted(summary.shards, 'tar file')}, of which {summary.kept:,} were there already"
    say(f"images: {written}; {tars}; {summary.bytes / 1e9:.3g} GB")
    for line in summary.notes:
        say(line)
    for name, reason in summary.damaged.items():
        say(f"damaged and left out: {name} ({reason})")
    say(f"to train on them: --data-dir {output}")
