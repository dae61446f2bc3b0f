from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.container import ErrorbarContainer
from torch import Tensor, nn

from se_nas.errors import DataError
from se_nas.evidence.excitation import Excitation, Loss, UnitStudy, study_excitation
from se_nas.evidence.gates import GateStatistics
from se_nas.records.models.environment import Environment
from se_nas.report.pages.excitation.notes import notes, takes_scale
from se_nas.report.pages.excitation.numbers import Studied
from se_nas.report.pages.excitation.page import write_excitation
from se_nas.report.plots import excitation as excitation_plots
from se_nas.space.yaml.file import parse_space
from tests.evidence.test_excitation import CLASSES, batches, images, network_with_se
from tests.export.trained import trained
from tests.report.fake_run import ENVIRONMENT
from tests.report.pages.test_retraining import rows_of
from tests.report.pages.test_run import Page

STUDIED = Studied("some_space", "cifar10", 900, Environment(**ENVIRONMENT))
IMAGES = 10_000


#: What is tested here is how pages look: see `figures` of conftest.
RENDERED = True


@pytest.fixture(scope="module")
def excitation() -> Excitation:
    x, labels = images(300)
    return study_excitation(network_with_se(2, "none", 4, 2), lambda words: batches(x, labels), CLASSES)


@pytest.fixture(scope="module")
def folder(excitation: Excitation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("excitation")
    assert write_excitation(folder, excitation, STUDIED) == folder / "excitation.html"
    return folder


def with_losses(excitation: Excitation, *losses: tuple[Loss, Loss], together: Loss | None = None) -> Excitation:
    """The same gates, with other losses: fixed and removed of each unit."""
    units = tuple(
        replace(study, fixed=fixed, removed=removed)
        for study, (fixed, removed) in zip(excitation.units, losses, strict=True)
    )
    return replace(excitation, units=units, together=together)


def with_gates(study: UnitStudy, level: float, spread: float) -> UnitStudy:
    """Gates of about one level over 300 images of three classes."""
    gates = np.random.default_rng(0).normal(level, spread, (3, 100, 8)).clip(0, 1)
    histogram, _ = np.histogram(gates, bins=20, range=(0, 1))
    sums, squares = gates.sum(1), (gates**2).sum(1)
    return replace(study, gates=GateStatistics(np.full(3, 100.0), sums, squares, histogram / gates.size, np.ones(8)))


WORKS, IDLE, UNCLEAR = Loss(300, 100, IMAGES), Loss(20, 22, IMAGES), Loss(900, 890, IMAGES)


def test_the_page_is_whole_and_loads_nothing(folder: Path, excitation: Excitation) -> None:
    text = (folder / "excitation.html").read_text()
    page = Page(text)
    assert (page.tags["main"], page.tags["script"]) == (1, 0)
    assert all(reference.startswith("#") for reference in page.loads)
    assert len(page.ids) == len(set(page.ids))
    for title in ("What each SE is worth", "Every unit", "Gates by class", "Classes by depth", "Depth", "Provenance"):
        assert f"<h2>{title}</h2>" in text
    rows = rows_of(text)
    for study in excitation.units:
        cells = rows[str(study.unit.number)]
        assert cells[:3] == [
            str(study.unit.spec.se_channels),
            str(study.unit.spec.se_hidden),
            f"{study.unit.parameters:,}",
        ]
        assert cells[-1] == study.fixed.verdict
    assert "300 of 900" in text


def test_names_are_escaped_and_lose_their_folders(excitation: Excitation, tmp_path: Path) -> None:
    studied = replace(STUDIED, network="<script>alert(1)</script>", data="/home/me/here/cifar")
    text = write_excitation(tmp_path, replace(excitation, classes=("<b>", "b", "c")), studied).read_text()
    assert ("<script>" in text, "&lt;script&gt;alert(1)" in text) == (False, True)
    assert ("<b>" in text, "/home/me" in text, "…/cifar" in text) == (False, False, True)


def test_the_numbers_for_others_are_those_of_the_study(folder: Path, excitation: Excitation) -> None:
    found = json.loads((folder / "excitation.json").read_text())
    assert (found["format"], found["version"]) == ("se_nas excitation", 1)
    assert (found["accuracy"], found["images"], found["classes"]) == (excitation.accuracy, 300, list(CLASSES))
    assert "mean of the gate over these very images" in found["fixed_gate"]
    for block, study in zip(found["blocks"], excitation.units, strict=True):
        assert (block["block"], block["se"]) == (study.unit.index + 1, f"blocks.{study.unit.index}.se")
        np.testing.assert_allclose(block["channel_mean"], study.gates.mean, atol=1e-6)
        assert block["fixed"] == {
            "accuracy_lost": study.fixed.share,
            "ci95": list(study.fixed.interval),
            "worse": study.fixed.worse,
            "better": study.fixed.better,
        }
        assert list(block["classes"]) == list(CLASSES)
    assert found["notes"] == notes(excitation)
    arrays = np.load(folder / "gates.npz")
    assert arrays["classes"].tolist() == list(CLASSES)
    for study in excitation.units:
        np.testing.assert_allclose(arrays[f"{study.unit.name}.class_mean"], study.gates.class_mean, atol=1e-6)
        np.testing.assert_allclose(arrays[f"{study.unit.name}.class_std"], study.gates.class_std, atol=1e-6)


def test_importance_orders_the_channels_of_each_unit(folder: Path, excitation: Excitation) -> None:
    found = json.loads((folder / "importance.json").read_text())
    assert found["format"] == "se_nas channel importance"
    for block, study in zip(found["blocks"], excitation.units, strict=True):
        importance = np.array(block["importance"])
        assert len(importance) == study.unit.spec.se_channels
        assert importance.sum() == pytest.approx(1, abs=1e-5)
        assert sorted(block["least_first"]) == list(range(len(importance)))
        assert (np.diff(importance[block["least_first"]]) >= 0).all()
        np.testing.assert_allclose(importance, study.gates.rms / study.gates.rms.sum(), atol=1e-6)
        assert block["position"] == "inside"


def test_an_idle_unit_is_named_with_what_it_would_save(excitation: Excitation) -> None:
    found = with_losses(excitation, (WORKS, WORKS), (IDLE, WORKS), (IDLE, IDLE), together=IDLE)
    together, of_block, *others = [line for line in notes(found) if "parameters" in line]
    assert len(others) == 1
    _, second, third = found.units
    saved = second.unit.parameters + third.unit.parameters
    assert together.startswith("With fixed gates in all 2 idle units at once, accuracy changes by +0.02 points (95 %")
    assert f"{saved:,} fewer parameters ({100 * saved / found.parameters:.1f} %)" in together
    assert of_block.startswith(
        f"Block {second.unit.number}: with its gates fixed at their mean, accuracy changes by +0.02"
    )
    assert "its mean gate goes into the convolution behind it" in of_block
    assert f"saves {second.unit.parameters:,} parameters" in of_block
    assert f"Block {third.unit.number}: " in others[0]
    assert "left out whole" in others[0]


BEHIND, BEFORE = "the convolution behind it", "the convolution before it"


@pytest.mark.parametrize(
    ("block", "stride", "position", "taker"),
    [
        ("mbconv", 1, "inside", BEHIND),
        ("mbconv", 1, "pre", BEHIND),
        ("mbconv", 1, "standard", BEFORE),
        ("mbconv", 1, "identity", None),
        ("mbconv", 1, "post", None),
        ("mbconv", 2, "post", BEFORE),
        ("basic", 2, "identity", "the convolution of the shortcut"),
        ("basic", 2, "pre", BEHIND),  # beside the shortcut that reads the same
        ("basic", 2, "standard", BEFORE),
        ("basic", 2, "post", None),
    ],
)
def test_the_convolution_that_is_named_does_take_the_scale_in(
    block: str, stride: int, position: str, taker: str | None
) -> None:
    own = {"kind": block, "kernel": 3, "expansion": 2, "se": {"options": [2], "divisor": 4, "position": position}}
    stage = {"width": 16, "stride": stride, "blocks": [own]}
    data = {"name": "x", "resolution": 8, "classes": 3, "stem": {"width": 16}, "stages": [stage]}
    space = parse_space(data, "x")
    network = trained(space.resolve(next(space.enumerate()))).eval()
    module: Any = network.blocks[0]
    assert takes_scale(module.spec) == taker
    scale, x = torch.rand(module.spec.se_channels) + 0.1, images(4)[0]
    with torch.no_grad():
        module.se = Scale(scale)
        expected = network(x)
        module.se = nn.Identity()
        if taker == BEHIND:
            name = "project" if position == "inside" else module.plan.body[0].name
            getattr(module, name).weight *= scale[:, None, None]  # of what it reads
        elif taker is not None:
            norm = module.project_norm if taker == BEFORE else module.shortcut_norm
            norm.weight *= scale
            norm.bias *= scale
        assert torch.allclose(network(x), expected, atol=1e-5) == (taker is not None)


class Scale(nn.Module):
    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None]


