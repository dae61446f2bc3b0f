"""A folder that timm loads a network from, with its architecture, weights and configuration."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from se_nas.errors import CheckpointError
from se_nas.export.record import Normalisation
from se_nas.export.timm_model import CONFIG, image_config, pretrained_config, timm
from se_nas.layers.network import Network
from se_nas.records.checksum import checksum_fault, with_checksum
from se_nas.records.files import write_atomic, write_json
from se_nas.space.architecture_file import ArchitectureFile, save_architecture

ARCHITECTURE = "architecture.json"
WEIGHTS = "weights.pth"


def write_timm_folder(
    network: Network,
    file: ArchitectureFile,
    out: Path,
    normalisation: Normalisation | None = None,
) -> None:
    """Write what timm needs to build `network` into the folder `out`: architecture.json, weights.pth and config.json.

    The first two are for `timm.create_model("se_nas", architecture=..., checkpoint_path=...)`, which finds the third
    beside them; `timm.create_model("local-dir:FOLDER", pretrained=True)` needs to be told no more than the folder.

    Args:
        network: its weights are written, on the CPU.
        file: where the network's architecture comes from; the file written has `network`'s own specification.
        out: made if need be; each file is written atomically.
        normalisation: what the images went through that the network was trained on; None where it is not known.

    Raises:
        OutputError: the folder cannot be written to.
    """
    spec = network.spec
    save_architecture(out / ARCHITECTURE, replace(file, network=spec))
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in network.state_dict().items()}, buffer)
    write_atomic(out / WEIGHTS, with_checksum(buffer.getvalue()))
    config = {
        "architecture": "se_nas",
        "num_classes": spec.head.classes,
        "model_args": {"architecture": spec.to_dict()},
        "pretrained_cfg": pretrained_config(spec)
        | ({} if normalisation is None else image_config(spec, normalisation)),
    }
    write_json(out / CONFIG, config)


def load_timm_folder(folder: Path) -> nn.Module:
    """The model of a folder that `write_timm_folder` wrote, in evaluation mode.

    Raises:
        CheckpointError: the weights are altered, which timm's own `checkpoint_path` does not look for.
    """
    architecture, weights = folder / ARCHITECTURE, folder / WEIGHTS
    with weights.open("rb") as file:
        fault = checksum_fault(file)
    if fault is not None:
        raise CheckpointError(f"{weights}: the weights must be those that were exported, but {fault}")
    model: nn.Module = timm.create_model("se_nas", architecture=architecture, checkpoint_path=weights)
    return model.eval()
