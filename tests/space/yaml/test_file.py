"""Every fault of a space's YAML is reported, all at once, each with the file and the path in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from se_nas.errors import ConfigError
from se_nas.records.shipped import spaces
from se_nas.records.yaml_input import read_yaml
from se_nas.space.templates import NO_SE
from se_nas.space.yaml.file import dump_space, load_space, parse_space
from tests.helpers.strategies import space_data

GOOD = """
name: good
resolution: 32
stem: {width: 16}
stages:
  - width: 16
    depth: [1, 2]
    kernel: [3, 5]
    expansion: [2, 3]
    se: {options: ["none", 4, 16]}
    share: [kernel]
  - width: 24
    stride: 2
    blocks:
      - {kind: identity}
      - {kind: mbconv, name: narrow, expansion: 2, se: {options: ["none", 4]}}
      - {kind: mbconv, name: wide, expansion: [4, 6], kernel: [3, 5]}
"""
STAGE, BLOCKS = "stages[0]", "stages[1].blocks"

ONE_ACTIVATION = "must be one activation, as only a stage or a block of it may choose among several"

Change = Callable[[dict[str, Any]], Any]


def assign(*path: str | int, to: Any) -> Change:
    """Set what is at this path."""

    def change(data: dict[str, Any]) -> None:
        *way, last = path
        place: Any = data
        for step in way:
            place = place[step]
        place[last] = to

    return change


def stage(**values: Any) -> Change:
    """Set fields of the first stage."""
    return lambda data: data["stages"][0].update(values)


def block(index: int, **values: Any) -> Change:
    """Set fields of a block of the second stage."""
    return lambda data: data["stages"][1]["blocks"][index].update(values)


def se(**values: Any) -> Change:
    """Set fields of the first stage's SE."""
    return lambda data: data["stages"][0]["se"].update(values)


def se_options(*options: Any) -> Change:
    return se(options=list(options))


