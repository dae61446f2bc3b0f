"""What keeps a training from going astray: losses that are a fault, and the copies of the state to go back to.

A copy is trusted only once the loss of a later step is sound, because the loss of step t says nothing of the update
that step t makes.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from se_nas.records.checkpoint import StateDict
from se_nas.records.models.history import Epoch, History


class Stateful(Protocol):
    """A part of the training state: a module, an optimiser, choice logits, a weight average.

    `load_state_dict` is given a copy that it may keep.
    """

    def state_dict(self) -> Any:
        """Tensors and plain values in dicts, lists and tuples."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Go back to what `state_dict` gave."""


@dataclass(frozen=True)
class GuardConfig:
    """When a loss is a fault, and what then.

    Attributes:
        spike_factor: a loss above this many times the running median is a spike.
        spike_floor: a loss of at most this is never a spike: once a set is memorised, losses jump by factors.
        window: how many sound losses the running median covers; it judges once half of them are there.
        max_rollbacks: how many rollbacks a run may have.
        lr_backoff: what each rollback multiplies the learning rate by.
        snapshot_every: steps between two copies of the state; also what a kill can lose.
        check_every: steps between two looks at the losses: 1 on the CPU; 10 or more on a GPU, where each look
            waits for the device.
    """

    spike_factor: float = 10.0
    spike_floor: float = 1.0
    window: int = 50
    max_rollbacks: int = 5
    lr_backoff: float = 0.5
    snapshot_every: int = 20
    check_every: int = 1

    @classmethod
    def for_device(cls, device: torch.device) -> GuardConfig:
        """What suits a device."""
        return cls(check_every=1 if device.type == "cpu" else 10)

    def fault_of(self, loss: float, before: Sequence[float]) -> str | None:
        """What is wrong with a loss after sound ones, in words; None where nothing is."""
        if not math.isfinite(loss):
            return "a non-finite loss"
        if loss > self.spike_floor and 2 * len(before) >= self.window:
            median = statistics.median(before)
            if loss > self.spike_factor * median:
                return f"a loss above {self.spike_factor:g} times the running median {median:.4g}"
        return None


@dataclass
class Position:
    """All that the loop itself remembers; plain values, so that it can be saved."""

    step: int = 0
    attempt: int = 0
    lr_scale: float = 1.0
    losses: list[float] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, object]] = field(default_factory=list)
    log_lines: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def epochs(self) -> History:
        """The history as what it is of."""
        return tuple(Epoch.model_validate(entry) for entry in self.history)


@dataclass(frozen=True)
class Snapshot:
    """A copy of the whole state."""

    position: Position
    parts: StateDict


class Snapshots:
    """Copies of the state: the one that is trusted, and one that a later loss has yet to confirm.

    Args:
        state: every object that training changes, by name.
    """

    def __init__(self, state: Mapping[str, Stateful]) -> None:
        self._state = dict(state)
        self.trusted = Snapshot(Position(), {})
        self._candidate: Snapshot | None = None

    @property
    def parts(self) -> list[str]:
        """Names of the parts of the state."""
        return sorted(self._state)

    def trust(self, position: Position) -> None:
        """Copy a state that is known to be sound."""
        self.trusted, self._candidate = self._copy(position), None

    def propose(self, position: Position) -> None:
        """Copy a state whose soundness a later loss will tell."""
        self._candidate = self._copy(position)

    def confirm(self) -> None:
        """Trust what was proposed last."""
        if self._candidate is not None:
            self.trusted, self._candidate = self._candidate, None

    def go_back(self) -> Position:
        """Go back to the trusted copy, which is spent then: an optimiser keeps and changes what it loads."""
        self._candidate = None
        return self.restore(self.trusted)

    def restore(self, snapshot: Snapshot) -> Position:
        """Give every part its copy; returns the position."""
        for name, part in self._state.items():
            part.load_state_dict(snapshot.parts[name])
        return copy.deepcopy(snapshot.position)

    def state_has_nan(self) -> bool:
        """Whether any tensor of the state holds NaN; infinity is allowed, it masks logits."""
        found = (tensor for part in self._state.values() for tensor in _tensors_in(part.state_dict()))
        # the greatest value is NaN where one is, and needs no memory, unlike isnan().any()
        alike = _alike(tensor for tensor in found if tensor.is_floating_point() and tensor.numel())
        return any(bool(torch.stack(torch._foreach_max(tensors)).isnan().any()) for tensors in alike)

    @torch.no_grad()
    def _copy(self, position: Position) -> Snapshot:
        before: list[Tensor] = []
        parts = {name: _copied(part.state_dict(), before) for name, part in self._state.items()}
        after = list(_tensors_in(parts))
        for own, its in zip(_alike(before), _alike(after), strict=True):
            torch._foreach_copy_(its, own)
        return Snapshot(copy.deepcopy(position), parts)


def _copied(value: Any, before: list[Tensor]) -> Any:
    """A deep copy of a state dict whose tensors, on their devices, are yet to be filled with those put in `before`."""
    if isinstance(value, Tensor):
        before.append(value.detach())
        return torch.empty_like(before[-1])
    if isinstance(value, Mapping):
        return {key: _copied(item, before) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item, before) for item in value)
    return copy.deepcopy(value)


def _alike(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Tensors of one device and type together, which one operation takes."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return list(groups.values())


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)
