"""torch.export (https://docs.pytorch.org/docs/stable/export.html): the network as a graph, for any batch size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from se_nas.export.agreement import Run
from se_nas.layers.network import Network
from se_nas.records.checksum import with_checksum
from se_nas.records.files import write_atomic

FILE = "network.pt2"


def export_program(network: Network) -> ExportedProgram:
    """The graph of a network that is in eval mode, of images (B, channels, resolution, resolution) for every B >= 1."""
    spec = network.spec
    images = torch.zeros(2, spec.in_channels, spec.resolution, spec.resolution)  # 1 image would make B the constant 1
    with quiet(), torch.no_grad():
        program = torch.export.export(network, (images,), dynamic_shapes={"x": {0: Dim("batch", min=1)}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def write_program(network: Network, notes: Mapping[str, str], folder: Path) -> None:
    """Write FILE; `torch.export.load(path).module()` reads it. Each of `notes` is in it as an extra file."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(export_program(network), buffer, extra_files=dict(notes))
    write_atomic(folder / FILE, with_checksum(buffer.getvalue()))


def load_program(folder: Path) -> Run:
    """The program in a folder, as a function."""
    with quiet():
        run: Run = torch.inference_mode()(torch.export.load(str(folder / FILE)).module())
    return run


@contextmanager
def quiet() -> Iterator[None]:
    """For torch's exporters, which warn of deprecated calls of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
