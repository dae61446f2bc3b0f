"""How the subnets of a step of one-shot training are drawn, where that is more than uniformly."""

from __future__ import annotations

import hashlib

import numpy as np

from se_nas.cost.table import CostTable
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace


def fair_picks(space: SearchSpace, seed: int, step: int) -> list[dict[str, Option]]:
    """The picks of a strictly fair step: m of them, m the greatest number of options that a choice has.

    What is fair is the drawing. Each choice goes through its options in random orders, one after another, each order
    independent of the other choices'; a step takes the next m of every choice. So a choice of m options has each of
    them once in every step; one of n < m options has the remainder of an order carried over to the next step, and its
    options' counts differ by at most 1 after any number of steps and are equal after every n steps. Gradients are not
    as fair: a choice of a block that a shallower pick of depth, or another pick of kind, switches off gets none then,
    and SE ratios that round to one hidden width share one.

    The picks depend on the seed and the step alone, also across a resume or a rollback.

    Raises:
        ValueError: the space has no choice.
    """
    count = max(len(choice.options) for choice in space.choices)
    drawn: list[dict[str, Option]] = [{} for _ in range(count)]
    for choice in space.choices:
        options = len(choice.options)
        order: list[int] = []
        for picks, turn in zip(drawn, range(step * count, (step + 1) * count), strict=True):
            if not order or turn % options == 0:
                order = random_order(options, seed, choice.name, turn // options)
            picks[choice.name] = choice.options[order[turn % options]]
    return drawn


def random_order(options: int, seed: int, choice: str, number: int) -> list[int]:
    """A permutation of a choice's options, fixed by the seed, the choice and how often it was permuted before."""
    words = repr((seed, choice, number)).encode()
    digest = hashlib.blake2b(words, digest_size=8).digest()
    return [int(i) for i in np.random.default_rng(int.from_bytes(digest, "little")).permutation(options)]


#: Architectures that are drawn for each one that `alike` gives: the more, the nearer these are in cost.
_DRAWN_FOR_EACH = 32


def alike(table: CostTable, rng: np.random.Generator, count: int) -> list[Architecture]:
    """Architectures of about one cost: the first drawn uniformly, the others the nearest to it of many.

    So the costs are distributed as those of uniformly drawn architectures, as in AttentiveNAS (arXiv 2011.09011), which
    draws a cost from that distribution and then architectures of its bin.
    """
    space = table.space
    options = [len(choice.options) for choice in space.choices]
    rows = rng.integers(options, size=(count * _DRAWN_FOR_EACH, len(options)))
    costs = table.costs(rows)
    nearest = np.argsort(np.abs(costs - costs[0]), kind="stable")[:count]
    return [
        space.architecture({choice.name: choice.options[i] for choice, i in zip(space.choices, row, strict=True)})
        for row in rows[nearest].tolist()
    ]