FAULTS: list[tuple[str, Change, str]] = [
    ("unknown key at the top", assign("depht", to=3), "depht: unknown key"),
    ("unknown key in a stage", stage(kernels=[3]), f"{STAGE}.kernels: unknown key"),
    ("unknown key in SE", se(reduction=4), f"{STAGE}.se.reduction: unknown key"),
    ("unknown key in a block", block(1, width=3), f"{BLOCKS}[1].width: unknown key"),
    ("no name", lambda data: data.pop("name"), "name: must be given"),
    ("no stages", lambda data: data.pop("stages"), "stages: must be given"),
    ("no stem", lambda data: data.pop("stem"), "stem: must be given"),
    ("no width", lambda data: data["stages"][0].pop("width"), f"{STAGE}.width: must be given"),
    ("no SE options", lambda data: data["stages"][0]["se"].pop("options"), f"{STAGE}.se.options: must be given"),
    ("empty stages", assign("stages", to=[]), "stages: "),
    ("stages that are no list", assign("stages", to={"width": 3}), "stages: "),
    ("a stage that is none", assign("stages", 0, to=7), f"{STAGE}: "),
    ("a name that is a number", assign("name", to=5), "name: "),
    ("a name with a slash", assign("name", to="../x"), "name: "),
    ("resolution as text", assign("resolution", to="32"), "resolution: "),
    ("resolution as truth", assign("resolution", to=True), "resolution: "),
    ("resolution 0", assign("resolution", to=0), "resolution: "),
    ("one class", assign("classes", to=1), "classes: "),
    ("no channels", assign("channels", to=0), "channels: "),
    ("divisor 0", assign("channel_divisor", to=0), "channel_divisor: "),
    ("negative width", stage(width=-16), f"{STAGE}.width: "),
    ("fractional width", stage(width=16.5), f"{STAGE}.width: "),
    ("negative stem", assign("stem", "width", to=-1), "stem.width: "),
    ("stride 3", stage(stride=3), f"{STAGE}.stride: "),
    ("stride as truth", stage(stride=True), f"{STAGE}.stride: "),
    ("even kernel", stage(kernel=[3, 4]), f"{STAGE}.kernel[1]: a kernel must be odd, but got 4"),
    ("negative kernel", stage(kernel=-3), f"{STAGE}.kernel[0]: "),
    ("even stem kernel", assign("stem", "kernel", to=2), "stem.kernel: a kernel must be odd, but got 2"),
    ("empty kernels", stage(kernel=[]), f"{STAGE}.kernel: "),
    ("kernel no", stage(kernel=False), f"{STAGE}.kernel[0]: "),
    ("kernel null in a list", stage(kernel=[3, None]), f"{STAGE}.kernel[1]: "),
    ("duplicated kernel", stage(kernel=[3, 5, 3]), f"{STAGE}.kernel: options must be distinct, but got [3, 5, 3]"),
    ("empty expansions", stage(expansion=[]), f"{STAGE}.expansion: "),
    ("expansion below 1", stage(expansion=0.5), f"{STAGE}.expansion[0]: "),
    ("infinite expansion", stage(expansion=float("inf")), f"{STAGE}.expansion[0]: "),
    ("expansion as text", stage(expansion="6"), f"{STAGE}.expansion[0]: "),
    ("expansion as truth", stage(expansion=True), f"{STAGE}.expansion[0]: "),
    ("duplicated expansion", stage(expansion=[2, 2.0]), f"{STAGE}.expansion: options must be distinct"),
    ("expansions that round alike", stage(expansion=[2, 2.1]), f"{STAGE}.expansion: options must give distinct"),
    ("empty depths", stage(depth=[]), f"{STAGE}.depth: "),
    ("depth 0", stage(depth=[0, 1]), f"{STAGE}.depth[0]: "),
    ("duplicated depth", stage(depth=[2, 2]), f"{STAGE}.depth: options must be distinct, but got [2, 2]"),
    ("unknown activation", stage(activation="gelo"), f"{STAGE}.activation: must be 'relu', 'relu6', "),
    (
        "unknown among activations",
        stage(activation=["silu", "gelo"]),
        f"{STAGE}.activation[1]: must be 'relu', 'relu6', ",
    ),
    ("no activation", stage(activation=[]), f"{STAGE}.activation: must not be empty, but got []"),
    ("duplicated activation", stage(activation=["silu"] * 2), f"{STAGE}.activation: options must be distinct"),
    (
        "unknown activation of a block",
        block(1, activation="gelo"),
        f"{BLOCKS}[1].activation: must be 'relu', 'relu6', ",
    ),
    ("activation of an identity", block(0, activation="relu"), f"{BLOCKS}[0]: an identity block takes only"),
    (
        "activations of a stem",
        assign("stem", "activation", to=["relu", "silu"]),
        f"stem.activation: {ONE_ACTIVATION}, but got ['relu', 'silu']",
    ),
    (
        "activations of a head",
        assign("head", to={"activation": ["relu"]}),
        f"head.activation: {ONE_ACTIVATION}, but got ['relu']",
    ),
    (
        "an activation that no block has",
        lambda data: data["stages"][1].update(activation="silu", blocks=[{"kind": "conv", "activation": "relu"}]),
        "stages[1].activation: must be left out, as every block of the stage has its own, but got silu",
    ),
    ("SE as truth", stage(se=False), f"{STAGE}.se: "),
    ("SE as a list", stage(se=["none", 4]), f"{STAGE}.se: "),
    ("empty SE options", se_options(), f"{STAGE}.se.options: "),
    ("SE ratio 0", se_options("none", 0), f"{STAGE}.se.options[1]: must be "),
    ("SE ratio below 1", se_options(0.5), f"{STAGE}.se.options[0]: must be "),
    ("SE ratio infinite", se_options(float("inf")), f"{STAGE}.se.options[0]: must be "),
    ("SE ratio not a number", se_options(float("nan")), f"{STAGE}.se.options[0]: must be "),
    ("SE ratio as text", se_options("r4"), f"{STAGE}.se.options[0]: must be "),
    ("SE ratio as bare no", se_options(4, False), f'{STAGE}.se.options[1]: must be "none" (in quotes) or '),
    ("SE ratio as null", se_options(None, 4), f'{STAGE}.se.options[0]: must be "none" (in quotes) or '),
    ("duplicated SE ratio", se_options(4, "none", 4.0), f"{STAGE}.se.options: options must be distinct"),
    ("duplicated no SE", se_options("none", "none", 4), f"{STAGE}.se.options: options must be distinct"),
    ("SE ratio of nothing", se(ratio_of="width"), f"{STAGE}.se.ratio_of: "),
    ("SE divisor 0", se(divisor=0), f"{STAGE}.se.divisor: "),
    ("SE gate", se(gate="softmax"), f"{STAGE}.se.gate: "),
    ("SE position", se(position="before"), f"{STAGE}.se.position: "),
    (
        "SE on the shortcut of a block without one",
        assign("stages", 1, "blocks", 1, to={"kind": "conv", "se": {"options": ["none", 4], "position": "identity"}}),
        f"{BLOCKS}[1].se.position: must not be identity where no conv block of the stage has a shortcut",
    ),
    ("SE position in a list", se(position=["pre", "before"]), f"{STAGE}.se.position[1]: "),
    ("SE position twice", se(position=["pre", "pre"]), f"{STAGE}.se.position: options must be distinct"),
    ("no SE gate", se(gate=[]), f"{STAGE}.se.gate: must not be empty"),
    ("SE squeeze", se(squeeze="median"), f"{STAGE}.se.squeeze: "),
    (
        "squeezes that no option reads",
        se(options=["none", "spatial"], squeeze=["mean", "max"]),
        f"{STAGE}.se.squeeze: must be one, as none of the options reads it, but got ['mean', 'max']",
    ),
    (
        "positions of no SE",
        se(options=["none"], position=["pre", "post"]),
        f"{STAGE}.se.position: must be one, as none of the options reads it, but got ['pre', 'post']",
    ),
    ("SE as its own relative", se_options("se"), f"{STAGE}.se.options[0]: must be "),
    (
        "CBAM without a ratio",
        se_options("cbam"),
        f"{STAGE}.se.options[0]: cbam needs a ratio, such as cbam/16",
    ),
    ("CBAM of ratio 0", se_options("cbam/0"), f"{STAGE}.se.options[0]: must be "),
    ("CBAM of ratio nothing", se_options("cbam/x"), f"{STAGE}.se.options[0]: must be "),
    ("ECA of a ratio", se_options("eca/4"), f"{STAGE}.se.options[0]: must be "),
    ("duplicated CBAM", se_options("cbam/16", "cbam/16.0"), f"{STAGE}.se.options: options must be distinct"),
    ("share of a wrong name", stage(share=["kernels"]), f"{STAGE}.share[0]: "),
    ("share of depth", stage(share=["depth"]), f"{STAGE}.share[0]: "),
    ("share as text", stage(share="kernel"), f"{STAGE}.share: "),
    ("share twice", stage(share=["se", "se"]), f"{STAGE}.share: options must be distinct"),
    ("empty blocks", assign("stages", 1, "blocks", to=[]), "stages[1].blocks: "),
    ("unknown kind", block(0, kind="magic"), f"{BLOCKS}[0].kind: "),
    ("no kind", lambda data: data["stages"][1]["blocks"][0].pop("kind"), f"{BLOCKS}[0].kind: must be given"),
    ("kernel beside blocks", assign("stages", 1, "kernel", to=3), "stages[1].kernel: must stand in each of `blocks`"),
    ("SE beside blocks", assign("stages", 1, "se", to={"options": [4]}), "stages[1].se: must stand in each of `block"),
    ("identity with a kernel", block(0, kernel=3), f"{BLOCKS}[0]: an identity block takes only `kind` and `name`"),
    ("one name twice", block(1, name="wide"), "stages[1].blocks: names must be distinct, but got identity, wide, wide"),
    (
        "names that choices cannot tell",
        lambda data: (block(1, name="a b")(data), block(2, name="a_b")(data)),
        "stages[1].blocks: names must be distinct, but got identity, a b, a_b",
    ),
    (
        "blocks that overlap",
        block(2, expansion=[2, 4]),
        f"{BLOCKS}[2]: must give no network that blocks[1] gives too, but some options overlap",
    ),
    ("two identities", block(1, kind="identity"), f"{BLOCKS}[1]: an identity block takes only"),
    ("a variant of another kind", block(2, groups=2), f"{BLOCKS}[2].groups: a mbconv block has no such option"),
    ("an expansion of a convolution", block(2, kind="conv"), f"{BLOCKS}[2].expansion: a conv block has no such option"),
    (
        "groups that do not divide",
        block(1, kind="bottleneck", group_width=5),
        f"{BLOCKS}[1]: middle channels must be a multiple of group_width 5, but got 48 in block 1",
    ),
    (
        "groups of a ShuffleNet unit",
        assign("stages", 1, "blocks", 1, to={"kind": "shuffle", "groups": 3}),
        f"{BLOCKS}[1]: channels of the reduce convolution must be multiples of 3, but got 16 and 24 in block 1",
    ),
    (
        "a ShuffleNet unit that shrinks",
        lambda data: data["stages"].append({"width": 16, "blocks": [{"kind": "shuffle"}]}),
        "stages[2].blocks[0]: output channels must be more than the 24 input channels, but got 16 in block 1",
    ),
    (
        "a padded shortcut that shrinks",
        lambda data: data["stages"].append({"width": 16, "blocks": [{"kind": "basic", "shortcut": "pad"}]}),
        "stages[2].blocks[0]: output channels must be at least the 24 input channels, but got 16 in block 1",
    ),
    (
        "entries that split groups",
        block(1, kind="bottleneck", group_width=3, entry=0.5),
        f"{BLOCKS}[1]: group_width times entry must be a whole number, but got 3 times 0.5 in block 1",
    ),
    (
        "several expansions of a ShuffleNet unit",
        assign("stages", 1, "blocks", 1, to={"kind": "shuffle", "expansion": [0.25, 0.5]}),
        f"{BLOCKS}[1].expansion: must be one number for shuffle, but got [0.25, 0.5]",
    ),
    (
        "branches that do not come to the stage's width",
        assign("stages", 1, "blocks", 1, to={"kind": "inception", "branches": [[4, 4], [2, 8]], "pool_width": 8}),
        f"{BLOCKS}[1]: channels of the branches must come to the 24 output channels, but got 20 in block 1",
    ),
    (
        "a branch of a 1x1 with a stride",
        assign("stages", 1, "blocks", 1, to={"kind": "inception", "branches": [[8], [2, 8]], "pool_width": 8}),
        f"{BLOCKS}[1]: branches must be of two convolutions or more where there is a stride, but got one of a 1x1",
    ),
    ("hidden layers of no width", assign("head", to={"hidden_layers": 2}), "head.hidden_layers: must be 1 where"),
    (
        "a bias of no hidden layer",
        assign("head", to={"hidden_bias": False}),
        "head.hidden_bias: must be true where `hidden` is 0, but got false",
    ),
    (
        "a residual block that always expands",
        block(1, kind="basic", always_expands=True),
        f"{BLOCKS}[1].always_expands: a basic block has no such option",
    ),
    (
        "a kernel beside mixed ones",
        block(1, kernel=5, mixed_kernels=[3, 7]),
        f"{BLOCKS}[1].kernel: must be left out, or 7 as the greatest of mixed_kernels, but got [5]",
    ),
    ("mixed kernels that are one", block(1, mixed_kernels=[3]), f"{BLOCKS}[1].mixed_kernels: must be two or more"),
    (
        "an even kernel among others",
        block(1, mixed_kernels=[3, 4]),
        f"{BLOCKS}[1].mixed_kernels[1]: a kernel must be odd",
    ),
    (
        "several expansions of a block in parts",
        block(1, expand_parts=2, expansion=[2, 3]),
        f"{BLOCKS}[1].expansion: must be one number for mbconv in parts, but got [2, 3]",
    ),
    (
        "more parts than channels",
        block(1, project_parts=99),
        f"{BLOCKS}[1]: channels of the project convolution must be 99 or more, but got ",
    ),
    (
        "SE on the shortcut of blocks without one",
        block(1, skip=False, se={"options": [2], "position": "identity"}),
        f"{BLOCKS}[1].se.position: must not be identity where no mbconv block of the stage has a shortcut",
    ),
    (
        "a stem too small to pool",
        lambda data: data.update(resolution=1, stem={"width": 16, "pool": "ceil"}),
        "stem.pool: must not be ceil where a map has one pixel",
    ),
    ("no entry", block(1, kind="bottleneck", entry=0), f"{BLOCKS}[1].entry: "),
    ("a shortcut of no kind", block(1, kind="basic", shortcut="none"), f"{BLOCKS}[1].shortcut: "),
    ("an inverted block that shrinks", block(1, expansion=0.5), f"{BLOCKS}[1].expansion[0]: must be at least 1 for mb"),
    ("a block's expansion 0", block(1, kind="bottleneck", expansion=0), f"{BLOCKS}[1].expansion[0]: "),
    (
        "middles that round alike",
        block(1, kind="bottleneck", expansion=[0.25, 0.3]),
        f"{BLOCKS}[1].expansion: options must give distinct channel counts, but [0.25, 0.3] of 24 channels give [8, 8]",
    ),
    ("pool as a number", assign("stem", "pool", to=1), 'stem.pool: must be true, false or "ceil"'),
    (
        "a border that cannot be seen",
        lambda data: data["stages"].insert(1, copy.deepcopy(data["stages"][0])),
        "stages[1].depth: must be one number, because the stage before has the same width",
    ),
    ("negative head", assign("head", to={"width": -1}), "head.width: "),
    ("dropout 1", assign("head", to={"dropout": 1}), "head.dropout: "),
    ("dropout as truth", assign("head", to={"dropout": False}), "head.dropout: "),
]


