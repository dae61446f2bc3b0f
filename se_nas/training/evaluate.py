"""Accuracy of a network on images that are not augmented."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from se_nas.data.in_memory.batches import DeviceImages
from se_nas.hardware.device import autocast_for
from se_nas.hardware.distributed import Ranks


def accuracy(network: nn.Module, images: DeviceImages, indices: Tensor, batch_size: int = 500) -> float:
    """Share of the images at `indices` that the network, put into evaluation mode for it, classifies correctly."""
    found = top_accuracies(network, images.evaluate_batches(indices, batch_size), images.device)
    return float(found["top1"])


@torch.inference_mode()
def top_accuracies(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    ranks: Ranks | None = None,
    precision: str = "auto",
) -> dict[str, Any]:
    """Shares of images whose class is the network's first guess, and among its first five, over all ranks.

    Args:
        network: put into evaluation mode meanwhile.
        batches: this rank's share of the images, normalised (B, C, H, W), and their classes (B,), on `device`.
        precision: see `hardware.device.autocast_dtype`.

    Returns:
        top1, top5 (of fewer classes, of all) and images, the number that was seen; by_class and class_images, lists of
        the same top1 and number for each class (None of one without images), and balanced, the mean over the classes.
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
    return {
        "top1": sum(counts[:classes]) / max(1, images),
        "top5": counts[-1] / max(1, images),
        "images": images,
        "balanced": sum(known) / max(1, len(known)),
        "by_class": by_class,
        "class_images": counts[classes : 2 * classes],
    }


def _over_ranks(counts: list[int], ranks: Ranks) -> list[int]:
    """The sums over all ranks; one that saw no image does not know how many classes there are."""
    most = ranks.greatest(len(counts))
    return [int(total) for total in ranks.sum([float(n) for n in counts] if len(counts) == most else [0.0] * most)]
