from __future__ import annotations

from collections import Counter

import numpy as np

from se_nas.cost.table import count_tables
from se_nas.search.one_shot.samplings import alike
from se_nas.space.search_space import SearchSpace


def test_alike_architectures_cost_about_the_same_wherever_in_the_space_the_first_lies(tiny_space: SearchSpace) -> None:
    table = count_tables(tiny_space)["macs"]
    costs = np.array([[table.cost(a) for a in alike(table, np.random.default_rng(seed), 3)] for seed in range(60)])
    everywhere = [table.cost(tiny_space.sample(np.random.default_rng(seed))) for seed in range(200)]
    assert np.ptp(costs, axis=1).mean() < 0.05 * np.ptp(everywhere)
    # the first ones are drawn uniformly: as many lie below the median as above
    below = Counter((costs[:, 0] < np.median(everywhere)).tolist())
    assert 18 <= below[True] <= 42
    assert np.ptp(costs[:, 0]) > 0.7 * np.ptp(everywhere)
