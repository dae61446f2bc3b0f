"""What a search is given. It holds no test images, nor any way to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.data.search_images import SearchImages, images_of_search
from se_nas.hardware.distributed import Ranks
from se_nas.search.starting import Start
from se_nas.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SearchProblem:
    """A space to search under budgets, on training images.

    Attributes:
        budgets: all must be kept by the answer.
        tables: cost tables by metric; every budgeted metric is among them.
        train: training images, in memory or on disk; `parts` indexes them.
        parts: disjoint (n,) indices: `weights` for weight steps, `choices` for choice steps, `validation`.
        folder: where checkpoints and logs of the search go.
        resume: continue from what `folder` holds.
        storage: URL of a database that several workers of one search share; None for a file in `folder`.
        max_seconds: of a black-box search, for what comes before its first evaluation, such as the training of a
            supernet: it may take `stopping.PREPARE_SHARE` of it; None for any time.
        start: weights of one of its networks that the supernet starts from; None for random ones.
        ranks: the processes that share the training of a supernet; `device` is this one's, and the first alone writes.
        teacher: opens the network that a run file names as `teacher` of `supernet`, on the device and in evaluation
            mode; None where it names none.
        on_epoch: is told what is known after each epoch of a differentiable search, for who watches it live.
    """

    space: SearchSpace
    budgets: tuple[Budget, ...]
    tables: Mapping[str, CostTable]
    info: DataInfo
    train: ImageSet | TrainingSet
    parts: Mapping[str, Tensor]
    device: torch.device
    seed: int
    folder: Path
    resume: bool = False
    progress: bool = True
    storage: str | None = None
    max_seconds: float | None = None
    start: Start | None = None
    teacher: Callable[[], nn.Module] | None = None
    ranks: Ranks = field(default_factory=Ranks)
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None

    def images(self, *, augmented: bool = False) -> SearchImages:
        """The training images on the device; see `images_of_search`."""
        return images_of_search(self.info, self.train, self.device, augmented=augmented)
