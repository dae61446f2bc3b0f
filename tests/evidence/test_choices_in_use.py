"""A choice is in use exactly where some option of it would change the network."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from se_nas.evidence.choices_in_use import choices_in_use, se_ops_in_use, se_places
from se_nas.space.search_space import SearchSpace
from tests.helpers.strategies import spaces


@given(spaces(most_picks=200), st.integers(0, 2**16))
def test_what_is_not_in_use_changes_nothing(space: SearchSpace, seed: int) -> None:
    architecture = space.sample(np.random.default_rng(seed))
    used = choices_in_use(space, architecture)
    for choice in space.choices:
        networks = {space.architecture({**architecture.as_dict(), choice.name: o}) for o in choice.options}
        assert choice.name in used or len(networks) == 1
        if choice.name.endswith(".depth"):
            assert choice.name in used
    assert set(se_ops_in_use(space, architecture)) == used & set(se_places(space))


def test_by_hand(tiny_space: SearchSpace) -> None:
    assert se_places(tiny_space) == {
        "stage1.block1.se": "stage1.block1",
        "stage1.block2.se": "stage1.block2",
        "stage2.block1.mbconv_k3_e2-3.se": "stage2.block1.mbconv_k3_e2-3",
    }
    picks = {choice.name: choice.options[0] for choice in tiny_space.choices}
    shallow = tiny_space.architecture(picks)
    assert choices_in_use(tiny_space, shallow) == {
        "stage1.depth",
        "stage1.block1.kernel",
        "stage1.block1.se",
        "stage2.block1.block",
    }
    deep = tiny_space.architecture({**picks, "stage1.depth": 2, "stage2.block1.block": "mbconv k3 e2-3"})
    assert choices_in_use(tiny_space, deep) == set(tiny_space.choice_by_name)
    (first, second, third) = se_ops_in_use(tiny_space, deep).values()
    assert (first.width.channels, second.width.channels, third.width.channels) == ((8,), (8,), (16,))
