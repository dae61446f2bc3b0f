"""Commands for a trained network: evaluate it, hand it on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from se_nas.cli.options import Average, DataDir, Device, Plugins, Quiet, Weights
from se_nas.cli.screen import say, tune_allocator
from se_nas.errors import ConfigError, counted, short
from se_nas.records.bounds import MOST_BATCH, MOST_PIXELS, MOST_WORKERS, NEWEST_OPSET, OLDEST_OPSET, USUAL_OPSET

if TYPE_CHECKING:
    from typing import Any

    import torch

    from se_nas.training.evaluate import TopAccuracies

#: Heading in the help of options for images that stay on disk.
_ON_DISK = "For images that stay on disk, such as those of imagenet"


@dataclass(frozen=True)
class EvaluationOptions:
    """Which weights are evaluated, on which images."""

    data_dir: DataDir = None
    weights: Weights = None
    average: Average = None
    batch_size: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Images that each rank evaluates at once.")] = (
        128
    )
    plugin: Plugins = None
    device: Device = "auto"
    quiet: Quiet = False


@dataclass(frozen=True)
class OnDiskOptions:
    """How images that stay on disk are read; None is the default, which the help says."""

    resolution: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=MOST_PIXELS,
            rich_help_panel=_ON_DISK,
            help="Side of the test images in pixels; by default the recipe's.",
        ),
    ] = None
    crop: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_ON_DISK,
            help="Share of the resized image that the network sees; by default the recipe's.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_WORKERS,
            rich_help_panel=_ON_DISK,
            help="Processes of each rank that decode images; by default 4.",
        ),
    ] = None
    max_damaged: Annotated[
        int | None,
        typer.Option(
            min=0,
            rich_help_panel=_ON_DISK,
            help="Stop when a rank has met more damaged images than this. Up to then each is named and left out. By "
            "default 100.",
        ),
    ] = None

    val_labels: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_ON_DISK,
            help="Text with the class of each test image, where these lie unsorted in val; by default the training's.",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """What was given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a retraining, or of a run whose winner was retrained.")
    ],
    options: EvaluationOptions,
    on_disk: OnDiskOptions,
) -> None:
    """Evaluate a retrained network on the test images of its data set: top-1 and top-5 accuracy.

    The images of ImageNet can be shown at any resolution, and `torchrun --standalone --nproc-per-node N -m se_nas
    evaluate ...` divides them among N devices.
    """
    from se_nas.hardware.device import pick_device
    from se_nas.runs.shown_images import trained_from_disk

    device = pick_device(options.device)
    if trained_from_disk(run):
        _evaluate_from_disk(run, options, on_disk, device)
    else:
        _evaluate_in_memory(run, options, on_disk, device)


def _evaluate_from_disk(run: Path, options: EvaluationOptions, on_disk: OnDiskOptions, device: torch.device) -> None:
    from se_nas.runs.retraining.on_disk import evaluate_from_disk

    crop = on_disk.crop
    if crop is not None and not 0 < crop <= 1:
        raise ConfigError("--crop", [f"must be above 0 and at most 1, but got {crop:g}"])
    tune_allocator()
    found = evaluate_from_disk(
        run,
        options.data_dir,
        device,
        weights=options.weights,
        average=options.average,
        batch_size=options.batch_size,
        progress=not options.quiet,
        say=say,
        **on_disk.given(),
    )
    if found is not None:
        side = found.resolution
        left_out = f", {counted(found.damaged, 'damaged image')} left out" if found.damaged else ""
        _say_accuracy(found.accuracies, f" at {side}x{side}{left_out}")


def _evaluate_in_memory(run: Path, options: EvaluationOptions, on_disk: OnDiskOptions, device: torch.device) -> None:
    from se_nas.runs.shown_images import ImageRequest, evaluate_shown

    if given := on_disk.given():
        word = next(iter(given)).replace("_", "-")
        raise ConfigError(f"--{word}", [f"must be left out, as {run} was not trained on images that stay on disk"])
    tune_allocator()
    request = ImageRequest(
        source=run,
        data_dir=options.data_dir,
        weights=options.weights,
        average=options.average,
        batch_size=options.batch_size,
    )
    _say_accuracy(evaluate_shown(request, device, progress=not options.quiet, say=say), "")


