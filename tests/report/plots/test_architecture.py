from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from se_nas.report.plots.architecture import draw_architecture_svg
from se_nas.space.attention import ATTENTION
from se_nas.space.specs import NetworkSpec, SESpec
from se_nas.space.yaml.file import load_space
from tests.report.fake_run import SPACES

SVG = "{http://www.w3.org/2000/svg}"


def sampled(name: str) -> NetworkSpec:
    space = load_space(SPACES / f"{name}.yaml")
    return space.resolve(space.sample(np.random.default_rng(1)))


def blocks_of(svg: str) -> list[ElementTree.Element]:
    return [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("class") == "block"]


@pytest.mark.parametrize("name", ["mbconv_digits", "mbconv_cifar", "mbconv_imagenet", "baselines/se_resnet50"])
def test_every_block_is_drawn_with_its_words_and_its_se(name: str) -> None:
    network = sampled(name)
    drawn = blocks_of(draw_architecture_svg(network, "A network"))
    assert len(drawn) == len(network.blocks)
    for group, block in zip(drawn, network.blocks, strict=True):
        title = group.find(f"{SVG}title")
        assert title is not None
        assert block.words() in (title.text or "")
        texts = [text.text for text in group.iter(f"{SVG}text")]
        rectangles = [rectangle.get("class") for rectangle in group.iter(f"{SVG}rect")]
        if block.se is None:
            assert rectangles == ["bare"]
            assert "none" in texts
        else:
            assert rectangles[0] == "box"
            assert len(rectangles) == 3
            assert f"r{block.se.ratio:g}" in texts
            assert str(block.se_hidden) in texts


def test_every_kind_of_attention_is_drawn_with_its_name() -> None:
    network = sampled("mbconv_cifar")
    kinds = ATTENTION
    units = [SESpec(ratio=2, kind=kind) for kind in kinds]
    blocks = [replace(network.blocks[0], se=unit) for unit in units]
    svg = draw_architecture_svg(replace(network, blocks=tuple(blocks)), "Attention")
    for group, block, name in zip(blocks_of(svg), blocks, ("r2", "eca", "ese", "cbam2", "spatial"), strict=True):
        texts = [text.text for text in group.iter(f"{SVG}text")]
        assert name in texts
        assert (str(block.se_hidden) in texts) == (name in ("r2", "cbam2"))
        tone = [rectangle.get("class") for rectangle in group.iter(f"{SVG}rect")][-1]
        assert f".{tone}{{fill:" in svg


def test_heights_grow_with_the_root_of_the_channels() -> None:
    network = sampled("mbconv_cifar")
    heights = []
    for group in blocks_of(draw_architecture_svg(network)):
        box = group.find(f"{SVG}rect")
        assert box is not None
        heights.append(float(box.get("height", "nan")))
    ratios = [height / block.expanded**0.5 for height, block in zip(heights, network.blocks, strict=True)]
    assert max(ratios) == pytest.approx(min(ratios), rel=0.01)


def test_a_deep_network_wraps_into_rows_inside_the_picture() -> None:
    network = sampled("mbconv_cifar")
    svg = draw_architecture_svg(replace(network, blocks=network.blocks * 4), "Deep")
    root = ElementTree.fromstring(svg)
    width, height = (float(side) for side in root.get("viewBox", "").split()[2:])
    assert len(blocks_of(svg)) == 4 * len(network.blocks)
    assert len(re.findall(r'<g transform="translate\(0 \d+\)"><?', svg)) > 2
    for element in root.iter():
        assert float(element.get("x", 0)) <= width
        assert float(element.get("y", 0)) <= height


def test_the_title_is_escaped_and_nothing_is_loaded() -> None:
    svg = draw_architecture_svg(sampled("mbconv_digits"), "<script>alert(1)</script> & co")
    assert "<script" not in svg
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in svg
    assert "href" not in svg
    assert "url(" not in svg
