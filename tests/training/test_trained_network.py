from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from se_nas.errors import ArchitectureError, CheckpointError, ConfigError
from se_nas.export.timm_network import weights_in
from se_nas.layers.network import Network
from se_nas.records.checkpoint import save_checkpoint
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.yaml.file import parse_space
from se_nas.training.initial_weights import read_initial_weights
from se_nas.training.trained_network import load_trained, network_with, save_weights
from tests.helpers.tiny_imagenet import NETWORK, tiny_network

SPEC = tiny_network()


def network_of(value: float) -> Network:
    """A network all of whose parameters are `value`."""
    network = Network(SPEC)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, value)
    return network


def bias(network: Network) -> float:
    return network.head.classifier.bias[0].item()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A retraining's folder: weights 1 and averaged 2; `best.pt` has 3 and no average."""
    space = parse_space({**NETWORK, "scaling": {}}, "tiny")
    save_architecture(tmp_path / "architecture.json", ArchitectureFile.of(space, next(space.enumerate())))
    save_weights(tmp_path / "network.pt", network_of(1.0), network_of(2.0), epoch=4)
    save_weights(tmp_path / "best.pt", network_of(3.0), None)
    return tmp_path


def test_averaged_weights_are_taken_where_nothing_says_which_did_better_unless_told_otherwise(folder: Path) -> None:
    network, file, _ = load_trained(folder)
    assert file.network == network.spec == SPEC
    assert not network.training
    assert bias(network) == 2.0
    assert bias(load_trained(folder, average=False)[0]) == 1.0
    assert bias(load_trained(folder, folder / "best.pt")[0]) == 3.0
    with pytest.raises(CheckpointError, match=r"best\.pt: averaged weights were asked for, but the training kept none"):
        load_trained(folder, folder / "best.pt", average=True)


LAST_BETTER = {"top1": 0.386, "ema_top1": 0.151}
AVERAGE_BETTER = {"test_accuracy": 0.3, "ema_test_accuracy": 0.4}


@pytest.mark.parametrize("told_by", ["the file", "result.json", "result.json of the run"])
@pytest.mark.parametrize(("retrain", "value"), [(LAST_BETTER, 1.0), (AVERAGE_BETTER, 2.0)])
def test_the_weights_that_did_better_are_taken(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, retrain: dict[str, float], value: float, told_by: str
) -> None:
    network, average = retrain.values()
    if told_by == "the file":
        accuracies = {"network": network, "average": average}
        save_weights(folder / "network.pt", network_of(1.0), network_of(2.0), accuracies=accuracies)
    elif told_by == "result.json":
        (folder / "result.json").write_text(json.dumps({"retrain": retrain, "seed": 0}))
    else:
        run = tmp_path_factory.mktemp("run")
        folder = folder.rename(run / "retrain")
        (run / "result.json").write_text(json.dumps({"retrain": retrain, "name": "x"}))
    found = load_trained(folder)
    assert bias(found.network) == value
    words = found.taken.words()
    assert f"{network:.2%}" in words
    assert f"{average:.2%}" in words
    assert words.startswith("weights: the last ones of" if value == 1.0 else "weights: the averaged ones of")
    for average_wanted, other in ((False, 1.0), (True, 2.0)):
        assert bias(load_trained(folder, average=average_wanted).network) == other
    start = read_initial_weights(folder / "network.pt", SPEC)
    if told_by == "the file":
        assert start.tensors["head.classifier.bias"][0] == value
        state = torch.load(folder / "network.pt", weights_only=True)
        assert weights_in(state)["head.classifier.bias"][0] == value


def test_a_damaged_result_beside_old_weights_is_one_error(folder: Path) -> None:
    (folder / "result.json").write_text('{"retrain": {"top1": "high"}}')
    with pytest.raises(ConfigError, match=r"result\.json.*top1"):
        load_trained(folder)


def test_an_architecture_file_needs_its_weights_named(folder: Path) -> None:
    source = folder / "architecture.json"
    assert bias(load_trained(source, folder / "network.pt")[0]) == 2.0
    with pytest.raises(CheckpointError, match=r"architecture\.json: .*must be given"):
        load_trained(source)
    source.unlink()
    with pytest.raises(ArchitectureError, match=r"architecture\.json"):
        load_trained(folder)


def test_weights_of_another_architecture_are_named_with_their_shapes(folder: Path) -> None:
    wider = tiny_network(stem={"width": 16, "stride": 2})
    with pytest.raises(
        CheckpointError, match=r"must be of this architecture, with stem.*\(16, 3, 3, 3\).*\(8, 3, 3, 3\)"
    ):
        network_with(wider, folder / "network.pt")
    shallower = tiny_network(stages=NETWORK["stages"][:1])
    with pytest.raises(CheckpointError, match=r"network\.pt: the weights must be of this architecture"):
        network_with(shallower, folder / "network.pt")


def test_a_checkpoint_that_holds_no_network_is_refused(folder: Path) -> None:
    save_checkpoint(folder / "other.pt", {"supernet": {}})
    with pytest.raises(CheckpointError, match="must hold the weights of a network, but holds supernet"):
        network_with(SPEC, folder / "other.pt")
