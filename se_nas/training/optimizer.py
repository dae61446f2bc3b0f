"""What every training here shares around its optimiser: SGD, closed-form schedule, weight average, clipping.

Only momentum and the average are state: the learning rate is a function of the step, with no scheduler to save.
Cosine schedule: https://arxiv.org/abs/1608.03983; linear warm-up: https://arxiv.org/abs/1706.02677.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The module's trainable parameters: filters and matrices with weight decay, norms and biases without."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trainable if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_sgd(
    module: nn.Module, learning_rate: float, weight_decay: float, momentum: float = 0.9, fused: bool = True
) -> torch.optim.SGD:
    """SGD with Nesterov momentum over `parameter_groups(module, weight_decay)`.

    `fused` must be False where some parameters get no gradient in some steps, as a supernet's do: torch's fused
    kernel wants every momentum buffer or none.
    """
    groups = parameter_groups(module, weight_decay)
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group of `optimizer` this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def cosine_lr(step: int, total: int, warmup_steps: int, base: float, final: float) -> float:
    """The learning rate of step `step` of `total`, counted from 0.

    It rises linearly over `warmup_steps` to `base`, which the last of them reaches, then falls along half a
    cosine from `base` at step `warmup_steps` to `final` at step `total`.
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    fraction = min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
    return final + (base - final) * 0.5 * (1.0 + math.cos(math.pi * fraction))


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients down together to a norm of at most `max_norm`; returns the norm before, 0-d."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)


class WeightAverage:
    """An exponential moving average of a module's parameters and buffers.

    Update n, from 0, with d = min(decay, (1 + n) / (10 + n)): average = d * average + (1 - d) * value. The smaller
    d of the first updates lets a short run forget its random initial weights. Integer buffers are copied.

    Attributes:
        module: the averaged copy of the module, in eval mode and without gradients.
        updates: how many updates it has seen.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay
        self._source = module

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the module's present values."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, value in zip(_tensors(self.module), _tensors(self._source), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value.detach())
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1.0 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` of the same kind of module gave."""
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
