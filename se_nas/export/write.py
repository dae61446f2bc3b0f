"""Export: a trained network in the forms that others take it in, each read back and compared before it is handed on."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from se_nas.cost.counts import network_counts
from se_nas.data.class_folders import few
from se_nas.errors import ConfigError, ExportError, OutputError
from se_nas.export.agreement import BATCHES, greatest_difference, latency_beside
from se_nas.export.forms import FORMS, Subject
from se_nas.export.record import ExportedForm, ExportedNetwork, ExportReport, Normalisation
from se_nas.hardware.environment import describe_environment
from se_nas.hardware.lines import Say
from se_nas.layers.network import Network
from se_nas.records.bounds import USUAL_OPSET
from se_nas.records.checkpoint import weights_digest
from se_nas.records.models.environment import Environment
from se_nas.records.models.int8 import Int8Export
from se_nas.records.record import read_record, write_record
from se_nas.space.architecture_file import ArchitectureFile

REPORT = "export.json"


def export_network(
    network: Network,
    file: ArchitectureFile,
    out: Path,
    forms: Sequence[str],
    *,
    say: Say = print,
    normalisation: Normalisation | None = None,
    opset: int = USUAL_OPSET,
    int8_file: str | None = None,
) -> ExportReport:
    """Write a trained network into the folder `out` in some forms, and a report of them, REPORT.

    Every form is read back from its files and compared with the network before any of them appears in `out`.

    Args:
        network: with its weights, on any device and in any mode; it is left as it is.
        file: its architecture.
        forms: names in FORMS.
        say: told one line for each form.
        normalisation: noted in every form, for those who feed it images; None where it is not known.
        opset: of ONNX, from OLDEST_OPSET to NEWEST_OPSET.
        int8_file: the name that the caller writes a network in INT8 under; None where it writes none, and that of an
            earlier export stays in the report.

    Returns:
        What REPORT holds: the network's size, and for each form its files (bytes by name, and their SHA-256), its
        greatest difference from the network as a share of the greatest logit, and where it has a runtime the
        milliseconds beside PyTorch's.
        Forms of the same weights that an earlier export left in `out` are kept in it.

    Raises:
        ExportError: a form is unknown, needs a package that is not installed, or differs from the network by more than
            its bar; or `out` holds other forms, of other weights or altered since, or files in the place of the forms'
            own that no earlier export lists in its report.
        OutputError: the folder cannot be written to.
    """
    _check(forms)
    reference = copy.deepcopy(network).cpu().float().eval()
    reference.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub forgets it
    about = _about(reference, file)
    earlier = _earlier(out)
    int8 = earlier.int8 if earlier is not None and int8_file is None else None
    kept = _kept(out, earlier, forms, about, int8)
    owned = _owned(out, earlier, [*(file for name in forms for file in FORMS[name].files), *filter(None, [int8_file])])
    subject = Subject(reference, file, normalisation, _notes(about, normalisation), opset)
    report = ExportReport(network=about, normalisation=normalisation, forms=kept, int8=int8)
    environment = describe_environment()
    entries: dict[str, ExportedForm] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".export.") as temporary:
            for name in forms:
                folder = Path(temporary, name)
                folder.mkdir()
                entries[name] = _write_one(name, subject, folder, environment)
            # while files are exchanged the report is of the others, but says whose they are
            write_record(out / REPORT, report.model_copy(update={"exchanged": owned}))
            for name in forms:
                _move_into(out, Path(temporary, name))
    except OSError as error:
        raise OutputError(f"{out}: the output must be writable, but got: {error.strerror or error}") from error
    report = report.model_copy(update={"forms": {**kept, **entries}})
    named = {*(int8.files if int8 else ()), *(file for entry in report.forms.values() for file in entry.files)}
    if left := tuple(file for file in owned if file not in named and os.path.lexists(out / file)):
        report = report.model_copy(update={"exchanged": left})
    write_record(out / REPORT, report)
    for name, entry in entries.items():
        say(_words(name, entry))
    return report


def _check(forms: Sequence[str]) -> None:
    known = ", ".join(FORMS)
    if not forms:
        raise ExportError(f"forms of export must be some of {known}, but got none")
    for name in forms:
        if name not in FORMS:
            raise ExportError(f"a form of export must be one of {known}, but got {name!r}")
        if lacks := FORMS[name].lacks:
            raise ExportError(f"export as {name} {lacks}")


def _about(network: Network, file: ArchitectureFile) -> ExportedNetwork:
    spec = network.spec
    counts = network_counts(spec)
    return ExportedNetwork(
        space=file.space_name,
        resolution=spec.resolution,
        channels=spec.in_channels,
        classes=spec.head.classes,
        params=counts.params,
        macs=counts.macs,
        weights_sha256=weights_digest(network.state_dict()),
    )


def _notes(about: ExportedNetwork, normalisation: Normalisation | None) -> dict[str, str]:
    """What every form carries in words."""
    notes = {name: str(value) for name, value in about}
    if normalisation is not None:
        kind = {1: "grey", 3: "RGB"}.get(about.channels, f"{about.channels} channels")
        notes["images"] = f"{kind} in [0, 1], less the mean, divided by the standard deviation"
        notes["mean"] = ", ".join(f"{value:g}" for value in normalisation.mean)
        notes["standard deviation"] = ", ".join(f"{value:g}" for value in normalisation.std)
        if normalisation.resolution is not None:
            notes["input size"] = f"{about.channels}, {normalisation.resolution}, {normalisation.resolution}"
        if normalisation.crop is not None:
            notes["crop"] = f"{normalisation.crop:g}"
        if normalisation.interpolation is not None:
            notes["interpolation"] = normalisation.interpolation
        if normalisation.class_names is not None:
            notes["class names"] = json.dumps(normalisation.class_names)
    return notes


def _earlier(out: Path) -> ExportReport | None:
    path = out / REPORT
    if not os.path.lexists(path):
        return None
    try:
        return read_record(ExportReport, path)
    except ConfigError as error:
        raise ExportError(
            f"{path}: the file must be the report of an earlier export, or not be there, but it is another; move it "
            f"away, or export elsewhere"
        ) from error


def _owned(out: Path, earlier: ExportReport | None, files: Sequence[str]) -> tuple[str, ...]:
    """The files that the export may write or replace; ExportError if one stands there that no export wrote."""
    listed: set[str] = set()
    if earlier is not None:
        listed.update(earlier.exchanged or (), *(form.files for form in earlier.forms.values()))
        listed.update(earlier.int8.files if earlier.int8 else ())
    there = [file for file in files if os.path.lexists(out / file)]
    foreign = [file for file in there if file not in listed or (out / file).is_dir()]
    folders = sorted({file.rpartition("/")[0] for file in files} - {""})
    foreign += [folder for folder in folders if os.path.lexists(out / folder) and not (out / folder).is_dir()]
    if foreign:
        raise ExportError(
            f"{out}: what an export replaces must be files that the {REPORT} there lists, but {few(foreign)} "
            f"none; move them away, or export elsewhere"
        )
    return tuple(sorted({*listed, *files}))


def _kept(
    out: Path, earlier: ExportReport | None, forms: Sequence[str], about: ExportedNetwork, int8: Int8Export | None
) -> dict[str, ExportedForm]:
    """The entries of an earlier export that this one leaves in place; an error unless what it left is as it was."""
    if earlier is None:
        return {}
    kept = {name: entry for name, entry in earlier.forms.items() if name not in forms}
    others: dict[str, ExportedForm | Int8Export] = {**kept}
    if int8 is not None:
        others["int8"] = int8
    if others and earlier.network.weights_sha256 != about.weights_sha256:
        raise ExportError(
            f"{out}: a folder must hold the exports of one network, but this one has {', '.join(others)} of other "
            f"weights; export these forms too, or elsewhere"
        )
    for name, entry in others.items():
        for file, then in entry.sha256.items():
            if not (out / file).is_file() or _sha256(out / file) != then:
                must = f"must be as the export of {name} wrote it, but is altered or gone"
                raise ExportError(f"{out / file}: {must}; export {name} again too")
    return kept


def _write_one(name: str, subject: Subject, folder: Path, environment: Environment) -> ExportedForm:
    form = FORMS[name]
    form.write(subject, folder)
    run = form.load(folder)
    difference = greatest_difference(subject.network, run)
    if not difference <= form.bar:
        raise ExportError(
            f"export as {name} must agree with the network to {form.bar:g} of its greatest logit, but the greatest "
            f"difference is {difference:.3g}"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return ExportedForm(
        files={name: path.stat().st_size for name, path in names.items()},
        sha256={name: _sha256(path) for name, path in names.items()},
        greatest_difference=difference,
        bar=form.bar,
        batches=BATCHES,
        latency=None if form.runtime is None else latency_beside(form.runtime, run, subject.network),
        environment=environment,
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _move_into(out: Path, folder: Path) -> None:
    """File by file: what else is in a folder of a form is not the export's."""
    for made in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = out / made.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        os.replace(made, target)


def _words(name: str, entry: ExportedForm) -> str:
    sizes = ", ".join(f"{file} ({size / 2**20:.1f} MiB)" for file, size in entry.files.items())
    line = f"{name}: {sizes}; differs by {entry.greatest_difference:.1e} (bar {entry.bar:g})"
    latency, runtime = entry.latency, FORMS[name].runtime
    if latency is not None and runtime is not None:
        line += f"; {latency.of(runtime).median_ms:.3g} ms an image, PyTorch {latency.pytorch.median_ms:.3g} ms"
    return line
