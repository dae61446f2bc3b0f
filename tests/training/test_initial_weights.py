"""Weights of a file paired with a network's own by their order, and what is said of files that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from se_nas.errors import CheckpointError
from se_nas.layers.network import Network
from se_nas.layers.pairing import paired_by_order
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import parse_space
from se_nas.training.initial_weights import InitialWeights, read_initial_weights
from se_nas.training.trained_network import save_weights


def tiny(classes: int = 10, width: int = 8) -> NetworkSpec:
    se = {"options": [2], "divisor": 1}
    stage = {"width": width, "stride": 2, "expansion": 2, "se": se}
    space = parse_space(
        {"name": "tiny", "resolution": 8, "classes": classes, "stem": {"width": 8}, "stages": [stage]}, "tiny"
    )
    return space.resolve(space.architecture({}))


def foreign(spec: NetworkSpec) -> dict[str, Tensor]:
    """A state dict as another library might write it: other names, SE's linear maps as 1x1 convolutions."""
    torch.manual_seed(1)
    state = Network(spec).state_dict()
    return {
        f"part{i}.{name.rpartition('.')[2]}": value[:, :, None, None] if ".se." in name and value.dim() == 2 else value
        for i, (name, value) in enumerate(state.items())
    }


def test_tensors_are_paired_by_order_and_linear_maps_stand_for_convolutions() -> None:
    torch.manual_seed(0)
    network, source = Network(tiny()), Network(tiny())
    InitialWeights(paired_by_order(foreign(tiny()), source.state_dict()), "").put_into(source)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = paired_by_order(foreign(tiny()), network.state_dict())
    counts = {name for name in before if name.endswith("num_batches_tracked")}
    assert found.keys() == before.keys() - counts
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(torch.equal(source.state_dict()[name], value) for name, value in found.items())


def test_counts_of_batches_may_be_lacking() -> None:
    network = Network(tiny())
    state = {name: value for name, value in foreign(tiny()).items() if not name.endswith("num_batches_tracked")}
    assert len(state) < len(network.state_dict())
    InitialWeights(paired_by_order(state, network.state_dict()), "").put_into(network)


def test_a_classifier_of_other_classes_is_left_alone() -> None:
    network = Network(tiny(classes=4))
    found = paired_by_order(foreign(tiny(classes=10)), network.state_dict())
    assert not {"head.classifier.weight", "head.classifier.bias"} & found.keys()
    assert not torch.equal(found["stem.conv.weight"], network.stem.conv.weight)


def test_weights_of_another_architecture_are_refused() -> None:
    network = Network(tiny())
    state = foreign(tiny(width=16))
    with pytest.raises(CheckpointError, match=r"project\.weight of shape \(8, 16, 1, 1\), but got part\d+\.weight of"):
        paired_by_order(state, network.state_dict())
    state = foreign(tiny())
    with pytest.raises(CheckpointError, match="with 26 tensors, but got 25"):
        paired_by_order(dict(list(state.items())[:-1]), network.state_dict())
    swapped = dict(state)
    names = list(swapped)
    swapped = {name: swapped[name] for name in [names[0], names[2], names[1], *names[3:]]}
    with pytest.raises(CheckpointError, match=r"with stem\.norm\.weight .* but got part2\.bias"):
        paired_by_order(swapped, network.state_dict())


def test_a_network_that_differs_in_activations_alone_loads_without_a_word() -> None:
    """Which is why the docstring, the help of --weights and the baselines' headers say which model is the same."""
    one = tiny()
    other = replace(one, blocks=tuple(replace(block, activation="hard_swish") for block in one.blocks))
    assert one != other
    network = Network(one).eval()
    source = Network(other).eval()
    InitialWeights(paired_by_order(source.state_dict(), network.state_dict()), "").put_into(network)
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(network(image), source(image))


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
def test_a_timm_checkpoint_is_read(wrapped: Any, tmp_path: Path) -> None:
    path = tmp_path / "timm.pth"
    torch.save(wrapped(foreign(tiny())), path)
    initial = read_initial_weights(path, tiny())
    network = Network(tiny())
    initial.put_into(network)
    wanted = paired_by_order(foreign(tiny()), network.state_dict())
    assert all(torch.equal(network.state_dict()[name], value) for name, value in wanted.items())
    other = tmp_path / "other.pth"
    torch.save(wrapped(Network(tiny()).state_dict()), other)
    assert read_initial_weights(other, tiny()).digest != initial.digest


def test_a_checkpoint_of_ours_is_read_its_average_first(tmp_path: Path) -> None:
    torch.manual_seed(0)
    last, average = Network(tiny()), Network(tiny())
    save_weights(tmp_path / "network.pt", last, average)
    network = Network(tiny(classes=3))
    read_initial_weights(tmp_path / "network.pt", network.spec).put_into(network)
    assert torch.equal(network.stem.conv.weight, average.stem.conv.weight)
    assert network.head.classifier.weight.shape == (3, 8)


def test_files_that_hold_no_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    torch.save({"epoch": 3}, tmp_path / "plain.pth")
    torch.save({"model": Path("x")}, tmp_path / "foreign.pth")
    (tmp_path / "names.safetensors").write_bytes(b"")
    for name, said in {
        "missing.pth": "must be readable",
        "text.pth": "tensors and plain values",
        "plain.pth": "holds something else",
        "foreign.pth": "tensors and plain values",
        "names.safetensors": "order of its tensors",
    }.items():
        with pytest.raises(CheckpointError, match=said) as caught:
            read_initial_weights(tmp_path / name, tiny())
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)
