"""Accuracy of a network on images that are not augmented."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from se_nas.data.in_memory.batches import DeviceImages
from se_nas.hardware.device import autocast_for
from se_nas.hardware.distributed import Ranks


def accuracy(network: nn.Module, images: DeviceImages, indices: Tensor, batch_size: int = 500) -> float:
    """Share of the images at `indices` that the network, put into evaluation mode for it, classifies correctly."""
    return top_accuracies(network, images.evaluate_batches(indices, batch_size), images.device)["top1"]


@torch.inference_mode()
def top_accuracies(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device,
    ranks: Ranks | None = None,
    precision: str = "auto",
) -> dict[str, float]:
    """Shares of images whose class is the network's first guess, and among its first five, over all ranks.

    Args:
        network: put into evaluation mode meanwhile.
        batches: this rank's share of the images, normalised (B, C, H, W), and their classes (B,), on `device`.
        precision: see `hardware.device.autocast_dtype`.

    Returns:
        top1, top5 (of fewer classes, of all) and images, the number that was seen.
    """
    mode = network.training
    network.eval()
    first, five, seen = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(3))
    for x, y in batches:
        with autocast_for(device, precision):
            logits = network(x).float()
        guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
        first += guesses[:, 0].sum()
        five += guesses.sum()
        seen += len(y)
    network.train(mode)
    top1, top5, images_seen = (ranks or Ranks()).sum([float(first), float(five), float(seen)])
    return {"top1": top1 / max(1, images_seen), "top5": top5 / max(1, images_seen), "images": int(images_seen)}
