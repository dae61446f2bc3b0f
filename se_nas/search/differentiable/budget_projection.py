"""Budgets on expected cost: the probabilities are projected onto those that keep them, after every step of the logits.

The projection is that of the Kullback-Leibler divergence (Csiszar, Annals of Probability 3, 1975): probabilities times
exp(-sum of length * marginal cost), normalised. The lengths, one a budget and none below 0, are the dual's: Newton
steps on one after the other (Hildreth's procedure, Naval Research Logistics Quarterly 4, 1957). On costs that add up
over the choices it ends at the nearest point, so that from undecided logits it leads to the most undecided ones that
keep the budgets; where marginal costs depend on other choices, at a point near to that. It moves nothing while the
budgets are kept.

Where the resolution is a choice, the expectation is over the resolutions too, which are drawn evenly: the logits then
lean neither to the networks that fit at the least resolution nor to those that fit at the greatest. A projection at the
resolution of each step would keep the budgets at the greatest alone, as it moves nothing back.

Of a metric that is the greatest of a network's parts, it is the expected number of parts above the limit that is kept
low; it is 0 for choices that are made and keep the budget.

The logits' optimizer sees the accuracy alone: a penalty in its loss fills Adam's second moments while a budget is
broken, which makes the accuracy's own steps small for long (runs/NOTES.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.search.budgets.greatest_part import as_sums
from se_nas.search.differentiable.choice_logits import ChoiceLogits

#: Share of a limit by which an expectation may exceed it.
TOLERANCE = 1e-3
#: Rounds over the budgets in one projection; what is left then is left to the next.
ROUNDS = 30
#: No logit moves farther in one Newton step, which where all is nearly decided would be far too long.
LONGEST = 1.0


class BudgetProjection(nn.Module):
    """The projection under several budgets, and how far each has pushed so far, which is part of a search's state."""

    multipliers: Tensor

    def __init__(self, budgets: Sequence[Budget]) -> None:
        super().__init__()
        self.budgets = tuple(budgets)
        self.register_buffer("multipliers", torch.zeros(len(self.budgets)))

    def project(self, logits: ChoiceLogits, tables: Mapping[str, CostTable]) -> None:
        """Move the logits so that the expected costs keep the budgets.

        It ends too where a round leaves what is worst as it was: no small step may lower a cost, and pushing on would
        only drown what the logits have learned.

        Args:
            tables: by metric; those of the budgets are read.
        """
        tables, budgets = as_sums(tables, self.budgets)
        lengths, before = [0.0] * len(budgets), math.inf
        for _ in range(ROUNDS):
            worst = 0.0
            for i, budget in enumerate(budgets):
                excess, step = self._step(budget, logits, tables[budget.metric], lengths[i])
                lengths[i] += step
                worst = max(worst, abs(excess))
            if worst == 0 or worst >= before:
                break
            before = worst
        self.multipliers += self.multipliers.new_tensor(lengths)

    def _step(self, budget: Budget, logits: ChoiceLogits, table: CostTable, length: float) -> tuple[float, float]:
        """One Newton step on a budget's length; what it was for, as a share of the limit, and how far it went.

        A budget is pushed where it is broken, and let go where it is slack for having been pushed too far.
        """
        p = logits.probability_matrix().detach().requires_grad_()
        share = table.expected_cost(logits.rows(p)) / budget.limit
        excess = float(share.detach()) - 1.0
        if abs(excess) <= TOLERANCE or (excess < 0 and length == 0) or not table.terms:
            return 0.0, 0.0
        (slopes,) = torch.autograd.grad(share, [p], materialize_grads=True)
        with torch.no_grad():
            marginal = torch.where((p > 0) & logits.learned, slopes - (slopes * p).sum(1, keepdim=True), 0.0)
            # the expectation falls by this variance per length
            variance, farthest = torch.stack([(p * marginal.square()).sum(), marginal.abs().max()]).tolist()
        if farthest == 0:
            return excess, 0.0
        longest = LONGEST / farthest
        step = max(-length, -longest, min(excess / max(variance, 1e-12), longest))
        logits.tilt(marginal, -step)
        return excess, step

    def by_metric(self) -> dict[str, float]:
        """How far each budget has pushed in all, in logits per unit of cost as a share of the limit; 0 where it never
        had to."""
        return {b.metric: float(m) for b, m in zip(self.budgets, self.multipliers.tolist(), strict=True)}