@pytest.mark.parametrize("removed", [WORKS, IDLE])
def test_a_scale_that_must_stay_is_said_to_and_is_not_saved(removed: Loss) -> None:
    x, labels = images(30)
    found = study_excitation(network_with_se(2, 2, position="identity"), lambda words: batches(x, labels), CLASSES)
    found = with_losses(found, (IDLE, removed), (WORKS, WORKS))
    unit = found.units[0].unit
    (line,) = [line for line in notes(found) if line.startswith("Block")]
    assert ("stays, as a fixed scale that no convolution of the block can take in" in line) == (removed is WORKS)
    saved = unit.parameters - (unit.spec.se_channels if removed is WORKS else 0)
    assert f"saves {saved:,} parameters" in line


def test_one_gate_for_all_channels_is_given_for_each_and_not_drawn_by_channel(tmp_path: Path) -> None:
    x, labels = images(30)
    for options in (["spatial", 2], ["spatial", "spatial"]):
        found = study_excitation(network_with_se(*options), lambda words: batches(x, labels), CLASSES)
        page = write_excitation(tmp_path, found, STUDIED).read_text()
        facts, importance = (
            json.loads((tmp_path / f"{name}.json").read_text()) for name in ("excitation", "importance")
        )
        assert "all channels have the one gate of the position" in facts["shared_gates"]
        assert importance["shared_gates"] == facts["shared_gates"]
        assert [block["one_gate_for_all_channels"] for block in facts["blocks"]] == [o == "spatial" for o in options]
        for block, of_block in zip(facts["blocks"], importance["blocks"], strict=True):
            lengths = {len(block[name]) for name in ("channel_mean", "channel_std")}
            lengths |= {len(of_block[name]) for name in ("importance", "gate_mean", "rms", "least_first")}
            assert lengths == {block["channels"]}
        assert len(set(facts["blocks"][0]["channel_mean"])) == 1
        assert facts["shared_gates"] in page
        assert ("<h2>Gates by class</h2>" in page) == (2 in options)
    found = study_excitation(network_with_se("spatial", 2), lambda words: batches(x, labels), CLASSES)
    assert len(excitation_plots.class_gates(found, [0]).axes) == 1


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "tanh", "relu"])
def test_gates_without_ends_are_not_said_to_saturate(gate: str, tmp_path: Path) -> None:
    x, labels = images(30)
    ends = "sigmoid" in gate
    found = study_excitation(network_with_se(2, 2, gate=gate), lambda words: batches(x, labels), CLASSES)
    found = with_losses(found, (IDLE, IDLE), (WORKS, WORKS))
    found = replace(found, units=(with_gates(found.units[0], 0.99, 0.003), found.units[1]))
    page = write_excitation(tmp_path, found, STUDIED).read_text()
    facts = json.loads((tmp_path / "excitation.json").read_text())
    assert (facts["blocks"][0]["above_0.95"], facts["blocks"][0]["below_0.05"]) == ((1, 0) if ends else (None, None))
    assert ("saturation" in facts, "Gates of relu and tanh" in page) == (not ends, not ends)
    assert any("saturates" in line for line in notes(found)) == ends
    shares = excitation_plots.by_depth(found).axes[2].lines[0].get_ydata()
    assert np.isfinite(np.asarray(shares, dtype=float)).all() == ends


