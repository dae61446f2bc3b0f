"""Budgets on expected cost, by the augmented Lagrangian for inequality constraints.

For g = E[cost] / limit - 1 <= 0, the penalty is (max(0, m + r g)^2 - m^2) / (2 r), with a multiplier m that climbs
while the budget is broken and falls to 0 when it is slack (Nocedal and Wright, Numerical Optimization, chapter 17.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from se_nas.cost.budget import Budget


class BudgetPenalty(nn.Module):
    """The penalty of several budgets and its multipliers, which are part of a search's state.

    Args:
        strength: r, the weight of the quadratic term.
        rate: share of the full multiplier step r g that one update makes; small, since an update follows every step
            and not a converged inner problem.
    """

    multipliers: Tensor

    def __init__(self, budgets: Sequence[Budget], strength: float, rate: float) -> None:
        super().__init__()
        self.budgets, self.strength, self.rate = tuple(budgets), strength, rate
        self.register_buffer("multipliers", torch.zeros(len(self.budgets)))

    def excess(self, expected: Mapping[str, Tensor]) -> Tensor:
        """(budgets,) relative excess over each limit, negative where a budget is slack."""
        if not self.budgets:
            return self.multipliers
        return torch.stack([expected[b.metric] / b.limit - 1.0 for b in self.budgets])

    def forward(self, expected: Mapping[str, Tensor]) -> Tensor:
        """The scalar penalty to add to a loss."""
        pressed = torch.relu(self.multipliers + self.strength * self.excess(expected))
        return ((pressed.square() - self.multipliers.square()) / (2 * self.strength)).sum()

    @torch.no_grad()
    def update(self, expected: Mapping[str, Tensor]) -> None:
        """Move the multipliers towards what the present excess asks for."""
        self.multipliers.add_(self.rate * self.strength * self.excess(expected)).clamp_min_(0.0)

    def by_metric(self) -> dict[str, float]:
        """The multipliers as plain numbers."""
        return {b.metric: float(m) for b, m in zip(self.budgets, self.multipliers.tolist(), strict=True)}