def good() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(GOOD)
    return data


def problems_of(data: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        parse_space(data, "space.yaml")
    lines = str(error.value).splitlines()
    assert lines == [f"space.yaml: {problem}" for problem in error.value.problems]  # one line each
    return error.value.problems


def test_the_good_file_is_good() -> None:
    space = parse_space(good(), "space.yaml")
    assert [len(stage.ops) for stage in space.stages] == [1, 3]


@pytest.mark.parametrize("kind", ["mbconv", "bottleneck"])
@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (("standard", [4]), ("post", [4]), True),
        (("identity", [4]), ("inside", ["none"]), True),
        (("inside", [4]), ("standard", [4]), False),
        (("pre", ["none", 4]), ("post", [4]), False),
        (("inside", ["eca"]), ("inside", ["ese", "cbam/4"]), False),
        (("inside", ["eca"]), ("inside", [4, "eca"]), None),
    ],
)
def test_positions_may_be_options_where_they_are_different_networks(
    kind: str, one: tuple[str, list[Any]], other: tuple[str, list[Any]], overlap: bool | None
) -> None:
    """Where an inverted residual changes the shape there is no sum: "post" is "standard" there, "identity" nothing."""
    blocks = [
        {"kind": kind, "name": position, "se": {"options": options, "position": position}}
        for position, options in (one, other)
    ]
    blocks[1]["name"] = "other"
    data = good() | {"stages": [{"width": 16, "stride": 2, "blocks": blocks}]}
    if overlap is None or (overlap and kind == "mbconv"):
        assert any("must give no network that blocks[0] gives too" in problem for problem in problems_of(data))
    else:
        assert len(parse_space(data, "space.yaml").slots[0].ops) == 2


