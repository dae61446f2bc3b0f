"""Handing a retrained network on: which weights, with what is known of the images that it wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from se_nas.errors import ConfigError
from se_nas.export.forms import FORMS
from se_nas.export.int8.se_units import parse_float_se
from se_nas.export.int8.words import int8_lines
from se_nas.export.int8.write import CALIBRATED_ON, FILE, TESTED_ON, Int8Images, write_int8
from se_nas.export.record import ExportReport, normalisation_of
from se_nas.export.write import export_network
from se_nas.hardware.lines import Say
from se_nas.records.bounds import NEWEST_OPSET, OLDEST_OPSET, USUAL_OPSET
from se_nas.runs.run_folder import RETRAINING, alone_in
from se_nas.runs.shown_images import ImageRequest, shown_images
from se_nas.space.specs import NetworkSpec
from se_nas.training.trained_network import TRAINED_ON, WEIGHTS, DataCard, load_trained


@dataclass(frozen=True, kw_only=True)
class Int8Options:
    """How the network in INT8 is made.

    Attributes:
        float_se: whose SE stays in float: "all", or numbers of blocks with commas between them; None for none.
        data_dir: the folder of the images; by default where they lay for the training.
        progress: show bars on the standard error stream.
    """

    float_se: str | None = None
    data_dir: Path | None = None
    progress: bool = False


def export_retrained(
    source: Path,
    out: Path,
    forms: Sequence[str] | None,
    *,
    weights: Path | None,
    average: bool | None,
    opset: int | None,
    int8: Int8Options | None = None,
    say: Say,
) -> ExportReport:
    """Export the network of a retraining; see `load_trained` for the weights and `export_network` for the rest.

    Args:
        forms: names in FORMS; None for all whose packages are installed, and a line on each of the others.
        opset: of ONNX; None for the usual one, and where ONNX is not written.
        int8: whether and how ONNX is written in INT8 too.
    """
    if weights is None and not (source / WEIGHTS).exists() and (source / RETRAINING / WEIGHTS).exists():
        must = f"must be the folder of a retraining, but is that of a run, whose retraining is in {source / RETRAINING}"
        raise ConfigError(str(source), [must])
    wanted = [name for name, form in FORMS.items() if form.lacks is None] if forms is None else forms
    if opset is not None:
        if "onnx" not in wanted:
            raise ConfigError("--opset", [f"must be left out where onnx is not written, but got {opset}"])
        if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
            raise ConfigError("--opset", [f"must be from {OLDEST_OPSET} to {NEWEST_OPSET}, but got {opset}"])
    if int8 is not None and "onnx" not in wanted:
        why = f"export as onnx {FORMS['onnx'].lacks}" if FORMS["onnx"].lacks else f"got --to {' --to '.join(wanted)}"
        raise ConfigError("--int8", [f"must be left out where onnx is not written, but {why}"])
    network, file, taken = load_trained(source, weights, average=average)
    say(taken.words())
    home = source if source.is_dir() else source.parent
    trained_on = DataCard.load(home)
    if trained_on is None:
        say("nothing beside the weights says what the images went through, so the forms do not either (data.json)")
    normalisation = normalisation_of(trained_on) if trained_on is not None else None
    float_se: tuple[int, ...] = ()
    images = None
    if int8 is not None:
        float_se = parse_float_se(int8.float_se, file.network)
        if trained_on is None:
            must = f"must be of a network whose training images are known, but {home} has no {TRAINED_ON}"
            raise ConfigError("--int8", [must])
        images = _int8_images(home, file.network, int8, say)
    with alone_in(out):
        report = export_network(
            network,
            file,
            out,
            wanted,
            say=say,
            normalisation=normalisation,
            opset=opset or USUAL_OPSET,
            int8_file=None if images is None else FILE,
        )
        if images is not None:
            report = write_int8(file.network, out, images, float_se, say=say)
            assert report.int8 is not None
            for line in int8_lines(report.int8):
                say(line)
    for name, form in FORMS.items():
        if forms is None and form.lacks:
            say(f"left out: {name}, which {form.lacks}")
    return report


def _int8_images(home: Path, network: NetworkSpec, int8: Int8Options, say: Say) -> Int8Images:
    """Training images to calibrate on, and the test images."""
    cpu = torch.device("cpu")
    training = ImageRequest(source=home, data_dir=int8.data_dir, training=True, images=CALIBRATED_ON)
    testing = ImageRequest(source=home, data_dir=int8.data_dir, images=TESTED_ON)
    calibration = shown_images(training, home, network, cpu, int8.progress)
    tested = shown_images(testing, home, network, cpu, int8.progress)
    for line in (*calibration.notes, *tested.notes):
        say(line)
    return Int8Images(
        data=tested.data,
        calibration=[images for images, _ in calibration.batches("reading training images")],
        training_images=calibration.of_images,
        test=tested.batches("testing in int8"),
        test_images=tested.of_images,
    )
