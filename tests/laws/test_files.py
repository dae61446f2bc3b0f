"""Laws 4 and 8: what is written reads back equal; every committed space loads and is what its golden numbers say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given

from se_nas.cost.counts import block_counts, head_counts, stem_counts
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, network_from_dict, save_architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import Slot
from se_nas.space.yaml.file import dump_space, load_space, parse_space
from tests.helpers.strategies import spaces, spaces_with_architectures
from tests.laws.shipped import SHIPPED

#: Exact number of networks, and the least and greatest MACs and parameters, of every shipped space.
GOLDEN = {
    "alphanet": (313161979264185139200, (195997312, 1871822656), (6404680, 22374312)),
    "cifar_resnet_se": (
        7155577026428760980169887952456583197887121688115007043779582592000000,
        (40551040, 255874816),
        (269626, 1827754),
    ),
    "cifar_resnet_se_dims": (
        int(
            "107086391149437065914407490172620388854815104013895215657007909642"
            "013869700479090972349097956111114106467825265737214059616092716864"
        ),
        (40551040, 252984448),
        (269722, 1827754),
    ),
    "cifar_tiny": (96501348768, (763104, 6712800), (8346, 386194)),
    "cifar_tiny_widths": (1754911581192, (682816, 10999936), (5754, 670810)),
    "inception_se": (1768421839601664, (2032600064, 5410140160), (11285224, 39620872)),
    "mbconv_cifar": (119585915969824292090978381220000, (5910016, 80852224), (125562, 4786938)),
    "mbconv_cifar_resolutions": (156101252630400, (1262992, 11764992), (41818, 732058)),
    "mbconv_cifar_small": (52033750876800, (2243328, 11764992), (41818, 732058)),
    "mbconv_cifar_widths": (49102214773108411989491963197093200, (4493056, 119494656), (76346, 7154890)),
    "mbconv_digits": (17608192, (246656, 1050240), (8802, 85570)),
    "mbconv_imagenet": (4482727344449034570509111331840000, (120415856, 602548960), (2481080, 13579120)),
    "mbconv_imagenet_widths": (94895880470495817121523763633600000, (27830400, 1224828928), (1653224, 21006296)),
    "mnasnet_se": (104485552128, (51594768, 884060256), (1798072, 8593116)),
    "mobilenet_v1_se": (148398439108608, (199595520, 603486720), (2007976, 8158216)),
    "nas_bench_macro": (6561, (7713280, 105660928), (387882, 2932586)),
    "ofa_mbv3": (542432408884257056330317824, (41200896, 843707376), (3133464, 11311424)),
    "resnet_se": (151668271413966037248, (1179779072, 4110078336), (8856104, 45699240)),
    "resnext_se": (258076300874416128, (1475215360, 4250599424), (10119976, 45171112)),
    "se_table": (243, (1471104, 1476352), (170874, 176382)),
    "shufflenet_se": (239751356433629184, (75344352, 149412672), (1363048, 7090744)),
    "vgg_se": (4327725024, (5296979968, 15472070656), (127593640, 140178568)),
    "warm_start_mbconv": (2985984, (694240, 1556960), (23354, 89130)),
    "warm_start_resnet": (46656, (955008, 1771392), (90074, 181202)),
}


#: Digests that architectures and databases carry, those of the MBConv spaces since the first release.
DIGESTS = {
    "alphanet": "6d2e9dd1bc295248",
    "cifar_resnet_se": "82b41c7089bc3662",
    "cifar_resnet_se_dims": "22ce8993115ef938",
    "cifar_tiny": "32221460d7ab4832",
    "cifar_tiny_widths": "6d484b86984624ac",
    "inception_se": "a100790869808e0c",
    "mbconv_cifar": "3562e8b573229f43",
    "mbconv_cifar_resolutions": "4d3ba527986c9982",
    "mbconv_cifar_small": "7a6e66ecb8b1d838",
    "mbconv_cifar_widths": "50c71a1a52de88d4",
    "mbconv_digits": "9d9ac64617c1f2e2",
    "mbconv_imagenet": "d9b944b8e5cc1bc0",
    "mbconv_imagenet_widths": "2e216d95000a200e",
    "mnasnet_se": "167f8c245e827afe",
    "mobilenet_v1_se": "cda2fd070b74b192",
    "nas_bench_macro": "30aca18ba211984a",
    "ofa_mbv3": "e24d4242422dd75b",
    "resnet_se": "2126c07a59f76327",
    "resnext_se": "231946a08e14c42d",
    "se_table": "fa906ae782f05c1c",
    "shufflenet_se": "d824bd465ea1a238",
    "vgg_se": "a9cca80a9db706d8",
    "warm_start_mbconv": "8456ec89318710d9",
    "warm_start_resnet": "04a270ea12a6f0e9",
}


@given(spaces())
def test_a_space_survives_its_yaml(space: SearchSpace) -> None:
    text = dump_space(space)
    read = parse_space(yaml.safe_load(text), "dumped")
    assert read == space
    assert read.digest == space.digest
    assert dump_space(read) == text


@given(spaces_with_architectures())
def test_a_network_and_an_architecture_survive_their_json(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[SearchSpace, Architecture]
) -> None:
    space, architecture = drawn
    file = ArchitectureFile.of(space, architecture)
    assert network_from_dict(file.network.to_dict()) == file.network
    read = load_architecture(save_architecture(tmp_path_factory.mktemp("file") / "architecture.json", file))
    assert read == file
    assert hash(read.architecture) == hash(architecture)
    assert space.architecture(read.architecture.as_dict()) == architecture
    assert space.resolve(read.architecture) == read.network


def test_properties_of_later_releases_leave_older_networks_as_they_were_written(tiny_space: SearchSpace) -> None:
    older = tiny_space.resolve(tiny_space.architecture({c.name: c.options[0] for c in tiny_space.choices}))
    written = json.dumps(older.to_dict())
    head = replace(older.head, classifier_bias=False)
    block = replace(older.blocks[0], form=replace(older.blocks[0].form, always_expands=True, skip=False))
    newer = replace(older, head=head, blocks=(block, *older.blocks[1:]))
    for name in ("own", "always_expands", "skip", "mixed_kernels", "expand_parts", "hidden_bias", "classifier_bias"):
        assert f'"{name}"' not in written
    assert newer.to_dict()["head"]["classifier_bias"] is False  # type: ignore[index]
    assert network_from_dict(json.loads(json.dumps(newer.to_dict()))) == newer


def test_there_are_shipped_spaces() -> None:
    assert {path.stem for path in SHIPPED} == set(GOLDEN)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_loads_and_is_what_it_was(path: Path) -> None:
    space = load_space(path)
    assert space.name == path.stem
    assert space.digest == DIGESTS[path.stem]
    size, macs, params = GOLDEN[path.stem]
    assert space.size == size
    assert (extremes(space, "macs"), extremes(space, "params")) == (macs, params)
    assert parse_space(yaml.safe_load(dump_space(space)), "dumped") == space
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("se-nas " in line for line in header), "a space's file must say which command uses it"


def test_the_main_space_is_as_large_as_it_is_said_to_be() -> None:
    main = next(path for path in SHIPPED if path.stem == "mbconv_cifar")
    assert load_space(main).size >= 10**12


def extremes(space: SearchSpace, metric: str) -> tuple[int, int]:
    """Least and greatest cost by brute force: at the least or greatest sizes, stages are independent of each other.

    So are the blocks of one, given what it shares.
    """
    ends = []
    for best in (min, max):
        sizes = (size.axis for size in (space.side, *space.widths))
        picks = {axis.choice: best(axis.options) for axis in sizes if axis.choice is not None}
        total = int(getattr(stem_counts(space.stem_of(picks)) + head_counts(space.head_of(picks)), metric))
        for s, stage in enumerate(space.stages):
            slots = [slot for slot in space.slots if slot.stage == s]
            shared = {name: space.choice_by_name[name].options for name in of_the_stage(space, s + 1)}
            total += best(
                sum(best(block_costs(slot, metric, picks | dict(zip(shared, options, strict=True)))) for slot in some)
                for options in itertools.product(*shared.values())
                for some in (slots[:depth] for depth in stage.depths)
            )
        ends.append(total)
    return ends[0], ends[1]


def of_the_stage(space: SearchSpace, number: int) -> set[str]:
    """Choices that a stage makes once for all its blocks, but for its width and depth."""
    parts = {"kernel", "expansion", "activation", "se", "block"}
    every = (choice for choice in space.choices if choice.place.stage == number and choice.place.block is None)
    return {choice.name for choice in every if choice.place.part in parts}


def block_costs(slot: Slot, metric: str, picks: Mapping[str, Option]) -> list[int]:
    """The cost of a slot's block for every option of its axes that these picks leave."""
    return [
        getattr(block_counts(op.block(**options)), metric)
        for name, op in zip(slot.op.options, slot.ops, strict=True)
        if picks.get(slot.op.choice or "", name) == name
        for options in op.combinations()
        if all(picks.get(axis.choice or "", options[axis.part]) == options[axis.part] for axis in op.axes)
    ]