def test_too_few_images_are_said_to_be(excitation: Excitation) -> None:
    found = with_losses(excitation, *[(UNCLEAR, WORKS)] * 3)
    assert sum("images are too few to tell" in line for line in notes(found)) == 3
    assert not any("dropped" in line for line in notes(found))


def test_where_every_unit_works_the_words_say_so(excitation: Excitation) -> None:
    lines = notes(with_losses(excitation, *[(WORKS, WORKS)] * 3))
    assert lines[0] == "Every SE earns its place: with fixed gates each of them loses accuracy."
    assert not any(line.startswith("Block") for line in lines)


@pytest.mark.parametrize(
    ("level", "spread", "words"),
    [
        (0.99, 0.003, "It saturates: of its gates 100 % above 0.95."),
        (0.5, 0.004, "Its gates hardly move from image to image (standard deviation 0.004)."),
        (0.5, 0.1, ""),
    ],
)
def test_odd_gates_are_described(excitation: Excitation, level: float, spread: float, words: str) -> None:
    found = with_losses(excitation, (IDLE, IDLE), (WORKS, WORKS), (WORKS, WORKS))
    found = replace(found, units=(with_gates(found.units[0], level, spread), *found.units[1:]))
    (line,) = [line for line in notes(found) if line.startswith("Block")]
    assert words in line
    assert ("saturates" in line, "hardly" in line) == ("saturates" in words, "hardly" in words)


