"""The forms of export by name; what writes one is imported when it is first used, so that a help can list them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from se_nas.errors import install
from se_nas.records.bounds import USUAL_OPSET
from se_nas.records.registry import Registry

if TYPE_CHECKING:
    from se_nas.export.agreement import Run
    from se_nas.export.record import Normalisation
    from se_nas.layers.network import Network
    from se_nas.space.architecture_file import ArchitectureFile

TIMM_FOLDER = "timm"


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        network: in evaluation mode, float32, on the CPU.
        file: its architecture.
        normalisation: see `export.write.export_network`.
        notes: what every form carries in words.
        opset: of ONNX.
    """

    network: Network
    file: ArchitectureFile
    normalisation: Normalisation | None
    notes: Mapping[str, str]
    opset: int = USUAL_OPSET


@dataclass(frozen=True)
class Form:
    """One form of export.

    Attributes:
        files: what it puts into a folder; names below that.
        write: puts the files of a network into a folder.
        load: reads them back, as a function of images.
        bar: greatest difference from the network that may be, as a share of its greatest logit.
        packages: what must be installed.
        runtime: what runs it, if it is to be timed beside PyTorch; on one thread.
    """

    files: tuple[str, ...]
    write: Callable[[Subject, Path], None]
    load: Callable[[Path], Run]
    bar: float
    packages: tuple[str, ...] = ()
    runtime: str | None = None

    @property
    def lacks(self) -> str | None:
        """What must be installed before it can be written, and how, in words; None where all of it is."""
        missing = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if not missing:
            return None
        *others, last = missing
        words = f"{', '.join(others)} and {last}" if others else last
        return f"needs {words} to be installed: {install('export')}"


def _write_onnx(subject: Subject, folder: Path) -> None:
    from se_nas.export.onnx_file import write_onnx

    write_onnx(subject.network, subject.notes, folder, subject.opset)


def _load_onnx(folder: Path) -> Run:
    from se_nas.export.onnx_file import load_onnx

    return load_onnx(folder)


def _write_program(subject: Subject, folder: Path) -> None:
    from se_nas.export.torch_program import write_program

    write_program(subject.network, subject.notes, folder)


def _load_program(folder: Path) -> Run:
    from se_nas.export.torch_program import load_program

    return load_program(folder)


def _write_plain(subject: Subject, folder: Path) -> None:
    from se_nas.export.plain_module import write_plain_module

    write_plain_module(subject.network, subject.notes, folder, subject.normalisation)


def _load_plain(folder: Path) -> Run:
    from se_nas.export.plain_module import load_plain_module

    return load_plain_module(folder)


def _write_timm(subject: Subject, folder: Path) -> None:
    from se_nas.export.timm_folder import write_timm_folder

    write_timm_folder(subject.network, subject.file, folder / TIMM_FOLDER, subject.normalisation)


def _load_timm(folder: Path) -> Run:
    import torch

    from se_nas.export.timm_folder import load_timm_folder

    run: Run = torch.inference_mode()(load_timm_folder(folder / TIMM_FOLDER))
    return run


FORMS: Registry[Form] = Registry(
    "form of export",
    {
        "onnx": Form(
            ("network.onnx",),
            _write_onnx,
            _load_onnx,
            1e-4,
            ("onnx", "onnxruntime", "onnxscript"),
            "onnxruntime",
        ),
        "torch_export": Form(("network.pt2",), _write_program, _load_program, 1e-5),
        "plain": Form(("network.py", "weights.pt"), _write_plain, _load_plain, 1e-5),
        "timm": Form(
            tuple(f"{TIMM_FOLDER}/{name}" for name in ("architecture.json", "config.json", "weights.pth")),
            _write_timm,
            _load_timm,
            1e-5,
            ("timm",),
        ),
    },
)
