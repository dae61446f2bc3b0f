"""Random images that carry their class, for benchmarks and tests: learnable, but not by one pixel.

Every class has a smooth pattern. An image is its class's pattern at a random strength, shifted by a few pixels, over
a weaker pattern of any class, in noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from se_nas.data.in_memory.images import DataInfo, ImageSet, check_room, resized
from se_nas.data.in_memory.options import DataOptions

_CLASSES = 10
_RESOLUTION = 32
_CHUNK = 1024


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """`options.size` images of ten classes in turn; the same seed gives the same images."""
    train = _draw(options, options.size, stream=1)
    names = tuple(f"pattern {label}" for label in range(_CLASSES))
    return DataInfo.of("synthetic", names, train, flip=False), train


def load_test(options: DataOptions) -> ImageSet:
    """A fifth as many fresh images (at least one of each class) of the same patterns."""
    return _draw(options, max(_CLASSES, options.size // 5), stream=2)


def _draw(options: DataOptions, count: int, stream: int) -> ImageSet:
    resolution = options.resolution or options.largest or _RESOLUTION
    check_room(count, resolution, options.channels or 3)
    generator = torch.Generator().manual_seed(3 * options.seed)
    coarse = torch.randint(0, 256, (_CLASSES, 8, 8, options.channels or 3), dtype=torch.uint8, generator=generator)
    patterns = resized(coarse, resolution).float() - 127.5
    generator.manual_seed(3 * options.seed + stream)
    labels = torch.arange(count) % _CLASSES
    chunks = [_images(patterns, chunk, generator) for chunk in torch.split(labels, _CHUNK)]
    return ImageSet(torch.cat(chunks), labels)


def _images(patterns: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    count, resolution = len(labels), patterns.shape[1]
    other = torch.randint(0, _CLASSES, (count,), generator=generator)
    reach = resolution // 8
    shift = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    place = torch.arange(resolution)
    rows, columns = (place + shift[0]) % resolution, (place + shift[1]) % resolution
    strength = 0.4 + 0.6 * torch.rand(2, count, 1, 1, 1, generator=generator)
    images = strength[0] * patterns[labels[:, None, None], rows[:, :, None], columns[:, None, :]]
    images += 0.6 * strength[1] * patterns[other]
    images += 40 * torch.randn(images.shape, generator=generator)
    return (images * 0.6 + 127.5).round_().clamp_(0, 255).to(torch.uint8)
