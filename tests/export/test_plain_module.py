"""The plain module file: it is the network, needs torch alone, and has no more layers than the network does."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image
from torch import nn

from se_nas.data.on_disk.transforms import EvalTransform, normalise
from se_nas.export.agreement import greatest_difference
from se_nas.export.plain_module import FILE, load_plain_module, source, write_plain_module
from se_nas.export.plain_source import GATES
from se_nas.export.record import Normalisation
from se_nas.layers import activations
from se_nas.layers.network import Network
from se_nas.space.architecture import Architecture
from se_nas.space.attention import ATTENTION
from se_nas.space.blocks import BLOCKS
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec, SESpec
from se_nas.space.vocabulary import Position, Squeeze
from tests.export.trained import trained
from tests.helpers.example_blocks import example
from tests.helpers.strategies import spaces_with_architectures
from tests.helpers.tiny_imagenet import tiny_network


def written(network: Network, notes: dict[str, str] | None = None) -> float:
    """Its greatest difference from the network, written and read back."""
    with tempfile.TemporaryDirectory() as folder:
        write_plain_module(network, notes or {}, Path(folder))
        difference = greatest_difference(network.eval(), load_plain_module(Path(folder)))
        assert {path.name for path in Path(folder).iterdir()} == {"network.py", "weights.pt"}
    return difference


def plain(spec: NetworkSpec) -> nn.Module:
    names: dict[str, Any] = {"__name__": "network", "__file__": FILE}
    exec(source(spec, {}), names)
    made: nn.Module = names["Network"]()
    return made


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop"), [((40, 29), 0.875), ((16, 16), 1.0), ((9, 33), 0.9)])
def test_its_images_are_those_that_the_network_was_tested_on(
    size: tuple[int, int], crop: float, interpolation: str
) -> None:
    images = Normalisation(
        mean=(0.2, 0.3, 0.4),
        std=(0.5, 0.25, 0.3),
        resolution=16,
        crop=crop,
        interpolation=interpolation,
        class_names=("a\udce9", '"', "\u706b"),
    )
    names: dict[str, Any] = {"__name__": "network", "__file__": FILE}
    text = source(tiny_network(), {}, images)
    exec(compile(text.encode(), FILE, "exec"), names)
    assert names["CLASSES"] == images.class_names
    width, height = size
    smooth = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))[..., None] + [0, 5, 10]
    picture = Image.fromarray(smooth.astype(np.uint8))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    tested = torch.as_tensor(EvalTransform(16, crop, interpolation).build()(picture))[None]
    expected = normalise(tested, images.mean, images.std)
    bound = 2 / 255 / min(images.std)  # Pillow rounds after each of two passes
    for given_as in (pixels, pixels.float() / 255):
        torch.testing.assert_close(names["preprocess"](given_as), expected, rtol=0, atol=bound)
    assert "preprocess" not in source(tiny_network(), {})


@given(spaces_with_architectures())
def test_it_is_the_network(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    assert written(trained(space.resolve(architecture))) <= 1e-5


@pytest.fixture(scope="module")
def spec(tiny_space: SearchSpace) -> NetworkSpec:
    """The largest network of the tiny space."""
    *_, largest = tiny_space.enumerate()
    return tiny_space.resolve(largest)


@pytest.mark.parametrize("position", get_args(Position))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", BLOCKS)
def test_every_kind_of_block_has_its_layer(kind: Any, stride: int, position: Any, spec: NetworkSpec) -> None:
    block = example(kind, stride=stride, resolution=8, se=SESpec(ratio=2, divisor=1, position=position))
    stem = dataclasses.replace(spec.stem, out_channels=block.in_channels)
    head = dataclasses.replace(spec.head, in_channels=block.out_channels, resolution=block.out_resolution)
    made = trained(dataclasses.replace(spec, stem=stem, blocks=(block,), head=head))
    names, shapes = zip(*((n, t.shape) for n, t in sorted(made.state_dict().items())), strict=True)
    found = sorted(plain(made.spec).state_dict().items())
    assert names == tuple(name for name, _ in found)
    assert shapes == tuple(tensor.shape for _, tensor in found)
    assert written(made) <= 1e-5


@pytest.mark.parametrize("squeeze", get_args(Squeeze))
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", ATTENTION)
def test_every_kind_of_attention_has_its_layer(kind: Any, gate: Any, squeeze: Any, spec: NetworkSpec) -> None:
    unit = SESpec(ratio=2, divisor=1, gate=gate, squeeze=squeeze, kind=kind)
    blocks = tuple(dataclasses.replace(block, se=unit) for block in spec.blocks)
    made = trained(dataclasses.replace(spec, blocks=blocks))
    assert plain(made.spec).state_dict().keys() == made.state_dict().keys()
    assert written(made) <= 1e-5


def test_every_gate_has_its_module() -> None:
    assert set(GATES) == set(activations.GATES)
    x = torch.linspace(-5, 5, 21)
    for name, gate in activations.GATES.items():
        torch.testing.assert_close(eval(GATES[name])(x), gate(x))


def test_a_stem_may_be_pooled(spec: NetworkSpec) -> None:
    block = dataclasses.replace(spec.blocks[0], resolution=4)
    pooled = dataclasses.replace(
        spec,
        stem=dataclasses.replace(spec.stem, pool=True),
        blocks=(block,),
        head=dataclasses.replace(spec.head, in_channels=block.out_channels, resolution=4),
    )
    assert written(trained(pooled)) <= 1e-5
    assert plain(pooled).stem(torch.ones(1, 1, 8, 8)).shape == (1, 8, 4, 4)


def test_it_runs_where_there_is_only_torch(spec: NetworkSpec, tmp_path: Path) -> None:
    network = trained(spec)
    write_plain_module(network, {"space": "tiny"}, tmp_path)
    others = ("se_nas", "timm", "torchvision", "pydantic", "yaml", "onnx")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({others!r})); sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch, network\n"
        "print(network.load()(torch.ones(2, 1, 8, 8)).double().tolist())"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = network.eval()(torch.ones(2, 1, 8, 8))
    torch.testing.assert_close(torch.tensor(eval(done.stdout)), expected)


def test_it_holds_no_layer_that_the_network_lacks(spec: NetworkSpec) -> None:
    bare = [dataclasses.replace(block, se=None) for block in spec.blocks if block.kind == "mbconv"]
    text = source(dataclasses.replace(spec, blocks=tuple(bare)), {})
    for name in ("SqueezeExcite(nn.Module)", "import se_nas", "spec"):
        assert name not in text
    assert "class SqueezeExcite(nn.Module)" in source(spec, {})
    assert max(map(len, text.splitlines())) <= 120


def test_notes_stand_in_the_file_whatever_they_are(spec: NetworkSpec) -> None:
    text = source(spec, {"space": 'a"""b\\x', "classes": "3"})
    compile(text, FILE, "exec")
    assert "classes: 3" in text.partition('"""\n')[0]
