"""Probabilities over a space's choices, as supernets and cost tables take them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace


def one_hot(space: SearchSpace, architecture: Architecture) -> dict[str, Tensor]:
    """Certainty of one architecture, in float64."""
    picks = architecture.as_dict()
    return {
        choice.name: F.one_hot(torch.tensor(choice.index(picks[choice.name])), len(choice.options)).double()
        for choice in space.choices
    }


def soft(space: SearchSpace, seed: int) -> dict[str, Tensor]:
    """Random probabilities, none of them small, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return {
        choice.name: torch.randn(len(choice.options), generator=generator, dtype=torch.float64).softmax(0)
        for choice in space.choices
    }
