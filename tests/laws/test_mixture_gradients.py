"""In mix mode every weight and every probability learns, and what a probability learns is the true derivative."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.supernet import SuperNet
from tests.helpers.probabilities import soft
from tests.helpers.strategies import spaces

#: Smooth everywhere, so that finite differences are near; each kind of mixture once, SE at both positions, and widths.
SMOOTH_SPACE = {
    "name": "smooth",
    "resolution": 6,
    "channels": 1,
    "classes": 2,
    "channel_divisor": 1,
    "stem": {"width": [3, 4], "activation": "silu"},
    "head": {"width": [4, 6], "activation": "silu"},
    "stages": [
        {
            "width": [3, 5],
            "depth": [1, 2],
            "activation": ["silu", "gelu"],
            "kernel": [1, 3],
            "expansion": [2, 3],
            "se": {
                "options": ["none", 1, 3],
                "divisor": 1,
                "activation": "silu",
                "gate": "sigmoid",
            },
        },
        {
            "width": [4, 5],
            "activation": "silu",
            "blocks": [
                {"kind": "identity"},
                {
                    "kind": "mbconv",
                    "kernel": [3, 5],
                    "expansion": [2, 4],
                    "se": {
                        "options": ["none", 2, 4],
                        "ratio_of": "block_output",
                        "divisor": 1,
                        "activation": "silu",
                        "gate": "sigmoid",
                        "position": "standard",
                    },
                },
                {
                    "kind": "bottleneck",
                    "kernel": [1, 3],
                    "expansion": [0.5, 1],
                    "activation": ["gelu_tanh", "silu"],
                    "se": {
                        "options": ["none", 1, 2],
                        "divisor": 1,
                        "activation": "silu",
                        "gate": "sigmoid",
                    },
                },
            ],
        },
    ],
}


def seeded_supernet(space: SearchSpace) -> SuperNet:
    """Weights larger than at the start, so that no gradient is small for want of signal."""
    torch.manual_seed(0)
    supernet = SuperNet(space).double()
    torch.nn.init.normal_(supernet.head.classifier.weight)
    return supernet


def test_derivatives_by_probabilities_and_images_are_the_finite_differences() -> None:
    space = parse_space(SMOOTH_SPACE, "smooth")
    names = [choice.name for choice in space.choices]
    probabilities = [p.requires_grad_() for p in soft(space, 1).values()]
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    for training in (False, True):
        supernet = seeded_supernet(space).train(training)

        def mixture(x: Tensor, *values: Tensor, supernet: SuperNet = supernet) -> Tensor:
            output: Tensor = supernet.mix(dict(zip(names, values, strict=True)))(x)
            return output

        assert torch.autograd.gradcheck(mixture, (x, *probabilities), atol=1e-6, rtol=1e-4)


def test_every_probability_and_every_weight_learns() -> None:
    space = parse_space(SMOOTH_SPACE, "smooth")
    supernet = seeded_supernet(space)
    probabilities = {name: p.requires_grad_() for name, p in soft(space, 2).items()}
    supernet.mix(probabilities)(torch.randn(3, 1, 6, 6, dtype=torch.float64)).square().sum().backward()
    for name, tensor in [*probabilities.items(), *supernet.named_parameters()]:
        assert tensor.grad is not None, name
        if not name.endswith("project_norm.bias"):  # the norm after the next convolution takes a shift out again
            assert (tensor.grad.abs() > 0).all(), name  # the rims of kernels and the last hidden units too


@given(spaces(), st.integers(0, 2**16))
def test_no_gradient_is_missing_in_any_space(space: SearchSpace, seed: int) -> None:
    supernet = seeded_supernet(space)
    probabilities = {name: p.requires_grad_() for name, p in soft(space, seed).items()}
    x = torch.randn(2, space.channels, *[min(space.resolutions)] * 2, dtype=torch.float64)
    supernet.mix(probabilities)(x).square().sum().backward()
    probabilities.pop("resolution", None)  # a mixture runs at one
    for name, tensor in [*probabilities.items(), *supernet.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
