"""The choice logits: one number for each option of each choice, and the probabilities they stand for."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace


class ChoiceLogits(nn.Module):
    """Independent categorical distributions over the options of every choice, uniform at first.

    Kept as one (choices, most options) matrix, absent options masked, so that all take one softmax. It stays on the
    CPU: to a GPU its few hundred numbers are nothing but launches and waits.

    The resolution is drawn evenly and not learned: a mixture runs on images of one, so that no gradient says which is
    better, and the budgets alone would drive it to the least. Its logits stay 0.

    Args:
        resolutions: those that are drawn; all of the space's by default.

    Attributes:
        learned: (choices, 1) whether the logits of a choice move.
    """

    mask: Tensor
    learned: Tensor

    def __init__(self, space: SearchSpace, resolutions: Collection[Option] | None = None) -> None:
        super().__init__()
        self.space = space
        self.resolutions = space.side.axis.options if resolutions is None else tuple(resolutions)
        counts = [len(choice.options) for choice in space.choices]
        self.logits = nn.Parameter(torch.zeros(len(counts), max(counts, default=1)))
        self._names = [choice.name for choice in space.choices]
        self._sizes = [size for count in counts for size in (count, self.logits.shape[1] - count)]
        absent = torch.arange(self.logits.shape[1])[None, :] >= torch.tensor(counts)[:, None]
        learned = [choice.name != space.side.axis.choice for choice in space.choices]
        for row, choice in enumerate(space.choices):
            if not learned[row]:
                absent[row, : counts[row]] = torch.tensor([option not in self.resolutions for option in choice.options])
        self.register_buffer("mask", torch.zeros_like(self.logits).masked_fill(absent, -math.inf), persistent=False)
        self.register_buffer("learned", torch.tensor(learned, dtype=torch.bool)[:, None], persistent=False)

    def rows(self, matrix: Tensor) -> dict[str, Tensor]:
        """For each choice its (options,) of a (choices, most options) matrix."""
        # one operation for all, and one for its gradient
        return dict(zip(self._names, torch.split_with_sizes(matrix.flatten(), self._sizes)[::2], strict=True))

    def probabilities(self) -> dict[str, Tensor]:
        """For each choice the (options,) probabilities, differentiable in the logits."""
        return self.rows(self.probability_matrix())

    def probability_matrix(self) -> Tensor:
        """The same as one (choices, most options) matrix, in which absent options have 0."""
        return torch.softmax(self.logits + self.mask, 1)

    def relaxed(self, temperature: float, gumbel: bool) -> Tensor:
        """The softmax at a temperature, of logits with Gumbel noise (arXiv 1611.01144, eq. 2) or without; see `rows`.

        The noise comes from torch's global generator of the CPU.
        """
        values = self.logits + self.mask
        if gumbel:
            values = values - torch.log(-torch.log(torch.rand(values.shape).clamp_(1e-10, 1 - 1e-7)))
        return torch.softmax(values / temperature, 1)

    @torch.no_grad()
    def tilt(self, direction: Tensor, length: float) -> None:
        """Multiply the probabilities by exp(length * direction), (choices, most options), and normalise them."""
        self.logits.add_(direction, alpha=length)

    @torch.no_grad()
    def sample(self, rng: np.random.Generator) -> Architecture:
        """An architecture with each choice drawn from its probabilities."""
        cumulative = torch.softmax((self.logits + self.mask).double(), 1).cumsum(1).numpy()
        draws = rng.random(len(cumulative))
        picks = {}
        for choice, row, draw in zip(self.space.choices, cumulative, draws, strict=True):
            picks[choice.name] = choice.options[min(int(np.searchsorted(row, draw)), len(choice.options) - 1)]
        return self.space.architecture(picks)

    def drawn_resolution(self, rng: np.random.Generator) -> int:
        """A resolution for a step of the mixture."""
        return int(self.resolutions[int(rng.integers(len(self.resolutions)))])

    @torch.no_grad()
    def entropy(self) -> dict[str, float]:
        """For each choice that is learned the entropy as a share of its greatest: 1 undecided, 0 certain."""
        result = {}
        for name, p in self.probabilities().items():
            if name != self.space.side.axis.choice:
                result[name] = float(-(p * p.clamp_min(1e-30).log()).sum() / math.log(len(p)))
        return result

    @torch.no_grad()
    def scores(self) -> dict[str, list[float]]:
        """The logits as plain numbers, for the decoder and for files."""
        return {name: row.tolist() for name, row in self.rows(self.logits).items()}
