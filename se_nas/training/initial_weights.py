"""Weights of others for a network of ours, to start a training from; `se_nas.layers.pairing` pairs their tensors."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from se_nas.errors import CheckpointError
from se_nas.layers.network import Network
from se_nas.layers.pairing import paired_by_order
from se_nas.records.checkpoint import KIND, load_checkpoint
from se_nas.records.checksum import checksum_fault
from se_nas.space.specs import NetworkSpec
from se_nas.training.trained_network import better_kind

#: Under which a training script keeps the state dict, the best first.
_WRAPPED = ("state_dict_ema", "state_dict", "model")


@dataclass(frozen=True)
class InitialWeights:
    """What a training starts from in place of random weights.

    Attributes:
        tensors: by name in the network; without those of a classifier for other classes.
        digest: sixteen hexadecimal digits of the file that they are of.
        accuracy: theirs on the held-out images of their training, where the file says it.
    """

    tensors: Mapping[str, Tensor]
    digest: str
    accuracy: float | None = None

    def put_into(self, network: nn.Module) -> None:
        """Replace the weights of a network; a tensor that is not there stays as it is."""
        network.load_state_dict(dict(self.tensors), strict=False)


def read_initial_weights(path: Path, spec: NetworkSpec) -> InitialWeights:
    """The weights that a file holds for a network: of a timm checkpoint, or the better ones of a training of ours.

    Raises:
        CheckpointError: the file is missing, unreadable, altered as far as its own checksums tell, of another
            architecture, or has values that are not finite.
    """
    held = read_state_dict(path)
    try:
        tensors = paired_by_order(held.state, Network(spec).state_dict())
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return InitialWeights(tensors, held.digest, held.accuracy)


class HeldWeights(NamedTuple):
    """A state dict in its order, and of the file that holds it the digest and the accuracy, as `InitialWeights`."""

    state: Mapping[str, Tensor]
    digest: str
    accuracy: float | None


def read_state_dict(path: Path) -> HeldWeights:
    """The state dict that a file holds.

    Raises:
        CheckpointError: the file is missing, unreadable, altered as far as its own checksums tell, or holds no weights.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: the file of weights must be readable, but got: {error.strerror}") from error
    try:
        if (fault := checksum_fault(content)) is not None:
            raise CheckpointError(f"the file of weights must be whole, but {fault}")
        state, accuracy = _state_dict(path, content)
        return HeldWeights(state, hashlib.sha256(content).hexdigest()[:16], accuracy)
    except CheckpointError as error:
        raise CheckpointError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


def _state_dict(path: Path, content: bytes) -> tuple[Mapping[str, Tensor], float | None]:
    if path.suffix == ".safetensors":
        raise CheckpointError(
            "the file must keep the order of its tensors, which .safetensors does not: "
            "torch.save the state_dict() of the timm model that is made with this file as its checkpoint_path"
        )
    try:
        held: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in a dozen ways, none of them documented
        raise CheckpointError(f"the file must hold tensors and plain values, but got {type(error).__name__}") from error
    accuracy = None
    if isinstance(held, dict) and held.get("kind") == KIND:
        saved = load_checkpoint(path)
        kind = better_kind(saved)
        held, accuracy = saved.get(kind), (saved.get("accuracies") or {}).get(kind)
    elif isinstance(held, dict):
        held = next((held[key] for key in _WRAPPED if isinstance(held.get(key), dict)), held)
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError("the file must hold the state dict of a network, but holds something else")
    return held, accuracy
