"""The two passes of a step through the one-pass mixture, for the weights or for the choices, each as one graph.

They take the choices' probabilities as one matrix on the device. So a graph is the same whatever the probabilities, and
what comes before it (logits, noise, temperature) stays on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from se_nas.hardware.device import autocast_for
from se_nas.hardware.graph_step import Compiled, GraphStep
from se_nas.hardware.lines import Say
from se_nas.search.differentiable.choice_logits import ChoiceLogits
from se_nas.supernet.supernet import SuperNet

Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Graphs:
    """How the passes are run; see `GraphStep`."""

    compiled: bool
    captured: bool
    say: Say


def weight_passes(
    supernet: SuperNet, logits: ChoiceLogits, criterion: Criterion, backward: Callable[[Tensor], None], graphs: Graphs
) -> GraphStep:
    """A function of images, labels and probabilities that adds to the weights' gradients: loss and accuracy.

    Args:
        backward: adds the gradients of a loss.
    """
    mixture, compiled = _mixture(supernet, logits, graphs)

    def passes(x: Tensor, y: Tensor, probabilities: Tensor) -> tuple[Tensor, ...]:
        with autocast_for(x.device):
            predicted = mixture(x, probabilities)
            loss = criterion(predicted.float(), y)
        backward(loss)
        return loss.detach(), (predicted.detach().argmax(1) == y).float().mean()

    return GraphStep(passes, supernet, compiled=compiled, captured=graphs.captured, say=graphs.say)


def choice_passes(supernet: SuperNet, logits: ChoiceLogits, criterion: Criterion, graphs: Graphs) -> GraphStep:
    """A function of images, labels and probabilities: the loss, and the gradient of the probabilities."""
    mixture, compiled = _mixture(supernet, logits, graphs)

    def passes(x: Tensor, y: Tensor, probabilities: Tensor) -> tuple[Tensor, ...]:
        leaf = probabilities.detach().requires_grad_()
        with _without_gradients(supernet), autocast_for(x.device):
            loss = criterion(mixture(x, leaf).float(), y)
        if not loss.requires_grad:  # where the resolution is the one choice
            return loss, torch.zeros_like(leaf)
        return loss.detach(), *torch.autograd.grad(loss, [leaf])

    return GraphStep(passes, supernet, compiled=compiled, captured=graphs.captured, say=graphs.say)


def _mixture(
    supernet: SuperNet, logits: ChoiceLogits, graphs: Graphs
) -> tuple[Callable[[Tensor, Tensor], Tensor], Compiled | None]:
    """The mixture as a function of images and probabilities, and what of it is compiled."""

    def mixture(x: Tensor, probabilities: Tensor) -> Tensor:
        return supernet.run_mixture(x, logits.rows(probabilities))

    compiled = Compiled(mixture) if graphs.compiled else None
    return compiled or mixture, compiled


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """What is computed meanwhile keeps nothing for the gradients of the weights, which nobody asks for."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
