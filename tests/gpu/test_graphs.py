"""Steps that CUDA captures do what plain ones do; on simulated devices, where nothing rounds otherwise, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from se_nas.hardware.graph_step import GraphStep
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.space.yaml.file import parse_space
from tests.helpers.tiny_imagenet import EVERYTHING, recipe_of, tiny_network, write_images
from tests.helpers.tiny_runs import SPACE
from tests.search.problems import make_problem
from tests.training.disk_jobs import DiskJob, Fault, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")
SIMULATED = "tests.simulated_cuda.plugin" in sys.modules


def watched_replays(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))[1])
    return replays


def test_a_captured_training_is_the_plain_one_over_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that is drawn at random, images that are mixed until the last epoch, and averaged weights."""
    images, replays = write_images(tmp_path / "images", 4), watched_replays(monkeypatch)
    values = {**EVERYTHING, "epochs": 6, "mixup_off_epoch": 3}
    found = []
    for captured in (False, True):
        recipe, fault = recipe_of(values, cuda_graphs=captured, compile=False), Fault("weights", 7, 0)
        job = DiskJob(tmp_path / str(captured), images, tiny_network(classes=4), recipe, fault=fault, device=CUDA)
        found.append(train(job))
        assert (len(replays) > 0) == captured
    plain, graphs = found
    assert len(set(map(id, replays))) == 2  # of labels, and of mixed ones
    assert plain.steps == graphs.steps
    assert len(plain.steps) > 18
    assert "not captured" not in graphs.said
    if SIMULATED:
        assert graphs.digests == plain.digests
    last = [watched.training.history[-1].plain() for watched in found]
    assert last[1]["loss"] == pytest.approx(last[0]["loss"], rel=0.2)


def stepping(work: Any, network: nn.Module, steps: int, said: list[str]) -> list[float]:
    run = GraphStep(work, network, captured=True, say=said.append)
    losses = []
    for number in range(steps):
        network.zero_grad(set_to_none=True)
        (loss,) = run(torch.full((4, 3), number / steps, device="cuda"))
        assert network.weight.grad is not None
        losses.append(loss)
    return torch.stack(losses).tolist()


def test_what_a_captured_step_returns_is_not_overwritten_and_its_shapes_have_graphs_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, said, replays = nn.Linear(3, 2).cuda(), [], watched_replays(monkeypatch)

    def work(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = F.mse_loss(network(x), x[:, :2])
        loss.backward()
        return (loss.detach(),)

    losses = stepping(work, network, 12, said)
    assert said == []
    assert len(set(losses)) == 12
    assert len(replays) == 7


def test_a_step_that_waits_for_the_device_is_not_captured_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    network, said = nn.Linear(3, 2).cuda(), []

    def work(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = network(x).square().sum()
        loss.backward()
        loss.item()
        return (loss.detach(),)

    assert len(set(stepping(work, network, 12, said))) == 12
    assert len(said) == 1
    assert said[0].startswith("not captured, as CUDA cannot: ")


@pytest.mark.slow
def test_a_captured_search_is_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixtures for the weights and for the choices, on images of two sizes, of which each has its graphs."""
    space = parse_space({**SPACE, "resolution": [8, 12], "stages": SPACE["stages"][:1]}, "two")
    replays, found = watched_replays(monkeypatch), []
    for captured in (False, True):
        problem = make_problem(space, tmp_path / str(captured), macs=0.6, device=CUDA)
        values = {"pretrain_epochs": 1, "epochs": 4, "batch_size": 20, "weight_step": "mixture"}
        found.append(
            search_differentiable(problem, DifferentiableConfig(**values, cuda_graphs=captured, compile=False))
        )
        assert (len(replays) > 0) == captured
    assert len(set(map(id, replays))) == 4
    plain, graphs = found
    if SIMULATED:
        assert graphs.scores == plain.scores
        for name, tensor in graphs.supernet.state_dict().items():
            assert torch.equal(tensor, plain.supernet.state_dict()[name]), name
    for name, row in graphs.scores.items():
        assert row == pytest.approx(plain.scores[name], abs=0.2), name
