"""Accuracy of a network on images that are not augmented."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from se_nas.data.search_images import SearchImages
from se_nas.hardware.device import autocast_for
from se_nas.hardware.distributed import Ranks


def accuracy(
    network: nn.Module, images: SearchImages, indices: Tensor, batch_size: int = 500, ranks: Ranks | None = None
) -> float:
    """Share of the images at `indices` that the network, put into evaluation mode for it, classifies correctly.

    Several ranks share them out.
    """
    ranks = ranks or Ranks()
    share = images.evaluate_batches(indices[ranks.rank :: ranks.size], batch_size)
    return top_accuracies(network, share, images.device, ranks).top1


@dataclass(frozen=True, kw_only=True)
class TopAccuracies:
    """What a network gets right of the images that it was shown.

    Attributes:
        top1, top5: shares of images whose class is the network's first guess, and among its first five (of fewer
            classes, all).
        images: how many were seen.
        balanced: the mean over the classes of `by_class`.
        by_class, class_images: top1 and the number of images, for each class; None is the top1 of one without images.
    """

    top1: float
    top5: float
    images: int
    balanced: float
    by_class: list[float | None]
    class_images: list[int]


@torch.inference_mode()
def top_accuracies(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    ranks: Ranks | None = None,
    precision: str = "auto",
) -> TopAccuracies:
    """What a network gets right of images, over all ranks.

    Args:
        network: put into evaluation mode meanwhile.
        batches: this rank's share of the images, normalised (B, C, H, W), and their classes (B,), on `device`.
        precision: see `hardware.device.autocast_dtype`.
    """
    mode = network.training
    network.eval()
    five = torch.zeros((), dtype=torch.int64, device=device)
    right = seen = torch.zeros(0, dtype=torch.int64, device=device)
    for x, y in batches:
        with autocast_for(device, precision):
            logits = network(x).float()
        if not len(right):
            right, seen = (torch.zeros(logits.shape[1], dtype=torch.int64, device=device) for _ in range(2))
        guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
        five += guesses.sum()
        right.index_add_(0, y, guesses[:, 0].long())
        seen.index_add_(0, y, torch.ones_like(y))
    network.train(mode)
    counts = _over_ranks(torch.cat([right, seen, five[None]]).tolist(), ranks or Ranks())
    classes = len(counts) // 2
    by_class = [r / s if s else None for r, s in zip(counts[:classes], counts[classes : 2 * classes], strict=True)]
    known = [share for share in by_class if share is not None]
    images = sum(counts[classes : 2 * classes])
    return TopAccuracies(
        top1=sum(counts[:classes]) / max(1, images),
        top5=counts[-1] / max(1, images),
        images=images,
        balanced=sum(known) / max(1, len(known)),
        by_class=by_class,
        class_images=counts[classes : 2 * classes],
    )


def _over_ranks(counts: list[int], ranks: Ranks) -> list[int]:
    """The sums over all ranks; one that saw no image does not know how many classes there are."""
    most = ranks.greatest(len(counts))
    return [int(total) for total in ranks.sum([float(n) for n in counts] if len(counts) == most else [0.0] * most)]
