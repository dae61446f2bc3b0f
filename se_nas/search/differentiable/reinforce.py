"""The score-function gradient of the choice logits (REINFORCE, Williams 1992), with a moving-average baseline.

An architecture is drawn and judged by its loss on a batch; where that is below what architectures have lost of late,
its options become more probable, as in TuNAS (Bender et al., CVPR 2020, section 3). No map is kept for a backward pass.
The budgets are the projection's, so that the reward is the accuracy's alone and needs no term for a cost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from se_nas.search.differentiable.choice_logits import ChoiceLogits

#: Share of the baseline that a step keeps (TuNAS, appendix).
MOMENTUM = 0.95


class Baseline(nn.Module):
    """The moving average of the losses, which is part of a search's state."""

    value: Tensor
    known: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("known", torch.tensor(False))

    def above(self, losses: Tensor) -> Tensor:
        """By how much (parts,) losses are above it; 0 while there is none."""
        return losses - self.value if self.known else torch.zeros_like(losses)

    def update(self, loss: Tensor) -> None:
        """Take in the mean loss of a step; the first one is the average."""
        kept = MOMENTUM if self.known else 0.0
        self.value.mul_(kept).add_(loss, alpha=1 - kept)
        self.known.fill_(True)


@torch.no_grad()
def score_gradient(logits: ChoiceLogits, drawn: Tensor, above: Tensor) -> Tensor:
    """An unbiased estimate of the gradient of the expected loss by the logits, (choices, most options).

    Args:
        drawn: (choices,) numbers of the options that were drawn from the probabilities.
        above: () by how much the loss is above anything that does not depend on the draw.
    """
    probabilities = logits.probability_matrix()
    chosen = torch.zeros_like(probabilities).scatter_(1, drawn[:, None], 1.0)
    return torch.where(logits.learned, (chosen - probabilities) * above, 0.0)
