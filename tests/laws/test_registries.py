"""Law 9: every entry of BLOCKS and of ATTENTION, a user's own included, keeps the contract of its registry."""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import se_nas
from se_nas.cost.latency.timing import latency_key, measure_blocks
from se_nas.errors import ArchitectureError, ConfigError, ExportError
from se_nas.evidence.gates import units_of
from se_nas.export.agreement import greatest_difference
from se_nas.export.plain_module import load_plain_module, write_plain_module
from se_nas.export.torch_program import load_program, write_program
from se_nas.export.write import export_network
from se_nas.layers.activations import ACTIVATIONS
from se_nas.layers.network import Network
from se_nas.report.plots.architecture import draw_architecture_svg
from se_nas.report.theme.palette import attention_tone, tones
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.attention import ATTENTION, register_attention
from se_nas.space.block_plan import block_plan
from se_nas.space.blocks import BLOCKS, BlockKind, register_block
from se_nas.space.blocks.shape import BlockShape
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import NO_SE
from se_nas.space.yaml.file import dump_space, parse_space
from se_nas.supernet.supernet import SuperNet
from tests.export.trained import trained
from tests.helpers.own_kinds import CONTRAST, GHOST, added
from tests.helpers.probabilities import one_hot, soft
from tests.laws.test_counts import check_every_count
from tests.laws.test_one_supernet import images, lively_supernet

BLOCK_NAMES = (*BLOCKS, GHOST.name)
ATTENTION_NAMES = (*ATTENTION, CONTRAST.name)
#: What a kind must be given, and what it may be.
OWN: dict[str, dict[str, Any]] = {
    "inception": {"branches": [[2, 4], [2, 3, 5]], "pool_width": 7},
    "shuffle": {"expansion": 0.5, "groups": 2},
    GHOST.name: {"share": 0.25, "taps": [3, 5]},
}


@pytest.fixture(autouse=True)
def _own_kinds() -> Iterator[None]:
    with added():
        yield


def options_of(attention: str) -> list[Any]:
    """A kind's options in a file: of two ratios where it has any."""
    kind = ATTENTION[attention]
    if not kind.has_ratio:
        return [attention]
    return [2, 4] if attention == "se" else [f"{attention}/2", f"{attention}/4"]


def space_of(block: str, attention: str = "se", position: str = "standard") -> SearchSpace:
    """A stage that chooses between a kind of block, with every choice that it has, and another one."""
    kind = BLOCKS[block]
    given: dict[str, Any] = {"kind": block, "name": "mine", **OWN.get(block, {})}
    if "kernel" in kind.options:
        given["kernel"] = [3, 5]
    if "activation" in kind.options:
        given["activation"] = ["silu", "gelu"]
    if "expansion" in kind.options:
        given.setdefault("expansion", [1, 2])
    if "se" in kind.options:
        given["se"] = {
            "options": [NO_SE, 2, *(option for option in options_of(attention) if option != 2)],
            "divisor": 1,
            "gate": "sigmoid",
            "position": position,
        }
    other = {"kind": "mbconv", "name": "other", "expansion": 3}
    stage = {"width": 16, "stride": 2, "depth": [1, 2], "activation": "silu", "blocks": [given, other]}
    return parse_space(
        {
            "name": "contract",
            "resolution": 8,
            "channels": 1,
            "classes": 3,
            "channel_divisor": 2,
            "stem": {"width": 8},
            "stages": [stage],
        },
        block,
    )


def check_one_supernet(space: SearchSpace, draws: int = 3) -> None:
    supernet, x = lively_supernet(space, 0).eval(), images(space)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for _ in range(draws):
            architecture = space.sample(rng)
            expected = supernet.export(architecture)(x)
            assert expected.abs().max() > 1e-6
            torch.testing.assert_close(supernet.activate(architecture)(x), expected)
            torch.testing.assert_close(copy.deepcopy(supernet).mix(one_hot(space, architecture))(x), expected)
            check_every_count(space, architecture)


def with_the_kind(space: SearchSpace) -> Network:
    """The network whose every block is of the kind, with its last SE option."""
    picks = {choice.name: choice.options[-1] for choice in space.choices}
    return trained(space.resolve(space.architecture({**picks, **{n: "mine" for n in picks if n.endswith(".block")}})))


@pytest.mark.parametrize("block", BLOCK_NAMES)
def test_a_block_is_one_function_in_the_supernet_alone_and_mixed_and_every_count_agrees(block: str) -> None:
    check_one_supernet(space_of(block))


