"""A Python file of its own: the network as a readable PyTorch module that needs torch and nothing else."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from se_nas.errors import ExportError
from se_nas.export import plain_blocks
from se_nas.export.agreement import Run
from se_nas.export.plain_source import PlainLayer, activation_source, call_source
from se_nas.export.record import Normalisation
from se_nas.layers.network import Network
from se_nas.records.checksum import with_checksum
from se_nas.records.files import write_atomic
from se_nas.records.registry import Code, imported
from se_nas.space.attention import ATTENTION
from se_nas.space.attention.kind import AttentionUnit
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.plan import BlockPlan, Branch, Layer
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec

FILE, WEIGHTS = "network.py", "weights.pt"
WIDTH = 110  # of a line of the file

_FILE = '''"""A convolutional network that se_nas wrote as a PyTorch module, which needs torch and nothing else.

{notes}

`load()` reads the weights from {weights} beside this file. What acts in training alone is left out but for dropout.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

{images}
{layers}


class Network(nn.Module):
    """Maps images (B, {channels}, {resolution}, {resolution}) to logits (B, {classes})."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = {stem}
        self.blocks = nn.Sequential(
{blocks}
        )
        self.head = {head}

    def forward(self, x: Tensor) -> Tensor:
        """(B, {channels}, {resolution}, {resolution}) to (B, {classes})."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def load(weights: str | Path = Path(__file__).with_name("{weights}")) -> Network:
    """The trained network, in eval mode, on the CPU."""
    if zipfile.is_zipfile(weights):
        with zipfile.ZipFile(weights) as archive:  # torch.load does not look at the checksums in its files
            if (part := archive.testzip()) is not None:
                raise ValueError(f"{{weights}}: the weights must be those that were written, but {{part}} is altered")
    network = Network()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()
'''

_IMAGES = '''
MEAN = {mean}  # of each channel of images from 0 to 1
STD = {std}
RESOLUTION, CROP, INTERPOLATION = {resolution}, {crop}, "{interpolation}"
CLASSES: tuple[str, ...] = ({classes})


