"""Which subnets a step of one-shot training takes: uniform, strictly fair, or by the sandwich rule."""

from __future__ import annotations

import hashlib

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace


def divergence(predicted: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of soft answers from a teacher's, 0-d, of logits (B, classes); the teacher gets no gradient."""
    target = F.log_softmax(teacher.detach(), 1)
    return F.kl_div(F.log_softmax(predicted, 1), target, reduction="batchmean", log_target=True)


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
