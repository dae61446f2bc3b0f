"""Budgets on expected cost: the probabilities are projected onto those that keep them, after every step of the logits.

The projection is that of the Kullback-Leibler divergence (Csiszar, Annals of Probability 3, 1975), one budget after
the other until all are kept (Bregman, USSR Computational Mathematics 7, 1967): probabilities times
exp(-length * marginal cost), with Newton steps for the length. From undecided logits it leads to the most undecided
probabilities that keep the budgets, and it moves nothing while they are kept. The logits' optimizer sees the accuracy
alone: a penalty in its loss fills Adam's second moments while a budget is broken, which makes the accuracy's own steps
small for long (runs/NOTES.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.search.choice_logits import ChoiceLogits

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
        """Move the logits as little as makes the expected costs keep the budgets.

        Args:
            tables: by metric; those of the budgets are read.
        """
        for _ in range(ROUNDS):
            pushed = [self._push(i, logits, tables[budget.metric]) for i, budget in enumerate(self.budgets)]
            if not any(pushed):
                return

    def _push(self, i: int, logits: ChoiceLogits, table: CostTable) -> bool:
        """One Newton step towards budget i; False where it is kept."""
        p = {name: row.detach().requires_grad_() for name, row in logits.probabilities().items()}
        share = table.expected_cost(p) / self.budgets[i].limit
        excess = float(share.detach()) - 1.0
        if excess <= TOLERANCE:
            return False
        slopes = torch.autograd.grad(share, list(p.values()), materialize_grads=True)
        # the expectation falls by the sum of the marginal costs' variances per length
        marginal = {name: g - (g * row.detach()).sum() for (name, row), g in zip(p.items(), slopes, strict=True)}
        variance = sum(float((p[name].detach() * m.square()).sum()) for name, m in marginal.items())
        farthest = max(float(m.abs().max()) for m in marginal.values())
        length = min(excess / max(variance, 1e-12), LONGEST / farthest)
        logits.tilt(marginal, -length)
        self.multipliers[i] += length
        return True

    def by_metric(self) -> dict[str, float]:
        """How far each budget has pushed in all, in logits per unit of cost as a share of the limit; 0 where it never
        had to."""
        return {b.metric: float(m) for b, m in zip(self.budgets, self.multipliers.tolist(), strict=True)}