def test_a_block_without_a_plan_chooses_its_activation_where_its_options_say_so() -> None:
    def layer(shape: BlockShape) -> nn.Module:
        conv = nn.Conv2d(shape.in_channels, shape.out_channels, 1, shape.stride)
        return nn.Sequential(conv, ACTIVATIONS[shape.activation]())

    register_block(BlockKind(name="point", title="point", options=frozenset({"activation"}), layer=layer))
    try:
        space = space_of("point")
        assert space.choice_by_name["stage1.block1.mine.activation"].options == ("silu", "gelu")
        check_one_supernet(space)
    finally:
        del BLOCKS["point"]


def test_a_block_that_says_no_activation_is_refused_where_its_stage_has_several() -> None:
    data = yaml.safe_load(dump_space(space_of(GHOST.name)))
    data["stages"][0]["activation"] = ["silu", "relu"]
    with pytest.raises(
        ConfigError, match=r"stages\[0\]\.activation: must be one, as a ghost block does not choose among several, "
    ):
        parse_space(data, "space.yaml")


@pytest.mark.parametrize("position", ["inside", "pre", "post"])
def test_a_block_without_a_plan_takes_attention_around_it(position: str) -> None:
    check_one_supernet(space_of(GHOST.name, CONTRAST.name, position))


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@pytest.mark.parametrize("position", ["inside", "standard"])
def test_an_attention_is_one_function_in_the_supernet_alone_and_mixed_and_every_count_agrees(
    attention: str, position: str
) -> None:
    check_one_supernet(space_of("mbconv", attention, position))


@pytest.mark.parametrize("block", BLOCK_NAMES)
@pytest.mark.parametrize("attention", [CONTRAST.name])
def test_every_weight_and_every_probability_learns_in_a_mixture(block: str, attention: str) -> None:
    space = space_of(block, attention, "standard")
    torch.manual_seed(0)
    supernet = SuperNet(space).train()
    probabilities = {name: p.float().requires_grad_() for name, p in soft(space, 1).items()}
    supernet.mix(probabilities)(images(space).float()).square().sum().backward()
    for name, parameter in supernet.named_parameters():
        assert parameter.grad is not None, name
    assert all(p.grad is not None and p.grad.isfinite().all() for p in probabilities.values())


@pytest.mark.parametrize(
    ("block", "attention"), [(b, "se") for b in BLOCK_NAMES] + [("conv", a) for a in ATTENTION_NAMES]
)
def test_a_space_reads_back_equal_and_its_architectures_read_back_with_their_networks(
    block: str, attention: str, tmp_path: Path
) -> None:
    space = space_of(block, attention)
    again = parse_space(yaml.safe_load(dump_space(space)), "dumped")
    assert again == space
    assert again.digest == space.digest
    architecture = space.sample(np.random.default_rng(1))
    file = ArchitectureFile.of(space, architecture)
    assert load_architecture(save_architecture(tmp_path / "architecture.json", file)) == file
    assert all(
        block_plan(block).layers or block_plan(block).whole or block.keeps_shape for block in file.network.blocks
    )


def test_a_digest_holds_every_option_that_only_one_kind_has() -> None:
    space = space_of(GHOST.name)
    data = yaml.safe_load(dump_space(space))
    digests = {space.digest}
    for name, value in (("share", 0.5), ("taps", [3]), ("kind", "fused_mbconv")):
        changed = copy.deepcopy(data)
        block = changed["stages"][0]["blocks"][0]
        block[name] = value
        if name == "kind":
            del block["share"], block["taps"]
        digests.add(parse_space(changed, name).digest)
    assert len(digests) == 4


@pytest.mark.parametrize(("block", "attention"), [*((b, "se") for b in BLOCK_NAMES), ("conv", CONTRAST.name)])
def test_a_network_is_handed_on_as_it_is(block: str, attention: str, tmp_path: Path) -> None:
    network = with_the_kind(space_of(block, attention)).eval()
    write_program(network, {}, tmp_path)
    assert greatest_difference(network, load_program(tmp_path)) <= 1e-5
    if block == GHOST.name or attention == CONTRAST.name:
        with pytest.raises(
            ExportError, match=r"the plain module must have the source of \w+, but its entry gives none"
        ):
            write_plain_module(network, {}, tmp_path)
    else:
        write_plain_module(network, {}, tmp_path)
        assert greatest_difference(network, load_plain_module(tmp_path)) <= 1e-5


def test_one_s_own_kinds_are_handed_on_in_every_form_but_plain_source(tmp_path: Path) -> None:
    space = space_of(GHOST.name, CONTRAST.name)
    picks = {choice.name: choice.options[-1] for choice in space.choices}
    chosen = space.architecture({**picks, **{n: "mine" for n in picks if n.endswith(".block")}})
    network = trained(space.resolve(chosen))
    report = export_network(network, ArchitectureFile.of(space, chosen), tmp_path, ("onnx", "timm"), say=lambda _: None)
    assert set(report.forms) == {"onnx", "timm"}


