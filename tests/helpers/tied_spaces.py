"""Hypothesis strategies for spaces whose costs tie blocks together: neighbours, as widths of stages do, or any few."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from se_nas.cost.table import CostTable, CostTerm
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space


@st.composite
def tied_tables(draw: st.DrawFn, metrics: tuple[str, ...]) -> tuple[SearchSpace, dict[str, CostTable]]:
    """A space in which every choice always has an effect, of at most 3^6 picks, and made-up tables of these metrics.

    A block's cost is one of its own kernel and of two expansions, its own and that of the block before, whatever the
    network of the space would cost; or the terms are of any few choices. Whole numbers, so that much is equal.
    """
    stages = [
        {
            "width": 8 * (number + 1),
            "kernel": draw(st.sampled_from(([3], [3, 5], [3, 5, 7]))),
            "expansion": draw(st.sampled_from(([2, 3], [1, 2, 3]))),
        }
        for number in range(draw(st.integers(2, 3)))
    ]
    space = parse_space({"name": "tied", "resolution": 8, "stem": {"width": 8}, "stages": stages}, "tied")
    names = [choice.name for choice in space.choices]
    if draw(st.booleans()):
        blocks = [[name for name in names if name.startswith(f"stage{s + 1}.")] for s in range(len(stages))]
        ends = [name for name in names if name.endswith("expansion")]
        terms = [tuple(own) if s == 0 else (ends[s - 1], *own) for s, own in enumerate(blocks)]
    else:
        few = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
        terms = [tuple(term) for term in draw(st.lists(few, min_size=1, max_size=5))]
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    most = draw(st.sampled_from((2, 30, 10**6)))
    tables = {}
    for metric in metrics:
        shapes = [[len(space.choice_by_name[name].options) for name in term] for term in terms]
        values = [rng.integers(0, most, shape).astype(float) for shape in shapes]
        tables[metric] = CostTable(space, metric, 1.0, [CostTerm(t, v) for t, v in zip(terms, values, strict=True)])
    return space, tables
