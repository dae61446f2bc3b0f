"""Tiny JPEG files in the ImageFolder layout."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(seed: int, width: int = 24, height: int = 20) -> bytes:
    """A smooth image that no other seed gives."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_folder(root: Path, train: int = 5, val: int = 2, classes: int = 3) -> Path:
    """`train` and `val` images of each class; train's first is class_a/0.jpg."""
    for half, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / half / f"class_{'abcdefgh'[label]}"
            folder.mkdir(parents=True)
            for number in range(count):
                seed = label * 100 + number + (half == "val") * 50
                (folder / f"{number}.jpg").write_bytes(jpeg(seed, 24 + label, 20 + number))
    return root