def _say_accuracy(found: TopAccuracies, how: str) -> None:
    say(f"mean accuracy of the classes (balanced accuracy): {found.balanced:.2%}")
    say(f"top-1 {found.top1:.2%}, top-5 {found.top5:.2%} on {counted(found.images, 'image')}{how}")


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of a retraining, such as RUN/retrain, or an architecture.json with --weights.",
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="Form to write, one of {se_nas.export.forms:FORMS}; may be repeated. By default all those whose "
            "packages are installed."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files; by default export/ beside the weights.")
    ] = None,
    weights: Weights = None,
    average: Average = None,
    opset: Annotated[
        int | None,
        typer.Option(
            min=OLDEST_OPSET,
            max=NEWEST_OPSET,
            help=f"Opset of the ONNX file, which older runtimes need lower. By default {USUAL_OPSET}.",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Write ONNX in INT8 too, quantised on training images, and say what that costs in accuracy on the "
            "test images, and what each SE costs there.",
        ),
    ] = False,
    int8_float_se: Annotated[
        str | None,
        typer.Option(
            metavar="all|BLOCK,...",
            help="With --int8, blocks whose SE stays in float: all, or their numbers from 1, such as 3,5.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="With --int8, the folder of the images; by default where they lay for the training."),
    ] = None,
    plugin: Plugins = None,
    quiet: Quiet = False,
) -> None:
    """Write a trained network as ONNX, as torch.export, as a plain module that needs only torch, or as a timm model.

    Each form is read back from its file and compared with the network before it is kept. export.json says how well they
    agree, and how fast the network is in ONNX Runtime and in PyTorch.
    """
    from se_nas.runs.export import Int8Options, export_retrained

    for name, given in (("--int8-float-se", int8_float_se), ("--data-dir", data_dir)):
        if given is not None and not int8:
            raise ConfigError(name, [f"must be left out without --int8, but got {short(str(given))}"])
    folder = output or (source if source.is_dir() else source.parent) / "export"
    tune_allocator()
    quantise = Int8Options(float_se=int8_float_se, data_dir=data_dir, progress=not quiet) if int8 else None
    export_retrained(source, folder, to, weights=weights, average=average, opset=opset, int8=quantise, say=say)
    say(f"exported to: {folder}")


def prune(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a retraining, or of a run whose winner was retrained.")
    ],
    keep: Annotated[
        list[str],
        typer.Option(
            metavar="METRIC=SHARE|LIMIT",
            help="What may be left of a cost that is counted: a share such as macs=70%, or a limit such as params=50k; "
            "may be repeated.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--out", help="Folder for the network; by default pruned/ beside the weights.")
    ] = None,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    device: Device = "auto",
) -> None:
    """Cut the channels of a trained network that matter least, so that it keeps budgets exactly.

    Expansions, stages and the head become narrower. What a channel matters is the weight of what reads it, times its
    mean gate where SE scales it. Batch norms are recalibrated, and nothing is trained: `se-nas retrain --from` the new
    folder fine-tunes it.
    """
    from se_nas.hardware.device import pick_device
    from se_nas.runs.subnets.fine_tuning import accuracy_lines
    from se_nas.runs.subnets.pruning import prune as cut

    if wrong := [word for word in keep if word.count("=") != 1]:
        must = "must be METRIC=SHARE such as macs=70%, or METRIC=LIMIT"
        raise ConfigError("--keep", [f"{must}, but got {short(w)}" for w in wrong])
    metrics = [word.partition("=")[0] for word in keep]
    if twice := [metric for metric in dict.fromkeys(metrics) if metrics.count(metric) > 1]:
        raise ConfigError("--keep", [f"{short(metric)}: must be given once, but is given twice" for metric in twice])
    folder = output or source / "pruned"
    tune_allocator()
    shares = dict(word.split("=") for word in keep)
    cut(source, shares, folder, data_dir=data_dir, device=pick_device(device), say=say)
    for line in accuracy_lines(folder):
        say(line)
    say(f"network with its weights: {folder}; to fine-tune it: se-nas retrain --from {folder} --epochs 3")