@pytest.mark.parametrize(
    ("block", "attention"), [(b, "se") for b in BLOCK_NAMES] + [("conv", a) for a in ATTENTION_NAMES]
)
def test_a_network_is_drawn_and_said_in_words(block: str, attention: str) -> None:
    spec = with_the_kind(space_of(block, attention)).spec
    svg = draw_architecture_svg(spec)
    for drawn in spec.blocks:
        assert drawn.words() in svg
        assert f">{BLOCKS[block].mark(drawn)}<" in svg
        if drawn.se is not None:
            assert drawn.se.label in svg
            assert attention_tone(drawn.se.label) in tones()


def test_attention_that_does_not_say_its_gates_cannot_be_studied() -> None:
    with pytest.raises(ArchitectureError, match="must have a method `gates`, but contrast of block 1 has none"):
        units_of(with_the_kind(space_of("conv", CONTRAST.name)))


def test_a_block_of_one_s_own_is_timed() -> None:
    blocks = with_the_kind(space_of(GHOST.name, CONTRAST.name)).spec.blocks
    assert all(milliseconds >= 0 for milliseconds in measure_blocks(blocks, latency_key("cpu", "eager"), passes=1))


def test_names_that_are_taken_or_none_are_refused() -> None:
    for add, kind in ((register_block, GHOST), (register_attention, CONTRAST)):
        add(kind)  # a module that is imported twice
        for name in ("se" if add is register_attention else "conv", "Mine", "r16", NO_SE):
            with pytest.raises(ConfigError, match="name: must be"):
                add(dataclasses.replace(kind, name=name))
    with pytest.raises(ConfigError, match="short: must be new, but options of se begin with r"):
        register_attention(dataclasses.replace(CONTRAST, name="mine", short="r"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"kind": "gost"},
            r"blocks\[0\].kind: must be one of mbconv.*, ghost, but got 'gost'; did you mean ghost\?",
        ),
        ({"share": 2}, r"blocks\[0\].share: must be less than 1, but got 2"),
        ({"shares": 0.2}, r"blocks\[0\].shares: unknown key"),
        ({"groups": 2}, r"blocks\[0\].groups: a ghost block has no such option"),
        ({"se": {"options": ["contrst/2"]}}, r"blocks\[0\].se.options\[0\]: .*did you mean contrast\?"),
        (
            {"se": {"options": ["contrast"]}},
            r"blocks\[0\].se.options\[0\]: contrast needs a ratio, such as contrast/16",
        ),
    ],
    ids=str,
)
def test_a_fault_in_an_own_kind_is_one_line_with_its_path(change: dict[str, Any], problem: str) -> None:
    data = yaml.safe_load(dump_space(space_of(GHOST.name)))
    data["stages"][0]["blocks"][0].update(change)
    with pytest.raises(ConfigError, match=problem) as error:
        parse_space(data, "space.yaml")
    assert len(error.value.problems) == 1


def test_a_file_of_a_kind_that_is_not_there_says_so(tmp_path: Path) -> None:
    space = space_of(GHOST.name, CONTRAST.name)
    picks = {choice.name: choice.options[-1] for choice in space.choices}
    chosen = space.architecture({**picks, **{n: "mine" for n in picks if n.endswith(".block")}})
    path = save_architecture(tmp_path / "architecture.json", ArchitectureFile.of(space, chosen))
    del BLOCKS[GHOST.name], ATTENTION[CONTRAST.name]
    try:
        with pytest.raises(ArchitectureError) as error:
            load_architecture(path)
    finally:
        register_block(GHOST)
        register_attention(CONTRAST)
    lines = str(error.value).splitlines()
    assert any("blocks[0].kind: must be one of mbconv" in line and line.endswith("but got 'ghost'") for line in lines)
    assert any("blocks[0].se.kind: must be one of se" in line and "but got 'contrast'" in line for line in lines)


def test_nothing_outside_an_entry_names_its_kind() -> None:
    names = {*BLOCKS, *ATTENTION}
    root = Path(se_nas.__file__).parent
    entries = {root / "space" / "blocks", root / "space" / "attention"}
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in sorted(root.rglob("*.py"))
        if path.parent not in entries
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _names_a_kind(node, names)
    ]
    assert found == []


def _names_a_kind(node: ast.AST, names: set[str]) -> bool:
    """A comparison of something called kind with a kind's name, or a table with an entry for two of them."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        asked = any(getattr(side, "attr", getattr(side, "id", "")) == "kind" for side in sides)
        named = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
        return asked and bool(named & names)
    if isinstance(node, ast.Dict):
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        return len(keys & names) > 1
    return False
