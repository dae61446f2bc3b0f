"""A search on several ranks does what one rank does that takes as many parts of each batch one after another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.training_set import TrainingSet
from se_nas.errors import ConfigError
from se_nas.hardware.distributed import join_ranks
from se_nas.records.run_log import read_log
from se_nas.search.differentiable.search import DifferentiableConfig, search_differentiable
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.training import train_one_shot
from se_nas.search.problem import SearchProblem
from se_nas.space.yaml.file import parse_space
from tests.helpers.rank_processes import on_ranks
from tests.helpers.tiny_imagenet import write_images
from tests.helpers.tiny_runs import SPACE, changed
from tests.search.problems import make_problem

#: 4 weight steps and 4 choice steps an epoch, of parts of at least 6 images.
SEARCH = {"pretrain_epochs": 1, "epochs": 2, "batch_size": 24, "choice_learning_rate": 0.1, "calibration_images": 40}
ONE_SHOT = {"epochs": 2, "batch_size": 24, "calibration_images": 40, "validate_every": 2}
#: At parts of 6 images a change of 1e-7 in the weights of one training alone grows to 3e-3 in two epochs of 0.1.
CALM = {"epochs": 1, "learning_rate": 0.02}
SIDES = changed(SPACE, "resolution", [6, 8])


@dataclass(frozen=True)
class Left:
    """What a training leaves on a rank: weights, learned logits, and the numbers of its history."""

    weights: dict[str, Tensor]
    statistics: dict[str, Tensor]
    scores: dict[str, list[float]]
    losses: list[float]
    validated: list[float]
    images: int
    damaged: list[str]


def searched(folder: Path, space: dict[str, Any], changes: dict[str, Any], data: DataOptions | None = None) -> Left:
    """A differentiable search as a rank does it, or alone."""
    with join_ranks(torch.device("cpu")) as (ranks, _):
        problem = make_problem(parse_space(space, "space"), folder, macs=0.4, data=data, ranks=ranks)
        result = search_differentiable(problem, DifferentiableConfig.model_validate({**SEARCH, **changes}))
    rows = result.history
    losses = [loss for row in rows for loss in (row.loss, row.of("choice_loss")) if loss is not None]
    validated = [row.validation_accuracy for row in rows if row.validation_accuracy is not None]
    return Left(*_state(result.supernet), result.scores, losses, validated, result.images, _damaged(problem))


def trained(
    folder: Path, samplings: tuple[str, ...], changes: dict[str, Any], data: DataOptions | None = None
) -> list[Left]:
    """The supernet of a black-box search, trained in each of several ways."""
    found = []
    with join_ranks(torch.device("cpu")) as (ranks, _):
        for sampling in samplings:
            problem = make_problem(parse_space(SPACE, "space"), folder / sampling, data=data, ranks=ranks)
            config = OneShotConfig.model_validate({**ONE_SHOT, "sampling": sampling, **changes})
            result = train_one_shot(problem, config)
            rows = result.history
            accuracies = [a for row in rows for a in (row.of("largest_accuracy"), row.of("smallest_accuracy"))]
            validated = [accuracy for accuracy in accuracies if accuracy is not None]
            losses = [row.loss for row in rows]
            found.append(Left(*_state(result.supernet), {}, losses, validated, result.images, _damaged(problem)))
    return found


def _state(supernet: torch.nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    floats = {name: buffer for name, buffer in supernet.named_buffers() if buffer.is_floating_point()}
    return {name: weight.detach() for name, weight in supernet.named_parameters()}, floats


def _damaged(problem: SearchProblem) -> list[str]:
    return sorted(problem.train.damage.found) if isinstance(problem.train, TrainingSet) else []


def assert_alike(several: list[Left], alone: Left) -> None:
    first = several[0]
    for left in several[1:]:  # to the bit: the first one's state is what all would resume from
        assert left.scores == first.scores
        assert left.losses == first.losses
        assert left.validated == first.validated
        for one, other in ((left.weights, first.weights), (left.statistics, first.statistics)):
            assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    for name, weight in first.weights.items():
        torch.testing.assert_close(weight, alone.weights[name], rtol=1e-4, atol=1e-5, msg=name)
    assert first.scores.keys() == alone.scores.keys()
    for name, values in first.scores.items():
        assert values == pytest.approx(alone.scores[name], abs=1e-4), name
    assert first.losses == pytest.approx(alone.losses, abs=1e-4)
    assert first.images == alone.images
    assert [left.damaged for left in several] == [alone.damaged] * len(several)


def compare_searches(
    folder: Path, size: int, accumulate: int, space: dict[str, Any], data: DataOptions | None = None, **changes: Any
) -> None:
    shares, parts = ({**changes, "accumulate": count} for count in (accumulate, size * accumulate))
    several = on_ranks(size, folder / "job", searched, folder / "several", space, shares, data)
    (alone,) = on_ranks(1, folder / "alone.job", searched, folder / "alone", space, parts, data)
    assert_alike(several, alone)
    assert several[0].validated == pytest.approx(alone.validated, abs=1.5 / 40)  # an image of 40 may be on the edge
    assert any(abs(score) > 0.05 for scores in alone.scores.values() for score in scores)
    epochs = [line["epoch"] for line in read_log(folder / "several" / "log.jsonl") if line["event"] == "epoch"]
    assert epochs == list(range(1 + changes.get("epochs", 2)))  # written by one


def test_two_ranks_search_as_one_that_takes_two_parts(tmp_path: Path) -> None:
    compare_searches(tmp_path, 2, 1, SPACE)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "accumulate"), [(2, 2), (4, 1)])
@pytest.mark.parametrize("changes", [{}, {"weight_step": "mixture", "choice_every": 2}], ids=["sampled", "mixture"])
@pytest.mark.parametrize("space", [SPACE, SIDES], ids=["one resolution", "two resolutions"])
def test_ranks_search_as_one_that_takes_as_many_parts(
    tmp_path: Path, size: int, accumulate: int, changes: dict[str, Any], space: dict[str, Any]
) -> None:
    # of one epoch: Adam makes a step of any gradient, of one that is rounding alone too, and the next epoch draws by it
    compare_searches(tmp_path, size, accumulate, space, **changes, epochs=1)


def compare_one_shot(
    folder: Path,
    size: int,
    accumulate: int,
    samplings: tuple[str, ...],
    data: DataOptions | None = None,
    **changes: Any,
) -> None:
    shares, parts = ({**changes, "accumulate": count} for count in (accumulate, size * accumulate))
    several = on_ranks(size, folder / "job", trained, folder / "several", samplings, shares, data)
    (alone,) = on_ranks(1, folder / "alone.job", trained, folder / "alone", samplings, parts, data)
    for number, _ in enumerate(samplings):
        assert_alike([rank[number] for rank in several], alone[number])


def test_two_ranks_train_a_supernet_fairly_as_one_that_takes_two_parts(tmp_path: Path) -> None:
    compare_one_shot(tmp_path, 2, 1, ("strict_fairness",))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "accumulate"), [(2, 2), (4, 1)])
def test_ranks_train_a_supernet_as_one_that_takes_as_many_parts(tmp_path: Path, size: int, accumulate: int) -> None:
    compare_one_shot(tmp_path, size, accumulate, ("strict_fairness", "sandwich", "best_up", "uniform"), **CALM)


@pytest.mark.slow
def test_ranks_average_the_weights_of_a_supernet_alike(tmp_path: Path) -> None:
    compare_one_shot(tmp_path, 2, 1, ("worst_up",), **CALM, average_decay=0.5, distillation="alpha")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "accumulate"), [(2, 2), (4, 1)])
def test_ranks_learn_from_images_on_disk_as_one_that_takes_as_many_parts(
    tmp_path: Path, size: int, accumulate: int
) -> None:
    images = write_images(tmp_path / "images", classes=10, train=20)
    for broken in ("class01/3.jpg", "class04/7.jpg", "class08/11.jpg"):
        (images / "train" / broken).write_bytes(b"broken")
    data = DataOptions("imagenet", images, largest=8)
    compare_searches(tmp_path / "differentiable", size, accumulate, SPACE, data, epochs=1)
    compare_one_shot(tmp_path / "one_shot", size, accumulate, ("strict_fairness",), data, **CALM)


def refused(folder: Path, changes: dict[str, Any]) -> str:
    try:
        searched(folder, SPACE, changes)
    except ConfigError as error:
        return str(error)
    except SystemExit as error:
        return f"exit {error.code}"
    return ""


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [
        (25, "search.batch_size: must be a multiple of ranks (2) times accumulate (1), but got 25"),
        (62, "search.batch_size: must be at most the images of each part of the data, here 60, to be divided, but got"),
    ],
)
def test_a_batch_that_does_not_divide_is_told_by_one_rank(tmp_path: Path, batch_size: int, expected: str) -> None:
    first, second = on_ranks(2, tmp_path / "job", refused, tmp_path / "out", {"batch_size": batch_size})
    assert expected in first.replace("search: ", "search.")
    assert second == "exit 2"
    assert not (tmp_path / "out").exists()