@pytest.mark.parametrize(("change", "expected"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_reported_with_its_path(change: Change, expected: str) -> None:
    data = good()
    change(data)
    problems = problems_of(data)
    assert any(problem.startswith(expected) for problem in problems), problems


@pytest.mark.parametrize("change", [{"depth": 2}, {"stride": 2}, {"width": 32}, {"activation": "silu"}])
def test_two_stages_that_can_be_told_apart(change: dict[str, Any]) -> None:
    data = good()
    data["stages"].insert(1, {**copy.deepcopy(data["stages"][0]), **change})
    assert len(parse_space(data, "space.yaml").stages) == 3


def test_all_faults_are_reported_at_once() -> None:
    data = good()
    changes = (
        assign("depht", to=3),
        assign("resolution", to=0),
        stage(kernel=[3, 3]),
        se_options(0, False),
        assign("stages", 1, "width", to=-1),
        block(1, expansion=0),
    )
    for change in changes:
        change(data)
    starts = sorted(problem.split(":")[0] for problem in problems_of(data))
    assert starts == sorted(
        [
            "depht",
            "resolution",
            "stages[0].kernel",
            "stages[0].se.options[0]",
            "stages[0].se.options[1]",
            "stages[1].blocks[1].expansion[0]",
            "stages[1].width",
        ]
    )


def test_all_faults_between_fields_are_reported_at_once() -> None:
    data = good()
    for change in (stage(expansion=[2, 2.1]), block(0, kernel=3), block(2, name="narrow")):
        change(data)
    starts = [problem.split(":")[0] for problem in problems_of(data)]
    assert starts == [f"{STAGE}.expansion", "stages[1].blocks[0]", "stages[1].blocks"]


@pytest.mark.parametrize("value", [None, 3, "text", ["list"]])
def test_a_file_that_is_no_mapping(value: Any) -> None:
    (problem,) = problems_of(value)
    assert problem.startswith("file: ")


def test_a_file_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("resolution: 32", "resolution: no"))
    with pytest.raises(ConfigError) as error:
        load_space(path)
    assert str(error.value).startswith(f"{path}: resolution: ")
    path.write_text(GOOD)
    assert load_space(path) == parse_space(good(), "elsewhere")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: [unclosed", "the file must be YAML, but got: "),
        (b"\xff\xfe\x00", "the file must be YAML, but got: "),
        (b"a: !!python/object/apply:os.getcwd []", "the file must be YAML, but got: "),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_space(path)
    assert str(error.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: the file must be readable, but got: No such file"):
        load_space(tmp_path / "missing.yaml")


def test_one_value_is_a_list_of_one() -> None:
    data = good()
    stage(depth=2, kernel=5, expansion=3)(data)
    listed = copy.deepcopy(data)
    stage(depth=[2], kernel=[5], expansion=[3])(listed)
    assert parse_space(data, "a") == parse_space(listed, "b")


def test_a_number_is_one_option_however_it_is_written() -> None:
    data, other = good(), good()
    se_options(NO_SE, 4, 2.5)(data)
    stage(expansion=[2.0, 3])(data)
    se_options(NO_SE, 4.0, 2.5)(other)
    assert parse_space(data, "a").digest == parse_space(other, "b").digest


def test_unnamed_blocks_of_a_fractional_expansion_read_back() -> None:
    data = good()
    block(2, expansion=[4.5, 6])(data)
    data["stages"][1]["blocks"][2].pop("name")
    space = parse_space(data, "a")
    assert space.stages[1].ops[2].name == "mbconv k3-5 e4_5-6"
    assert parse_space(yaml.safe_load(dump_space(space)), "b") == space


def test_a_bottleneck_may_shrink_and_reads_back() -> None:
    data = good()
    block(1, kind="bottleneck", expansion=[0.5, 1, 2])(data)
    data["stages"][1]["blocks"][1].pop("name")
    assign("stem", "pool", to=True)(data)
    space = parse_space(data, "a")
    assert space.stem.pool
    assert space.stages[1].ops[1].name == "bottleneck k3 e0_5-1-2"
    assert parse_space(yaml.safe_load(dump_space(space)), "b") == space


@given(space_data(), st.data())
def test_an_unknown_key_anywhere_is_the_one_fault(data: dict[str, Any], drawn: st.DataObject) -> None:
    places: list[tuple[str, dict[str, Any]]] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            places.append((path, value))
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, f"{path}[{index}]")

    walk(data, "")
    path, place = drawn.draw(st.sampled_from(places))
    place["surprise"] = 1
    assert problems_of(data) == (f"{path}.surprise: unknown key".removeprefix("."),)


BEYOND_ALL_SIZE: list[tuple[Change, str]] = [
    (
        assign("resolution", to=10**9),
        "resolution: must be at most 16,384, which is more than any published network has",
    ),
    (assign("channels", to=10**9), "channels: must be at most 65,536, which is more than any"),
    (assign("classes", to=10**9), "classes: must be at most 1,048,576, which is more than any"),
    (assign("stem", "width", to=10**9), "stem.width: must be at most 65,536, which is more than any"),
    (assign("stem", "kernel", to=129), "stem.kernel: must be at most 127, which is more than any"),
    (assign("head", to={"width": 10**9}), "head.width: must be at most 65,536, which is more than any"),
    (assign("head", to={"hidden": 8, "hidden_layers": 10**9}), "head.hidden_layers: must be at most 100, which is"),
    (assign("channel_divisor", to=10**30), "channel_divisor: must be at most 65,536, which is more than any"),
    (stage(depth=10**30), f"{STAGE}.depth[0]: must be at most 1,000, which is more than any"),
    (stage(width=10**9), f"{STAGE}.width: must be at most 65,536, which is more than any"),
    (stage(kernel=[3, 1001]), f"{STAGE}.kernel[1]: must be at most 127, which is more than any"),
    (stage(expansion=[10**30]), f"{STAGE}.expansion[0]: must be at most 1,000, which is more than any"),
    (stage(width=65_536, expansion=[900]), "stages[0].blocks[0]: must be at most 65,536 expanded channels, which is"),
    (se_options("none", 10**30), f"{STAGE}.se.options[1]: a reduction ratio must be at most 65,536, as no block has"),
    (se(divisor=10**60), f"{STAGE}.se.divisor: must be at most 65,536, which is more than any"),
    (block(1, kind="bottleneck", group_width=10**9), f"{BLOCKS}[1].group_width: must be at most 65,536, which is"),
    (assign("scaling", to={"a": {"resolution": 10**9}}), "scaling.a.resolution: must be at most 16,384, which is"),
    (assign("scaling", to={"a": {"resolution": 8, "width": 1e300}}), "scaling.a.width: must be at most 1,000, which"),
    (
        stage(width=8_000, expansion=[1], depth=100),
        "stages: a network must have at most 4,000,000,000 weights, but one has ",
    ),
    (
        lambda data: data.update(stages=[{"width": 8, "depth": 1000}] * 11),
        "stages: must have at most 10,000 blocks together, but have 11,000",
    ),
]


@pytest.mark.parametrize(
    ("change", "expected"), BEYOND_ALL_SIZE, ids=[expected[:40] for _, expected in BEYOND_ALL_SIZE]
)
def test_a_size_that_nobody_can_build_is_refused_with_its_reason(change: Change, expected: str) -> None:
    data = good()
    change(data)
    problem = problems_of(data)[0]
    assert problem.startswith(expected)
    assert len(problem) < 300


def test_blocks_that_cannot_be_built_are_told_though_no_weights_of_them_can_be_counted() -> None:
    data = read_yaml(spaces()["resnext50_32x4d"])
    data["stages"][2]["width"] = 1
    assert all(problem.startswith("stages[") for problem in problems_of(data))


def test_a_stage_as_deep_as_is_allowed_is_read_in_time_that_grows_with_its_depth() -> None:
    """Each block once looked at all others of its stage, which took minutes."""
    data = good()
    data["stages"][0]["depth"] = 1000
    assert len(parse_space(data, "space.yaml").slots) == 1001
