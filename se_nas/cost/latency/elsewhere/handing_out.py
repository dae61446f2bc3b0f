"""Networks that somebody else is to time: an ONNX file and a line of picks each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from se_nas.cost.latency.choosing import distinct_blocks
from se_nas.cost.latency.elsewhere.design import d_optimal
from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.errors import ConfigError, OutputError, counted, install
from se_nas.layers.network import Network
from se_nas.records.files import write_atomic
from se_nas.space.search_space import SearchSpace

FILE = "networks.jsonl"


def write_networks(
    space: SearchSpace, count: int, folder: Path, *, batch_size: int = 1, seed: int = 0
) -> Iterator[str]:
    """Write the networks that `d_optimal` chooses; FILE is the last, so that a folder with one is whole.

    Yields:
        What to say of it.

    Raises:
        ConfigError: onnx is not installed.
        OutputError: the folder is there and not empty, or cannot be written to.
    """
    if find_spec("onnx") is None:  # torch's exporter asks for it only at its end
        raise ConfigError("latency networks", [f"must have onnx, not installed here: {install('runtimes')}"])
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise OutputError(f"{folder}: must be a folder that is not there yet or empty, but it has files")
    design = d_optimal(space, count, seed)
    if len(design.architectures) < count:
        yield f"{space.name} has {counted(len(design.architectures), 'network')}, not {count:,}: all are written"
    lines = []
    for number, architecture in enumerate(design.architectures):
        name = f"{number:04d}.onnx"
        network = Network(space.resolve(architecture)).eval()
        images = torch.zeros(batch_size, network.spec.in_channels, network.spec.resolution, network.spec.resolution)
        write_atomic(folder / name, onnx_bytes(network, [images]))
        lines.append(json.dumps({"onnx": name, "picks": architecture.as_dict()}) + "\n")
    write_atomic(folder / FILE, "".join(lines))
    terms = counted(len(distinct_blocks(space)), "block")
    yield f'{folder}: {counted(len(lines), "network")} for the times of {terms}; add "ms" to each line of {FILE}'
    yield f"of random networks {design.efficiency:.2f} times as many would tell as much of the blocks' times"