def preprocess(images: Tensor) -> Tensor:
    """What the network wants to see of images (B, {channels}, H, W) of any size, of bytes or of numbers from 0 to 1.

    The shorter side is resized to RESOLUTION / CROP, the centre cut out, and each channel normalised.
    """
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    height, width = x.shape[2:]
    side, shorter = int(RESOLUTION / CROP), min(height, width)
    if shorter != side:
        size = [int(side * height / shorter), int(side * width / shorter)]
        x = F.interpolate(x, size, mode=INTERPOLATION, antialias=True, align_corners=False).clamp(0, 1)
    top, left = (round((length - RESOLUTION) / 2) for length in x.shape[2:])
    x = x[:, :, top : top + RESOLUTION, left : left + RESOLUTION]
    mean, std = (x.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (x - mean) / std

'''


def write_plain_module(
    network: Network, notes: Mapping[str, str], folder: Path, normalisation: Normalisation | None = None
) -> None:
    """Write FILE and WEIGHTS, a plain state dict under the names of `Network`'s.

    Args:
        network: on the CPU.
        notes: go into the file's first lines.
        normalisation: what the function `preprocess` does, which the file has where it is known.
    """
    buffer = io.BytesIO()
    torch.save(dict(network.state_dict()), buffer)
    write_atomic(folder / WEIGHTS, with_checksum(buffer.getvalue()))
    write_atomic(folder / FILE, source(network.spec, notes, normalisation))


def load_plain_module(folder: Path) -> Run:
    """The network of a folder's file, as a function."""
    path = folder / FILE
    # run as it stands: an import would leave a cache of byte code in the folder
    names: dict[str, Any] = {"__name__": "network", "__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    run: Run = torch.inference_mode()(names["load"]())
    return run


def source(spec: NetworkSpec, notes: Mapping[str, str], normalisation: Normalisation | None = None) -> str:
    """The text of FILE: the layers that the network has, and the network as calls of them."""
    layers: list[Callable[..., object]] = [
        *dict.fromkeys(source for block in spec.blocks for part in _parts(block) for source in part.sources),
        plain_blocks.Layer,
        plain_blocks.MixedConvolution,
        plain_blocks.Branch,
        plain_blocks.Block,
        plain_blocks.Stem,
        plain_blocks.Head,
    ]
    return _FILE.format(
        # nothing in them may end the string that they stand in
        notes="\n".join(f"{name}: {value}" for name, value in notes.items()).replace("\\", "/").replace('"', "'"),
        weights=WEIGHTS,
        images="" if normalisation is None else _images(spec, normalisation),
        layers="\n\n".join(inspect.getsource(layer) for layer in layers).rstrip(),
        channels=spec.in_channels,
        resolution=spec.resolution,
        classes=spec.head.classes,
        stem=_stem(spec.stem_convs),
        blocks="\n".join(_block_lines(index, block) for index, block in enumerate(spec.blocks)),
        head=_head(spec.head),
    )


def _images(spec: NetworkSpec, images: Normalisation) -> str:
    """The constants and the function that turn images into what the network sees."""
    names = "".join(f"\n    {name!r}," for name in images.class_names or ())
    return _IMAGES.format(
        mean=images.mean,
        std=images.std,
        resolution=images.resolution or spec.resolution,
        crop=images.crop or 1.0,
        interpolation=images.interpolation or "bilinear",
        classes=f"{names}\n" if names else "",
        channels=spec.in_channels,
    )


def _stem(convs: Sequence[ConvSpec]) -> str:
    parts = [
        (
            *(spec.in_channels, spec.out_channels, spec.kernel, spec.stride),
            *(spec.bias, spec.norm, activation_source(spec.activation), repr(spec.pool)),
        )
        for spec in convs
    ]
    return f"Stem({_listed([', '.join(map(str, part)).join('()') for part in parts])})"


def _block_lines(index: int, spec: BlockSpec) -> str:
    plan = block_plan(spec)
    options: dict[str, object] = _given(plan)
    if plan.branches:
        options["branches"] = f"[{_listed([_branch(branch) for branch in plan.branches])}]"
    options |= {
        name: _layer(layer) for name, layer in (("last", plan.last), ("shortcut", plan.shortcut)) if layer is not None
    }
    options |= {
        "body": f"[{_listed([_layer(layer) for layer in plan.body])}]",
        "activation": activation_source(spec.activation),
    }
    if "skip" in options:
        options["skip"] = f'"{plan.skip}"'
    if plan.whole is not None:
        options["whole"] = _whole(plan.whole).call
    if spec.se is not None and spec.unit is not None:
        options |= {"se": _attention(spec.unit).call, "se_position": f'"{spec.se.position}"'}
    margin = " " * 12
    words = "\n".join(f"{margin}    {name}={value}," for name, value in options.items())
    return f"{margin}# {index}: {spec.kind} on {spec.resolution}x{spec.resolution}\n{margin}Block(\n{words}\n{margin}),"


def _listed(items: list[str]) -> str:
    """The items in one line, or each in a line of its own where they are long."""
    margin = "\n" + " " * 20
    return ", ".join(items) if sum(map(len, items)) < WIDTH - 40 else f"{margin}{f',{margin}'.join(items)}"


def _layer(layer: Layer) -> str:
    options = _given(layer)
    sizes = [f'"{options.pop("name")}"', options.pop("in_channels"), options.pop("out_channels")]
    options.pop("resolution")
    return call_source("Layer", sizes, **options)


def _branch(branch: Branch) -> str:
    options = {"pool": f'"{branch.pool}"', "stride": branch.stride} if branch.pool is not None else {}
    return call_source("Branch", [f"[{', '.join(_layer(layer) for layer in branch.layers)}]"], **options)


def _given(value: BlockPlan | Layer) -> dict[str, object]:
    """The fields that are not left at their defaults."""
    shown = {field.name: getattr(value, field.name) for field in fields(value)}
    return {field.name: shown[field.name] for field in fields(value) if shown[field.name] != field.default}


def _parts(block: BlockSpec) -> list[PlainLayer]:
    """The layers of a block that its kind, and the kind of its attention, have sources of."""
    whole = block_plan(block).whole
    return [*([_whole(whole)] if whole is not None else []), *([_attention(block.unit)] if block.unit else [])]


def _whole(shape: BlockShape) -> PlainLayer:
    return _plain_layer(BLOCKS[shape.kind].plain, shape)


def _attention(unit: AttentionUnit) -> PlainLayer:
    return _plain_layer(ATTENTION[unit.kind].plain, unit)


def _plain_layer(code: Code | None, part: BlockShape | AttentionUnit) -> PlainLayer:
    if code is None:
        raise ExportError(f"the plain module must have the source of {part.kind}, but its entry gives none (`plain`)")
    layer: PlainLayer = imported(code)(part)
    return layer


def _head(spec: HeadSpec) -> str:
    optional = {
        "norm": spec.norm,
        "max_pool": spec.max_pool,
        "width": spec.width,
        "flatten": spec.flatten,
        "hidden": tuple(outputs for _, outputs in spec.linears),
    }
    biases = {name: getattr(spec, name) for name in ("hidden_bias", "classifier_bias")}
    return call_source(
        "Head",
        [spec.in_channels],
        activation=activation_source(spec.activation),
        dropout=spec.dropout,
        features=spec.pooled,
        classes=spec.classes,
        **{name: value for name, value in optional.items() if value},
        **{name: bias for name, bias in biases.items() if not bias},
    )
