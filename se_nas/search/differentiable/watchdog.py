"""What has gone wrong in differentiable searches before, looked for after every epoch and said in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from se_nas.search.problem import SearchProblem
from se_nas.space.templates import NO_SE

DECIDED_TOO_EARLY = 0.15  # mean normalised entropy
UNDECIDED_AT_THE_END = 0.9
SURE = 0.9  # probability


def warnings_of(
    problem: SearchProblem,
    expected: Mapping[str, float],
    probabilities: Mapping[str, Sequence[float]],
    entropies: Mapping[str, float],
    epoch: int,
    epochs: int,
) -> list[str]:
    """One line for each thing worth knowing: early certainty, no decision, collapse of SE or depth, a broken budget.

    Args:
        epoch, epochs: which epoch has ended, from 0, and how many there are; pretraining counts in neither.
    """
    found = []
    mean = sum(entropies.values()) / max(1, len(entropies))
    last = epoch + 1 == epochs
    if mean < DECIDED_TOO_EARLY and epoch + 1 < 0.5 * epochs:
        found.append(f"entropy {mean:.2f} before half of the epochs: decided too early, lower choice_learning_rate")
    if last and mean > UNDECIDED_AT_THE_END:
        found.append(f"entropy {mean:.2f} at the end: hardly decided, raise epochs or choice_learning_rate")
    se = {c.name: c.options for c in problem.space.choices if c.place.part == "se" and NO_SE in c.options}
    sure_off = [n for n, options in se.items() if probabilities[n][options.index(NO_SE)] > SURE]
    if len(sure_off) > 1 and len(sure_off) == len(se):
        found.append(f"all {len(se)} SE choices lean to none with probability above {SURE:g}: SE has collapsed")
    depth = {c.name: c.options for c in problem.space.choices if c.place.part == "depth"}
    shallow = [n for n, options in depth.items() if probabilities[n][options.index(min(options))] > SURE]
    if len(shallow) > 1 and len(shallow) == len(depth):
        found.append(
            f"all {len(depth)} depth choices lean to the least with probability above {SURE:g}: depth has collapsed"
        )
    if last:
        for budget in problem.budgets:
            excess = expected[budget.metric] / budget.limit - 1
            if excess > 0.05:
                found.append(f"expected {budget.metric} ends {excess:.0%} above its budget: the decode has to cut")
    return found
