"""The schedule of a module: its operations as torch runs them, on tensors that hold no values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from se_nas.layers.network import Network
from se_nas.space.attention.schedule import Schedule

#: Operations that torch does not mark as element by element; a norm is one by its running statistics.
_ELEMENTWISE = ("hardswish", "batch_norm")
#: Those that it does mark, but which are there to give a result a place of its own.
_COPIES = ("clone", "copy")


def schedule_of(module: nn.Module, image: Tensor) -> tuple[Schedule, int]:
    """What a module in eval mode runs on an image, both on the meta device, and its output's value in the schedule."""
    with torch.device("meta"):  # for what it makes itself
        return _traced(module, image)


def peak_of_running(network: Network) -> int:
    """The most numbers that are live at once while a network in eval mode, on whatever device, runs one image."""
    spec = network.spec
    empty = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    image = torch.empty(1, spec.in_channels, spec.resolution, spec.resolution, device="meta")
    schedule, output = _traced(lambda x: torch.func.functional_call(network, empty, (x,)), image)
    return schedule.peak(output)


def _traced(run: Callable[[Tensor], Tensor], image: Tensor) -> tuple[Schedule, int]:
    tracer = _Tracer(image)
    with torch.no_grad(), tracer:
        out = run(image)
    return tracer.schedule, tracer.value_of(out)


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation that makes a tensor of floating-point numbers in a place of its own."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.schedule = Schedule(image.numel())
        self._values = {_place(image): 0}
        self._kept = [image]  # or a place would be given to another tensor

    def value_of(self, tensor: Tensor) -> int:
        return self._values[_place(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        places = {_place(t) for t in read}
        values = tuple(self._values[_place(t)] for t in read if _place(t) in self._values)
        name = func._schema.name.split("::")[-1]
        elementwise = any(word in name for word in _ELEMENTWISE) or (
            torch.Tag.pointwise in func.tags and not any(word in name for word in _COPIES)
        )
        norm = "batch_norm" in name  # whose further results, statistics of the batch, are for training
        for made in tree_flatten(result)[0][: 1 if norm else None]:
            # positions of maxima are left out, which no network reads; what is in an operand's place is a view of it
            if isinstance(made, Tensor) and made.is_floating_point() and made.numel() and _place(made) not in places:
                self._values[_place(made)] = self.schedule.run(made.numel(), *values, elementwise=elementwise)
                self._kept.append(made)
        return result


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
