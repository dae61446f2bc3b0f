"""Judge architectures by the NASWOT score of their untrained networks: a forward pass of one batch each."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from se_nas.data.in_memory.batches import epoch_order
from se_nas.errors import ConfigError
from se_nas.records.record import Record
from se_nas.search.problem import SearchProblem
from se_nas.search.zero_cost.naswot import naswot, untrained
from se_nas.space.architecture import Architecture


class ZeroCostConfig(Record):
    """How a score is taken.

    Attributes:
        images: of the batch. Scores of different numbers of images cannot be compared.
    """

    images: int = Field(64, ge=2, le=1024)


class ZeroCostEvaluator:
    """NASWOT, as a function of the architecture alone: the problem's seed draws the weights and the batch.

    The images are of the `weights` part, without augmentation, resized to the network's resolution.

    Args:
        stands: where the configuration stands in a run file.

    Raises:
        ConfigError: the part has fewer images than a batch, or two of the batch are the same, which no network tells
            apart.
    """

    def __init__(self, problem: SearchProblem, config: ZeroCostConfig, stands: str = "search.zero_cost") -> None:
        self._problem, part = problem, problem.parts["weights"]
        if config.images > len(part):
            must = f"must be at most {len(part):,}, as many images as weights are trained on, but got {config.images:,}"
            raise ConfigError(stands, [f"images: {must}"])
        self._chosen = part[epoch_order(len(part), problem.seed, 0)[: config.images]]
        self._batches: dict[int, Tensor] = {}
        batch = self._batch(max(problem.space.resolutions))
        if (different := len(torch.unique(batch.flatten(1).cpu(), dim=0))) < len(batch):
            got = f"but {len(batch):,} drawn by seed {problem.seed} hold {different:,} different ones"
            raise ConfigError(stands, [f"images: must differ from each other, {got}; take fewer, or another seed"])

    def __call__(self, architecture: Architecture) -> float:
        """The score, -inf where two images look the same to the network; ArchitectureError of another space."""
        problem = self._problem
        problem.space.check(architecture)
        spec = problem.space.resolve(architecture)
        return naswot(untrained(spec, problem.device, problem.seed), self._batch(spec.resolution))

    def _batch(self, side: int) -> Tensor:
        if side not in self._batches:
            images = self._problem.images().at(side)
            parts = [x for x, _ in images.evaluate_batches(self._chosen, len(self._chosen))]
            self._batches[side] = torch.cat(parts).contiguous(memory_format=torch.channels_last)
        return self._batches[side]
