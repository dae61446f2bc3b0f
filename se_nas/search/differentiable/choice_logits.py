"""The choice logits: one number for each option of each choice, and the probabilities they stand for."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from se_nas.hardware.device import sent
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

CPU = torch.device("cpu")


class ChoiceLogits(nn.Module):
    """Independent categorical distributions over the options of every choice, uniform at first.

    Kept as one (choices, most options) matrix, absent options masked, so that all take one softmax. It stays on the
    CPU: to a GPU its few hundred numbers are nothing but launches and waits.
    """

    mask: Tensor

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        counts = [len(choice.options) for choice in space.choices]
        self.logits = nn.Parameter(torch.zeros(len(counts), max(counts, default=1)))
        absent = torch.arange(self.logits.shape[1])[None, :] >= torch.tensor(counts)[:, None]
        self.register_buffer("mask", torch.zeros_like(self.logits).masked_fill(absent, -math.inf), persistent=False)

    def rows(self, matrix: Tensor) -> dict[str, Tensor]:
        """For each choice its (options,) of a (choices, most options) matrix."""
        return {c.name: matrix[i, : len(c.options)] for i, c in enumerate(self.space.choices)}

    def probabilities(self) -> dict[str, Tensor]:
        """For each choice the (options,) probabilities, differentiable in the logits."""
        return self.rows(self.probability_matrix())

    def probability_matrix(self) -> Tensor:
        """The same as one (choices, most options) matrix, in which absent options have 0."""
        return torch.softmax(self.logits + self.mask, 1)

    def relaxed(self, temperature: float, gumbel: bool, device: torch.device = CPU) -> dict[str, Tensor]:
        """The softmax at a temperature, of logits with Gumbel noise (arXiv 1611.01144, eq. 2) or without, on a device.

        The noise comes from torch's global generator of the CPU.
        """
        values = self.logits + self.mask
        if gumbel:
            values = values - torch.log(-torch.log(torch.rand(values.shape).clamp_(1e-10, 1 - 1e-7)))
        return self.rows(sent(torch.softmax(values / temperature, 1), device))

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

    @torch.no_grad()
    def entropy(self) -> dict[str, float]:
        """For each choice the entropy as a share of its greatest: 1 undecided, 0 certain."""
        result = {}
        for name, p in self.probabilities().items():
            result[name] = float(-(p * p.clamp_min(1e-30).log()).sum() / math.log(len(p)))
        return result

    @torch.no_grad()
    def scores(self) -> dict[str, list[float]]:
        """The logits as plain numbers, for the decoder and for files."""
        return {name: row.tolist() for name, row in self.rows(self.logits).items()}
