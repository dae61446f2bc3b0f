from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from se_nas.cost.counts import network_counts
from se_nas.cost.latency.timing import Measurement, latency_key
from se_nas.errors import ConfigError, OutputError
from se_nas.evidence.sweep import MeasuredSweep, parse_sweep, sweep_space, write_sweep
from se_nas.layers.network import Network
from se_nas.space.yaml.file import load_space, parse_space
from tests.helpers.tiny_runs import SPACE, changed

SE_RESNET50 = Path(__file__).parents[2] / "search_spaces" / "baselines" / "se_resnet50.yaml"
#: Blocks of SE-ResNet-50 by the channels that they put out (arXiv 1709.01507, table 1).
BLOCKS = {256: 3, 512: 4, 1024: 6, 2048: 3}
#: Millions of parameters by ratio (arXiv 1709.01507, table 10).
PAPER = {2: 45.7, 4: 35.7, 8: 30.7, 16: 28.1, 32: 26.9}


def test_the_ratios_of_the_paper_cost_what_its_formula_says() -> None:
    sweep = sweep_space(load_space(SE_RESNET50), "se", ["none", *map(str, PAPER)])
    plain, *with_se = sweep.points
    assert (plain.option, plain.counts.params) == ("none", 25_557_032)
    for ratio, point in zip(PAPER, with_se, strict=True):
        weights = sum(blocks * 2 * c * c // ratio for c, blocks in BLOCKS.items())
        biases = sum(blocks * (c + c // ratio) for c, blocks in BLOCKS.items())
        assert point.option == str(ratio)
        assert point.counts.params == plain.counts.params + weights + biases
        assert point.counts.macs == plain.counts.macs + weights
        assert abs(point.counts.params / 1e6 - PAPER[ratio]) < 0.1


def test_the_table_of_the_paper_counts_what_a_file_of_weights_holds() -> None:
    """Its ablation has no biases in SE (section 6), and the means and variances of the norms count in its table.

    So ratio 8 has 30.64 M, where the table has 30.7; the others are the table's to its last digit.
    """
    points = sweep_space(load_space(SE_RESNET50), "se", list(map(str, PAPER))).points
    with torch.device("meta"):
        norms = [m for m in Network(points[0].network).modules() if isinstance(m, nn.BatchNorm2d)]
    statistics = sum(2 * norm.num_features for norm in norms)
    stored = {}
    for point in points:
        biases = sum(block.se_channels + block.se_hidden for block in point.network.blocks)
        stored[int(point.option)] = round((point.counts.params - biases + statistics) / 1e6, 1)
    assert stored == {**PAPER, 8: 30.6}


def test_what_a_space_leaves_open_takes_the_most_macs() -> None:
    sweep = sweep_space(parse_space(SPACE, "tiny"), "se", ["none", "4"])
    for point in sweep.points:
        assert len(point.network.blocks) == 3
        assert {block.kernel for block in point.network.blocks} == {5}
        assert point.counts == network_counts(point.network)
    ratios = [[block.se and block.se.ratio for block in point.network.blocks] for point in sweep.points]
    assert ratios == [[None] * 3, [4] * 3]


def test_blocks_without_the_part_stay_as_they_are() -> None:
    space = parse_space(changed(SPACE, "stages.0.se", None), "tiny")
    (point,) = sweep_space(space, "se", ["cbam/2"]).points
    assert [block.se and block.se.kind for block in point.network.blocks] == [None, None, "cbam"]


@pytest.mark.parametrize(
    ("part", "options"),
    [("se.position", ("inside", "post")), ("se.gate", ("sigmoid", "relu")), ("se.squeeze", ("mean", "none"))],
)
def test_a_property_of_se_may_be_swept(part: str, options: tuple[str, ...]) -> None:
    space = parse_space(changed(SPACE, "stages.1.se.options", [2]), "tiny")
    points = sweep_space(space, part, options).points
    found = [getattr(point.network.blocks[-1].se, part.removeprefix("se.")) for point in points]
    assert found == list(options)


def test_kernels_may_be_swept() -> None:
    points = sweep_space(parse_space(SPACE, "tiny"), "kernel", ["1", "7"]).points
    assert [{block.kernel for block in point.network.blocks} for point in points] == [{1}, {7}]


@pytest.mark.parametrize(
    ("part", "option", "words"),
    [
        ("width", "8", "must name a part that blocks of tiny have (kernel, expansion, activation, "),
        ("se", "0.5", 'se=0.5: tiny: stages[0].blocks[0].se.options[0]: must be "none" or a reduction ratio'),
        ("se", "[", 'se=[: tiny: stages[0].blocks[0].se.options[0]: must be "none" or a reduction ratio'),
        ("kernel", "4", "kernel=4: tiny: stages[0].blocks[0].kernel[0]: a kernel must be odd, but got 4"),
        ("se.gate", "softmax", "se.gate=softmax: tiny: stages[0].blocks[0].se.gate: must be 'sigmoid', "),
    ],
)
def test_what_no_block_can_have_is_said_once(part: str, option: str, words: str) -> None:
    with pytest.raises(ConfigError) as fault:
        sweep_space(parse_space(SPACE, "tiny"), part, [option])
    (problem,) = fault.value.problems
    assert problem.startswith(words)


@pytest.mark.parametrize("part", ["se", "se.position"])
def test_without_se_a_file_that_has_it_is_named(part: str) -> None:
    bare = changed(changed(SPACE, "stages.0.se", None), "stages.1.se", None)
    with pytest.raises(ConfigError, match=r"search_spaces/baselines/se_resnet50\.yaml$"):
        sweep_space(parse_space(bare, "tiny"), part, ["4"])
    sweep_space(load_space(SE_RESNET50), part, ["4" if part == "se" else "post"])
    with pytest.raises(ConfigError, match=r"but got 'se\.other'$"):
        sweep_space(parse_space(SPACE, "tiny"), "se.other", ["4"])


@pytest.mark.parametrize("word", ["se", "se=", "=2", "se=2,,4", "se=2,2"])
def test_a_sweep_of_another_form_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="with distinct options, such as se=2,4,8, but got"):
        parse_sweep(word)


def test_a_sweep_is_a_part_and_its_options() -> None:
    assert parse_sweep("se=none, 2,cbam/16") == ("se", ("none", "2", "cbam/16"))


def test_the_file_has_counts_latencies_and_conditions(tmp_path: Path) -> None:
    sweep = sweep_space(parse_space(SPACE, "tiny"), "se", ["none", "2"])
    measured = MeasuredSweep(latency_key(), (Measurement(1.0, 1.1, (0.9, 1.2), 6), Measurement(2.0, 2, (1.5, 2.5), 6)))
    found = json.loads(write_sweep(tmp_path, sweep, measured).read_text())
    assert (found["space"], found["part"], found["latency_conditions"]["batch_size"]) == ("tiny", "se", 1)
    assert found["points"][1]["params"] == sweep.points[1].counts.params
    assert found["points"][1]["latency"] == {"median_ms": 2.0, "mean_ms": 2, "ci95_ms": [1.5, 2.5], "n": 6}
    assert found["environment"]["packages"]["torch"] == torch.__version__
    assert measured.conditions.endswith("batch 1, 1 thread, CPU time of the one thread, n = 6")


def test_without_a_clock_the_file_has_counts_alone(tmp_path: Path) -> None:
    sweep = sweep_space(parse_space(SPACE, "tiny"), "se", ["none", "2"])
    found = json.loads(write_sweep(tmp_path, sweep, None).read_text())
    assert found["latency_conditions"] is None
    assert [point["latency"] for point in found["points"]] == [None, None]


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="must be writable"):
        write_sweep(tmp_path / "file", sweep_space(parse_space(SPACE, "tiny"), "se", ["2"]), None)
