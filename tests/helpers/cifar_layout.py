"""CIFAR in its official layout, of random pixels."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from se_nas.data.in_memory.cifar import LAYOUTS

PER_FILE = 100


def dump(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


def cifar_batch(name: str, seed: int, n: int = PER_FILE) -> dict[bytes, Any]:
    """What one file holds."""
    layout = LAYOUTS[name]
    data = np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)
    labels = [index % layout.classes for index in range(n)]
    return {b"batch_label": b"some", layout.label_key: labels, b"data": data, b"filenames": [b"a.png"] * n}


def write_cifar(parent: Path, name: str, per_file: int = PER_FILE) -> Path:
    """A data set with `per_file` images a file; returns its folder."""
    layout = LAYOUTS[name]
    folder = parent / layout.folder
    folder.mkdir(parents=True)
    names = [b"class %d" % number for number in range(layout.classes)]
    meta: dict[bytes, Any] = {layout.names_key: names}
    if name == "cifar10":
        meta |= {b"num_cases_per_batch": per_file, b"num_vis": 3072}
    dump(folder / layout.meta, meta)
    for seed, file in enumerate((*layout.train, *layout.test)):
        dump(folder / file, cifar_batch(name, seed, per_file))
    return folder
