"""Weights of others for a network of ours, to start a training from: both list their layers in the order they run.

timm (https://github.com/huggingface/pytorch-image-models) names the parts of every family in its own way, but its state
dicts are in the order of its networks' layers, as ours are. So tensors are paired by their order and checked by their
kind and shape, and by nothing else. Strides, paddings, poolings, activations and the epsilon of a norm have no weights:
that they are the same is for whoever names the file. A model that differs in these alone loads without a word and gives
wrong outputs: timm's tf_mobilenetv3_large_100 in mobilenetv3_large, tf_efficientnet_b0 in efficientnet_b0,
legacy_seresnet50 in se_resnet50. Each file in search_spaces/baselines names in its header the model that it equals
("timm: resnet50"), where timm has it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from se_nas.errors import CheckpointError
from se_nas.layers.network import Network
from se_nas.records.checkpoint import KIND, check_finite, load_checkpoint
from se_nas.records.checksum import checksum_fault
from se_nas.space.specs import NetworkSpec
from se_nas.training.trained_network import better_kind

_CLASSIFIER = "head.classifier."

#: Under which a training script keeps the state dict, the best first.
_WRAPPED = ("state_dict_ema", "state_dict", "model")

#: A norm's count of batches, which old checkpoints lack and which nothing here reads.
_COUNT = "num_batches_tracked"


@dataclass(frozen=True)
class InitialWeights:
    """What a training starts from in place of random weights.

    Attributes:
        tensors: by name in the network; without those of a classifier for other classes.
        digest: sixteen hexadecimal digits of the file that they are of.
    """

    tensors: Mapping[str, Tensor]
    digest: str

    def put_into(self, network: nn.Module) -> None:
        """Replace the weights of a network; a tensor that is not there stays as it is."""
        network.load_state_dict(dict(self.tensors), strict=False)


def read_initial_weights(path: Path, spec: NetworkSpec) -> InitialWeights:
    """The weights that a file holds for a network: of a timm checkpoint, or the better ones of a training of ours.

    Raises:
        CheckpointError: the file is missing, unreadable, altered as far as its own checksums tell, of another
            architecture, or has values that are not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: the file of weights must be readable, but got: {error.strerror}") from error
    try:
        if (fault := checksum_fault(content)) is not None:
            raise CheckpointError(f"the file of weights must be whole, but {fault}")
        tensors = paired_by_order(_state_dict(path, content), Network(spec).state_dict())
    except CheckpointError as error:
        raise CheckpointError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    return InitialWeights(tensors, hashlib.sha256(content).hexdigest()[:16])


def paired_by_order(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict by the names of the network's own, but for a classifier of other classes.

    Linear maps and 1x1 convolutions stand for each other.

    Raises:
        CheckpointError: the state dict is of another architecture.
    """
    ours = [name for name in own if not name.endswith(_COUNT)]
    theirs = [name for name in state if not name.endswith(_COUNT)]
    found: dict[str, Tensor] = {}
    for name, other in zip(ours, theirs, strict=False):
        shape, got = tuple(own[name].shape), tuple(state[other].shape)
        if name.startswith(_CLASSIFIER) and shape[:1] != got[:1] and prod(shape[1:]) == prod(got[1:]):
            continue
        if _part(name) != _part(other) or not _stands_for(got, shape):
            raise CheckpointError(
                f"the weights must be of this architecture, with {name} of shape {shape}, but got {other} of {got}"
            )
        found[name] = state[other].reshape(shape)
    if len(ours) != len(theirs):
        must = f"the weights must be of this architecture, with {len(ours)} tensors"
        raise CheckpointError(f"{must}, but got {len(theirs)}")
    check_finite(state)
    return found


def _part(name: str) -> str:
    """What a tensor is to its layer: weight, bias, running_mean, running_var."""
    return name.rpartition(".")[2]


def _stands_for(got: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor can be one of that shape: the same, or one of them a linear map and the other a convolution."""
    linear_and_convolution = {len(got), len(shape)} == {2, 4}
    return got == shape or (linear_and_convolution and got[0] == shape[0] and prod(got) == prod(shape))


def _state_dict(path: Path, content: bytes) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        raise CheckpointError(
            "the file must keep the order of its tensors, which .safetensors does not: "
            "torch.save the state_dict() of the timm model that is made with this file as its checkpoint_path"
        )
    try:
        held: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in a dozen ways, none of them documented
        raise CheckpointError(f"the file must hold tensors and plain values, but got {type(error).__name__}") from error
    if isinstance(held, dict) and held.get("kind") == KIND:
        saved = load_checkpoint(path)
        held = saved.get(better_kind(saved))
    elif isinstance(held, dict):
        held = next((held[key] for key in _WRAPPED if isinstance(held.get(key), dict)), held)
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise CheckpointError("the file must hold the state dict of a network, but holds something else")
    return held
