"""The global random generators of Python, numpy and torch, which timm's transforms draw from."""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class GlobalGenerators:
    """Their states at one moment."""

    states: tuple[Any, Any, Any]

    @staticmethod
    def now() -> GlobalGenerators:
        """The states at this moment."""
        return GlobalGenerators((random.getstate(), np.random.get_state(), torch.get_rng_state()))  # noqa: NPY002

    def restore(self) -> None:
        """Make the generators what they were."""
        python, legacy, tensors = self.states
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(tensors)


def seed_generators(seed: int, epoch: int, position: int) -> None:
    """Seed the generators for one image."""
    digest = hashlib.blake2b(struct.pack("<qqq", seed, epoch, position), digest_size=20).digest()
    for_python, for_numpy, for_torch = struct.unpack("<QIQ", digest)
    random.seed(for_python)
    np.random.seed(for_numpy)  # noqa: NPY002
    torch.default_generator.manual_seed(for_torch)


@contextlib.contextmanager
def generators_restored() -> Iterator[None]:
    """The generators as they were before."""
    before = GlobalGenerators.now()
    try:
        yield
    finally:
        before.restore()
