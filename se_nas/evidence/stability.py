"""Stability: whether searches that differ by their seed alone find the same network, and one as good.

Agreement means little on its own, as budgets and options that few networks can take make any two networks alike; so
beside every share stands the same share among random networks of the same budgets. And accuracies vary from training to
training, so that what searches add to that is estimated as a component of variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from se_nas.cost.table import CostTable
from se_nas.evidence.choices_in_use import choices_in_use, se_places
from se_nas.records.models.evidence import (
    AccuracySpread,
    BlockAgreement,
    SearchAnswerEntry,
    StabilityPart,
    WithChance,
)
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import NO_SE

_States = NDArray[np.intp]
_ABSENT = -1


@dataclass(frozen=True)
class SearchAnswer:
    """What one search ended with.

    Attributes:
        seed: of the search.
        accuracies: after training on its own, from 0 to 1, by the training's seed; those that are done.
    """

    name: str
    seed: int
    architecture: Architecture
    accuracies: Mapping[int, float]


def stability(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    answers: Sequence[SearchAnswer],
    chance: Sequence[Architecture],
) -> StabilityPart:
    """How far the answers of several searches agree, as `stability.json` has it.

    The distance of two networks is the share of the choices that either has in use, in which they differ; one that the
    other has no use for differs. For each choice of SE `on_off` is the share of pairs that agree on whether there is SE
    and `ratio` that of pairs that agree on the very option, where a block that is not in use is a state of its own;
    both also meaned over the choices. None stands where there is no pair.

    Args:
        tables: of the costs that are told of each answer.
        chance: random networks of the same budgets, whose pairs give the same numbers (`random`).

    Returns:
        As the spec of the file; in `accuracy`, `mean` is over the answers, `between_trainings` the standard deviation
        over the seeds of one answer (pooled), and `between_searches` that of what the answers are worth, without the
        trainings' own noise: see `accuracy_spread`.

    Raises:
        ArchitectureError: an architecture of another space.
    """
    places = se_places(space)
    column = {choice.name: i for i, choice in enumerate(space.choices)}
    ours = _states(space, [answer.architecture for answer in answers])
    random = _states(space, chance)
    blocks: list[BlockAgreement] = []
    for name, place in places.items():
        options = space.choice_by_name[name].options
        without = options.index(NO_SE) if NO_SE in options else len(options)
        states, drawn = ours[:, column[name]], random[:, column[name]]
        blocks.append(
            BlockAgreement(
                block=place,
                options=tuple(None if state == _ABSENT else str(options[state]) for state in states),
                on_off=_agreement(_on_off(states, without)),
                ratio=_agreement(states),
                random_on_off=_agreement(_on_off(drawn, without)),
                random_ratio=_agreement(drawn),
            )
        )
    return StabilityPart(
        seeds=tuple(sorted({seed for answer in answers for seed in answer.accuracies})),
        answers=tuple(
            SearchAnswerEntry(
                name=answer.name,
                seed=answer.seed,
                costs={metric: table.cost(answer.architecture) for metric, table in tables.items()},
                se={block.block: block.options[i] for block in blocks},
                accuracies={str(seed): accuracy for seed, accuracy in answer.accuracies.items()},
            )
            for i, answer in enumerate(answers)
        ),
        distance=WithChance(value=_mean_distance(ours), random=_mean_distance(random)),
        blocks=tuple(blocks),
        on_off=WithChance(
            value=_mean(block.on_off for block in blocks), random=_mean(block.random_on_off for block in blocks)
        ),
        ratio=WithChance(
            value=_mean(block.ratio for block in blocks), random=_mean(block.random_ratio for block in blocks)
        ),
        accuracy=accuracy_spread([answer.accuracies for answer in answers]),
    )


def accuracy_spread(accuracies: Sequence[Mapping[int, float]]) -> AccuracySpread:
    """Mean accuracy of several networks, and what its spread between them and between their trainings is.

    The networks' variance is estimated over the n seeds that all of them have, in a two-way layout without replication
    (a seed may be lucky for every network): (MS_networks - MS_residual) / n, at least 0 (Searle, Casella and McCulloch,
    Variance Components, Wiley 1992, chapter 4). That of the trainings is pooled over the networks and all their seeds.

    Args:
        accuracies: of each network those of its trainings by seed; networks without any are passed over.

    Returns:
        mean (of the networks' means), between_searches and between_trainings (standard deviations, in the unit of the
        accuracies), and p of the F test of MS_networks / MS_residual, since an estimate that is cut at 0 is above it in
        nearly half of all cases where networks are alike; None where there are too few networks or trainings to tell.
    """
    trained = [found for found in accuracies if found]
    groups = [np.array(list(found.values())) for found in trained]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    shared = [seed for seed in trained[0] if all(seed in found for found in trained)] if trained else []
    table = np.array([[found[seed] for seed in shared] for found in trained])
    between, p = _between(table) if min(table.shape) > 1 else (None, None)
    return AccuracySpread(
        mean=float(np.mean([group.mean() for group in groups])) if groups else None,
        between_searches=between,
        between_trainings=math.sqrt(squares / freedom) if freedom else None,
        p=p,
    )


def _between(table: NDArray[np.float64]) -> tuple[float, float]:
    """The standard deviation of what k networks are worth, from their (k, n) accuracies over n seeds, and its p."""
    k, n = table.shape
    networks, seeds = table.mean(axis=1), table.mean(axis=0)
    residuals = table - networks[:, None] - seeds + table.mean()
    freedom = (k - 1) * (n - 1)
    residual = float((residuals**2).sum()) / freedom
    variance = float(networks.var(ddof=1))
    p = float(f_distribution.sf(n * variance / residual, k - 1, freedom)) if residual else float(variance == 0)
    return math.sqrt(max(0.0, variance - residual / n)), p


def _states(space: SearchSpace, architectures: Sequence[Architecture]) -> _States:
    """(architectures, choices): the index of each picked option, or _ABSENT where the choice is not in use."""
    states = np.full((len(architectures), len(space.choices)), _ABSENT, dtype=np.intp)
    for row, architecture in zip(states, architectures, strict=True):
        used = choices_in_use(space, architecture)
        for i, choice in enumerate(space.choices):
            if choice.name in used:
                row[i] = choice.index(architecture[choice.name])
    return states


def _mean_distance(states: _States) -> float | None:
    """The mean over all pairs of rows; a pair that has no choice in use does not differ."""
    shares: list[float] = []
    for i, row in enumerate(states):
        others = states[i + 1 :]
        used = ((others != _ABSENT) | (row != _ABSENT)).sum(axis=1)
        differ = (others != row).sum(axis=1)
        shares.extend(differ / np.maximum(used, 1))
    return float(np.mean(shares)) if shares else None


def _on_off(states: _States, without: int) -> _States:
    """0 for no SE, 1 for any, _ABSENT as before."""
    return np.where(states == _ABSENT, _ABSENT, np.where(states == without, 0, 1))


def _agreement(states: _States) -> float | None:
    """Share of the pairs that are in one state."""
    counts = np.unique(states, return_counts=True)[1]
    pairs = len(states) * (len(states) - 1)
    return float((counts * (counts - 1)).sum()) / pairs if pairs else None


def _mean(shares: Iterable[float | None]) -> float | None:
    found = [share for share in shares if share is not None]
    return float(np.mean(found)) if found else None
