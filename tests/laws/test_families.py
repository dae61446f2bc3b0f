"""The laws for every family of blocks in turn; drawn spaces mix them, and may leave one out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from se_nas.export.agreement import greatest_difference
from se_nas.export.plain_module import load_plain_module, write_plain_module
from se_nas.space.yaml.file import dump_space, parse_space
from se_nas.supernet.supernet import SuperNet
from tests.export.trained import trained
from tests.helpers.probabilities import one_hot, soft
from tests.laws.families import FAMILIES, family_space
from tests.laws.test_counts import check_every_count
from tests.laws.test_one_supernet import images, lively_supernet

POSITIONS = ("inside", "standard", "pre", "post", "identity")
WITHOUT_SHORTCUT = ("conv", "separable", "inception", "mbconv that always expands, without its shortcut")
PLACES = [(f, p) for f in FAMILIES for p in POSITIONS if p != "identity" or f not in WITHOUT_SHORTCUT]


@pytest.mark.parametrize(("family", "position"), PLACES)
def test_slice_export_and_one_hot_mixture_are_one_network(family: str, position: str) -> None:
    space = family_space(family, position)
    assert parse_space(yaml.safe_load(dump_space(space)), "dumped") == space
    supernet, x = lively_supernet(space, 0).eval(), images(space)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for _ in range(3):
            architecture = space.sample(rng)
            expected = supernet.export(architecture)(x)
            assert expected.abs().max() > 1e-6
            torch.testing.assert_close(supernet.activate(architecture)(x), expected)
            torch.testing.assert_close(supernet.mix(one_hot(space, architecture))(x), expected)
            check_every_count(space, architecture)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_probabilities_and_weights_learn_is_the_true_derivative(family: str) -> None:
    space = family_space(family, "inside")
    torch.manual_seed(0)
    supernet = SuperNet(space).double().eval()
    names = [choice.name for choice in space.choices]
    probabilities = [p.requires_grad_() for p in soft(space, 1).values()]
    x = images(space, 2)
    weights = [p for name, p in supernet.named_parameters() if name.endswith(("norm.weight", "reduce.bias"))]

    def mixture(*values: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = supernet.mix(dict(zip(names, values, strict=False)))(x)
        return output

    assert torch.autograd.gradcheck(mixture, (*probabilities, *weights), atol=1e-6, rtol=1e-4, fast_mode=True)
    supernet.train()
    mixture(*probabilities).square().sum().backward()
    for name, parameter in supernet.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_plain_module_is_the_network(family: str) -> None:
    space = family_space(family)
    network = trained(space.resolve(space.sample(np.random.default_rng(3))))
    with tempfile.TemporaryDirectory() as folder:
        write_plain_module(network, {}, Path(folder))
        assert greatest_difference(network.eval(), load_plain_module(Path(folder))) <= 1e-5
