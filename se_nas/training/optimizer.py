"""What moves the weights in a step: the optimiser at the schedule's rate, by gradients that are clipped and, of half
precision, scaled; and the running average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from se_nas.records.checkpoint import StateDict
from se_nas.training.guard import Stateful
from se_nas.training.loop import StepContext
from se_nas.training.recipe import Recipe
from se_nas.training.schedule import learning_rates
from se_nas.training.timm_parts import make_timm_optimizer

#: Optimisers of ours, by timm's names of them: whether the momentum is Nesterov's.
SGD = {"sgd": True, "momentum": False}


def parameter_groups(module: nn.Module, weight_decay: float, everything: bool = False) -> list[dict[str, Any]]:
    """The module's trainable parameters: filters and matrices with weight decay, norms and biases without.

    Args:
        everything: weight decay for norms and biases too.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trainable if everything or parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {
            "params": [parameter for parameter in trainable if not everything and parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(network: nn.Module, recipe: Recipe, *, fused: bool = True) -> torch.optim.Optimizer:
    """The recipe's optimiser over the trainable parameters: torch's SGD, or any other one of timm's.

    Without `recipe.decay_norm_and_bias`, parameters of one dimension are in a group without weight decay.

    Args:
        fused: must be False where some parameters get no gradient in some steps, as a supernet's do: torch's fused
            kernel wants every momentum buffer or none.
    """
    if recipe.optimizer not in SGD:
        return make_timm_optimizer(network, recipe, recipe.peak_learning_rate)
    momentum = 0.9 if recipe.momentum is None else recipe.momentum
    return torch.optim.SGD(
        parameter_groups(network, recipe.weight_decay, recipe.decay_norm_and_bias),
        lr=recipe.peak_learning_rate,
        momentum=momentum,
        nesterov=SGD[recipe.optimizer] and momentum > 0,
        fused=fused,
        foreach=not fused,
    )


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients down together to a norm of at most `max_norm`; returns the norm before, 0-d."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)


class WeightUpdate:
    """How the weights of a module move in a step: `begin`, `backward` for each loss, `end`.

    Args:
        scaled: whether gradients are of float16, and must be scaled to be seen there.
        fused: see `make_optimizer`.

    Attributes:
        state: what a run that is resumed must take up again.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        steps_per_epoch: int,
        *,
        device: torch.device,
        scaled: bool = False,
        fused: bool = True,
    ) -> None:
        # torch's fused kernel on a CPU takes the step that a scaler wants skipped
        self.optimizer = make_optimizer(module, recipe, fused=fused and not scaled)
        self.state: dict[str, Stateful] = {"optimizer": self.optimizer}
        self._module, self._clip = module, recipe.clip
        self._rate_of: Callable[[int], float] = learning_rates(recipe, steps_per_epoch)
        self._scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        if scaled:
            self.state["scaler"] = self._scaler

    def begin(self, context: StepContext) -> float:
        """Clear the gradients and set the step's learning rate, which is returned.

        To None, not to zero: weights that no subnet of a step holds must not decay or move by their old momentum.
        """
        rate = self._rate_of(context.step) * context.lr_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        return rate

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Move the weights by the gradients, clipped."""
        if self._clip is not None:
            self._scaler.unscale_(self.optimizer)
            clip_gradients(self._module.parameters(), self._clip)
        self._scaler.step(self.optimizer)
        self._scaler.update()


class WeightAverage:
    """An exponential moving average of a module's parameters and buffers, as timm's ModelEmaV3 has it.

    After step t, from 0: average = d * average + (1 - d) * value, where d is `decay`, but at most TensorFlow's
    (1 + t) / (10 + t), or under `warmup` timm's 1 - (1 + t) ** (-2 / 3): so that a run of fewer steps than
    1 / (1 - decay) forgets its first weights. Those of step 0 are taken as they are. Integer buffers are copied.

    Attributes:
        module: the averaged copy of the module, in eval mode and without gradients.
    """

    def __init__(self, module: nn.Module, decay: float, warmup: bool = False) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._decay, self._warmup = decay, warmup
        self._source = module

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the module's values after step `step`."""
        most = 1 - (1 + step) ** (-2 / 3) if self._warmup or step == 0 else (1 + step) / (10 + step)
        decay = min(self._decay, most)
        pairs = list(zip(_tensors(self.module), _tensors(self._source), strict=True))
        torch._foreach_lerp_(
            [average for average, _ in pairs if average.is_floating_point()],
            [value.detach() for _, value in pairs if value.is_floating_point()],
            1.0 - decay,
        )
        if counters := [(average, value) for average, value in pairs if not average.is_floating_point()]:
            torch._foreach_copy_([average for average, _ in counters], [value for _, value in counters])

    def state_dict(self) -> StateDict:
        """The averaged parameters and buffers, by the module's own names."""
        return self.module.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Take over what `state_dict` gave."""
        self.module.load_state_dict(state)


def make_average(network: nn.Module, recipe: Recipe) -> WeightAverage | None:
    """The running average of `network` that the recipe asks for; None where it asks for none."""
    if recipe.average_decay is None:
        return None
    return WeightAverage(network, recipe.average_decay, recipe.average_warmup)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
