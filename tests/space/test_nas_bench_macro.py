"""The shipped space of NAS-Bench-Macro gives the networks whose counts its authors published."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest

from se_nas.cost.counts import network_counts
from se_nas.space.yaml.file import load_space

SPACE = load_space(Path(__file__).parents[2] / "search_spaces" / "nas_bench_macro.yaml")

#: Layers (0 identity, 1 kernel 3 and expansion 3, 2 kernel 5 and expansion 6), parameters and MACs, copied from
#: nas-bench-macro_cifar10.json of https://github.com/xiusu/NAS-Bench-Macro; the last is its most accurate network.
PUBLISHED = [
    ("00000000", 387_882, 7_713_280),
    ("11111111", 1_588_874, 53_246_464),
    ("22222222", 2_932_586, 105_660_928),
    ("02012100", 890_666, 47_327_744),
    ("11111221", 2_181_386, 65_012_224),
    ("00011110", 1_118_378, 31_390_208),
    ("22212220", 1_985_514, 85_164_544),
]

#: SHA-256 of the sorted lines "layers parameters MACs" of all networks, joined by line feeds. They were computed from
#: our counts, after each of these had been compared with that file of the authors.
ALL_PUBLISHED = "19f3130b66811a234e9ec0c1df6b654b26399c997f1c281b16fa4e62785d945b"


@pytest.mark.parametrize(("layers", "params", "macs"), PUBLISHED)
def test_a_network_counts_what_was_published(layers: str, params: int, macs: int) -> None:
    picks = {c.name: c.options[int(layer)] for c, layer in zip(SPACE.choices, layers, strict=True)}
    counts = network_counts(SPACE.resolve(SPACE.architecture(picks)))
    assert (counts.params, counts.macs) == (params, macs)


def test_there_are_as_many_networks_as_were_published() -> None:
    assert SPACE.size == 3**8


def test_every_network_counts_what_was_published() -> None:
    lines = []
    for layers in itertools.product("012", repeat=8):
        picks = {c.name: c.options[int(layer)] for c, layer in zip(SPACE.choices, layers, strict=True)}
        counts = network_counts(SPACE.resolve(SPACE.architecture(picks)))
        lines.append(f"{''.join(layers)} {counts.params} {counts.macs}")
    assert len(lines) == 6561
    assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() == ALL_PUBLISHED