def test_classes_to_draw_may_be_named(excitation: Excitation, tmp_path: Path) -> None:
    text = write_excitation(tmp_path, excitation, STUDIED, ["c", "a"]).read_text()
    names = re.findall(r"</svg>(all images|a|b|c)</span>", text.split("Gates by class")[1].split("</section>")[0])
    assert names == ["all images", "c", "a"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["d"], r"one of the images looked at \(a, b, c\), but got 'd'"), (list("abcab"), "at most 4 .* but got 5")],
)
def test_classes_that_cannot_be_drawn_are_refused(
    excitation: Excitation, tmp_path: Path, classes: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_excitation(tmp_path, excitation, STUDIED, classes)
    assert not list(tmp_path.iterdir())


# ---- plots


def test_the_panels_show_mean_gates_of_classes(excitation: Excitation) -> None:
    figure = excitation_plots.class_gates(excitation, [0, 2])
    assert len(figure.axes) == 3
    for axes, study in zip(figure.axes, excitation.units, strict=True):
        drawn = [line.get_ydata() for line in axes.lines]
        wanted = [study.gates.mean, study.gates.class_mean[0], study.gates.class_mean[2]]
        for line, values in zip(drawn, wanted, strict=True):
            np.testing.assert_allclose(line, values)


def test_of_many_units_six_are_drawn_and_of_many_channels_fifty(excitation: Excitation) -> None:
    many = replace(excitation, units=excitation.units * 4)
    assert len(excitation_plots.class_gates(many, [0]).axes) == 6
    assert excitation_plots.spread_over(12, 6)[::5] == [0, 11]
    assert excitation_plots.spread_over(3, 6) == [0, 1, 2]
    assert len(excitation_plots.spread_over(320, excitation_plots.CHANNELS)) == 50


def test_bars_show_losses_with_their_intervals(excitation: Excitation) -> None:
    found = with_losses(excitation, (WORKS, WORKS), (IDLE, UNCLEAR), (UNCLEAR, Loss(6000, 0, IMAGES)))
    (axes,) = excitation_plots.accuracy_lost(found).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [0.02, -0.0002, 0.001, 0.02, 0.001, 0.6]
    assert axes.get_ylim()[1] < 0.1  # the one bar that is out of scale is named instead
    assert [text.get_text() for text in axes.texts] == ["60 %"]
    fixed, _ = [part for part in axes.containers if isinstance(part, ErrorbarContainer)]
    ends: Any = fixed.lines[2][0].get_segments()
    for segment, study in zip(ends, found.units, strict=True):
        np.testing.assert_allclose(segment[:, 1], study.fixed.interval, atol=1e-12)


def test_the_map_has_a_row_a_class_and_a_column_a_unit(excitation: Excitation) -> None:
    axes = excitation_plots.class_by_depth(excitation).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CLASSES)
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(s.unit.number) for s in excitation.units]
    cells = axes.collections[0].get_array()
    np.testing.assert_allclose(cells, np.stack([s.gates.class_distance for s in excitation.units], axis=1))


def test_of_many_classes_the_farthest_forty_are_in_the_map(excitation: Excitation) -> None:
    study = excitation.units[0]
    rng = np.random.default_rng(0)
    sums = rng.uniform(0, 1, (60, 8))
    gates = GateStatistics(np.ones(60), sums, sums**2, study.gates.histogram, np.ones(8))
    many = replace(excitation, classes=tuple(map(str, range(60))), units=(replace(study, gates=gates),))
    axes = excitation_plots.class_by_depth(many).axes[0]
    rows = [int(label.get_text()) for label in axes.get_yticklabels()]
    assert rows == sorted(np.argsort(-gates.class_distance)[:40])


def test_a_network_of_one_unit_without_movement_is_drawn(tmp_path: Path, excitation: Excitation) -> None:
    still = replace(excitation, units=(with_gates(excitation.units[0], 0.5, 0.0),))
    assert Page(write_excitation(tmp_path, still, STUDIED).read_text()).tags["main"] == 1
    assert len(list((tmp_path / "plots").glob("*.png"))) == 4
