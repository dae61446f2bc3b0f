"""The INT8 form: quantised from the ONNX form, read back, and measured beside it with and without each SE in float.

SE's gates are what quantisation tends to break: they scale whole channels, and the mean that they are computed of has
a narrower range than the map. So a network is made for each SE that is kept in float, and all are measured alike.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from se_nas.cost.latency.runtimes.quantise import WORDS, quantised
from se_nas.cost.latency.timing import latency_conditions, latency_key
from se_nas.errors import ExportError, OutputError, counted
from se_nas.export.agreement import Run, in_turns
from se_nas.export.int8.se_units import module_of, se_units
from se_nas.export.onnx_file import FILE as ONNX_FILE
from se_nas.export.onnx_file import nodes_of, run_onnx
from se_nas.export.record import ExportReport
from se_nas.export.write import REPORT
from se_nas.hardware.environment import describe_environment
from se_nas.hardware.lines import Say
from se_nas.records.files import write_atomic
from se_nas.records.models.int8 import Int8Export, QuantisedNetwork
from se_nas.records.record import read_record, write_record
from se_nas.space.specs import NetworkSpec

FILE = "network_int8.onnx"

CALIBRATED_ON = 512
"""Training images that tell the ranges."""
TESTED_ON = 10_000
"""Test images at most, so that a network for ImageNet with every SE takes minutes."""
_ROUNDS = 40


@dataclass(frozen=True)
class Int8Images:
    """What the network is calibrated and tested on.

    Attributes:
        data: the name of the data set.
        calibration: batches of training images, as the network is given them.
        training_images, test_images: how many there are, of which these are some.
        test: batches of test images and their classes, once.
    """

    data: str
    calibration: Sequence[Tensor]
    training_images: int
    test: Iterable[tuple[Tensor, Tensor]]
    test_images: int


def write_int8(
    spec: NetworkSpec,
    out: Path,
    images: Int8Images,
    float_se: tuple[int, ...] = (),
    *,
    say: Say = print,
) -> ExportReport:
    """Quantise the ONNX form in `out` into FILE beside it, and note in its report what that costs.

    Args:
        spec: of the network.
        out: a folder that `export.write.export_network` has written ONNX into, told of FILE.
        float_se: numbers of the blocks whose SE stays in float.
        say: told how much is to be done.

    Returns:
        What its report holds now.

    Raises:
        ExportError: the quantised network's logits are not finite.
        OutputError: the folder cannot be written to.
    """
    report = read_record(ExportReport, out / REPORT)
    model = (out / ONNX_FILE).read_bytes()
    units = se_units(spec)
    every = tuple(unit.block for unit in units)
    wanted = [(), *((block,) for block in every), every, float_se]
    wanted = list(dict.fromkeys(wanted))  # where there is one SE, it is all of them
    calibration = [batch.cpu().numpy() for batch in images.calibration]
    calibrated_on = sum(map(len, calibration))
    say(
        f"int8: {counted(len(wanted), 'network')} are quantised on {counted(calibrated_on, 'training image')} and "
        "tested, which takes a while; stopped, the same command begins here again"
    )
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".export.") as temporary:
            paths = [out / ONNX_FILE]
            for number, blocks in enumerate(wanted):
                kept = [name for block in blocks for name in nodes_of(model, module_of(block))]
                paths.append(write_atomic(Path(temporary, f"{number}.onnx"), quantised(model, calibration, kept)))
            tested_on, (float32, *networks) = _measured([None, *wanted], paths, images)
            made = paths[1 + wanted.index(float_se)].read_bytes()
            found = Int8Export(
                weights_sha256=report.network.weights_sha256,
                how=WORDS,
                data=images.data,
                calibrated_on=calibrated_on,
                training_images=images.training_images,
                tested_on=tested_on,
                test_images=images.test_images,
                units=units,
                float32=float32,
                int8=tuple(networks),
                written=float_se,
                files={FILE: len(made)},
                sha256={FILE: hashlib.sha256(made).hexdigest()},
                conditions=latency_conditions(latency_key("cpu", "onnxruntime", "int8")),
                environment=describe_environment(),
            )
            # the file is listed before it is there: stopped between the two, it is no stranger
            others = {*(report.exchanged or ())} - {FILE}
            listing: dict[str, object] = {"int8": None, "exchanged": (*sorted(others), FILE)}
            write_record(out / REPORT, report.model_copy(update=listing))
            write_atomic(out / FILE, made)
            listing = {"int8": found, "exchanged": tuple(sorted(others)) or None}
            report = report.model_copy(update=listing)
            write_record(out / REPORT, report)
    except OSError as error:
        raise OutputError(f"{out}: the output must be writable, but got: {error.strerror or error}") from error
    return report


def _measured(
    kept: Sequence[tuple[int, ...] | None], paths: Sequence[Path], images: Int8Images
) -> tuple[int, list[QuantisedNetwork]]:
    """How many images were shown, and what each file's network makes of them; the second is in INT8 throughout."""
    runs = [run_onnx(path, torch.get_num_threads()) for path in paths]
    tested_on, right, agreeing, gained, lost = 0, *torch.zeros(4, len(runs), dtype=torch.int64)
    for shown, classes in images.test:
        guesses = torch.stack([_guesses(run, shown.cpu()) for run in runs])
        hits = guesses == classes.cpu()
        tested_on += len(classes)
        right += hits.sum(1)
        agreeing += (guesses == guesses[0]).sum(1)
        gained += (hits & ~hits[1]).sum(1)
        lost += (~hits & hits[1]).sum(1)
    image = images.calibration[0][:1].cpu()
    timings = in_turns([partial(run_onnx(path), image) for path in paths], _ROUNDS)
    return tested_on, [
        QuantisedNetwork(
            float_se=kept[place],
            accuracy=int(right[place]) / tested_on,
            agreement=int(agreeing[place]) / tested_on,
            gained=int(gained[place]),
            lost=int(lost[place]),
            latency=timings[place],
            bytes=path.stat().st_size,
        )
        for place, path in enumerate(paths)
    ]


def _guesses(run: Run, images: Tensor) -> Tensor:
    logits = run(images)
    if not logits.isfinite().all():
        raise ExportError("a network's logits must be finite in INT8 too, but on test images some are not")
    return logits.argmax(1)
