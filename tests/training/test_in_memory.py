from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from se_nas.data.in_memory import synthetic
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import CheckpointError, ConfigError
from se_nas.hardware.distributed import Ranks
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.run_log import read_log
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import parse_space
from se_nas.training import train as training
from se_nas.training.evaluate import TopAccuracies
from se_nas.training.images import images_in_memory
from se_nas.training.in_memory import Retrained, train_network
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import default_recipe
from se_nas.training.train import HeldOut
from tests.helpers.tiny_runs import SPACE

OPTIONS = DataOptions("synthetic", resolution=8, size=200)
RECIPE = default_recipe(epochs=4, batch_size=20, evaluate_every=2)

LOOK = TopAccuracies(top1=0.5, top5=1.0, images=2, balanced=0.5, by_class=[0.0, 1.0], class_images=[1, 1])


@pytest.fixture(scope="module")
def spec() -> NetworkSpec:
    space = parse_space(SPACE, "space")
    return space.resolve(space.sample(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def train() -> tuple[DataInfo, ImageSet]:
    return synthetic.load_train(OPTIONS)


@pytest.fixture(scope="module")
def held_out() -> ImageSet:
    return synthetic.load_test(OPTIONS)


def trained(
    spec: NetworkSpec,
    data: tuple[DataInfo, ImageSet],
    test: ImageSet,
    folder: Path,
    recipe: Recipe = RECIPE,
    *,
    seed: int = 0,
    resume: bool = False,
) -> Retrained:
    return train_network(
        spec, recipe, *data, test, device=torch.device("cpu"), seed=seed, folder=folder, resume=resume, progress=False
    )


def weights(result: Retrained) -> dict[str, torch.Tensor]:
    return result.network.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def whole(spec: NetworkSpec, train: Any, held_out: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    return trained(spec, train, held_out, tmp_path_factory.mktemp("whole"))


def test_training_learns_beyond_chance_on_images_it_has_not_seen(spec: NetworkSpec, tmp_path: Path) -> None:
    options = DataOptions("synthetic", resolution=8, size=1000)
    recipe = default_recipe(epochs=5, batch_size=25, label_smoothing=0.0)
    result = trained(spec, synthetic.load_train(options), synthetic.load_test(options), tmp_path, recipe)
    assert result.history[-1].loss < 0.7 * result.history[0].loss
    assert result.test_accuracy > 0.3  # of 200 images; chance is 0.1
    assert result.test_accuracy == result.history[-1].test_accuracy


def test_the_history_looks_at_the_test_images_when_asked_to_and_at_the_end(whole: Retrained) -> None:
    assert [entry.test_accuracy is not None for entry in whole.history] == [False, True, False, True]
    assert all(entry.of("ema_test_accuracy") is None for entry in whole.history)
    assert whole.ema_test_accuracy is None
    assert whole.seconds > 0


def test_the_same_seed_gives_the_same_network_and_another_seed_another(
    whole: Retrained, spec: NetworkSpec, train: Any, held_out: ImageSet, tmp_path: Path
) -> None:
    again = trained(spec, train, held_out, tmp_path / "again")
    assert again.history == whole.history
    assert same(weights(again), weights(whole))
    other = trained(spec, train, held_out, tmp_path / "other", seed=1)
    assert other.history != whole.history
    assert not same(weights(other), weights(whole))


def test_the_test_images_never_influence_the_weights(
    whole: Retrained, spec: NetworkSpec, train: Any, held_out: ImageSet, tmp_path: Path
) -> None:
    noise = torch.randint(0, 256, (7, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    other = ImageSet(noise, torch.arange(7))
    result = trained(spec, train, other, tmp_path / "other", RECIPE.model_copy(update={"evaluate_every": 1}))
    assert same(weights(result), weights(whole))
    assert [e.loss for e in result.history] == [e.loss for e in whole.history]
    assert result.test_accuracy != whole.test_accuracy


#: What timm has and a gather has not: each image goes through transforms of its own.
TIMMS: dict[str, Any] = {
    "optimizer": "rmsproptf",
    "learning_rate": 0.005,
    "crop": "random_size",
    "flip": 0.5,
    "auto_augment": "rand-m9-mstd0.5",
    "mixup": 0.2,
    "cutmix": 1.0,
    "random_erasing": 0.5,
    "repeats": 2,
    "accumulate": 2,
    "average_decay": 0.9,
    "test_crop": 0.875,
}


@pytest.mark.parametrize(
    "changes", [{}, {"average_decay": 0.9, "cutout": 3}, TIMMS], ids=["default", "average", "timm's"]
)
def test_a_resumed_training_equals_one_never_stopped(
    spec: NetworkSpec,
    train: Any,
    held_out: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    recipe = default_recipe(epochs=4, batch_size=20, evaluate_every=1, **changes)
    never_stopped = trained(spec, train, held_out, tmp_path / "whole", recipe)
    looks = 0

    def stopping(*arguments: Any) -> TopAccuracies:
        nonlocal looks
        looks += 1
        if looks == 4:
            raise KeyboardInterrupt
        return LOOK

    with monkeypatch.context() as patch:
        patch.setattr(training, "top_accuracies", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained(spec, train, held_out, tmp_path / "stopped", recipe)
    resumed = trained(spec, train, held_out, tmp_path / "stopped", recipe, resume=True)
    assert same(weights(resumed), weights(never_stopped))
    assert [e.loss for e in resumed.history] == [e.loss for e in never_stopped.history]
    assert resumed.history[-1] == never_stopped.history[-1]
    ends = [load_checkpoint(tmp_path / name / "checkpoint.pt")["parts"] for name in ("whole", "stopped")]
    assert ("average" in ends[0]) == ("average_decay" in changes)
    if "average_decay" in changes:
        assert same(ends[0]["average"], ends[1]["average"])


def test_the_average_is_evaluated_beside_the_weights_and_leaves_them_alone(
    whole: Retrained, spec: NetworkSpec, train: Any, held_out: ImageSet, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"average_decay": 0.5})
    result = trained(spec, train, held_out, tmp_path, recipe)
    assert same(weights(result), weights(whole))
    assert result.ema_test_accuracy == result.history[-1].of("ema_test_accuracy")
    assert [entry.of("ema_test_accuracy") is not None for entry in result.history] == [False, True, False, True]
    average = load_checkpoint(tmp_path / "checkpoint.pt")["parts"]["average"]
    assert not same(average, weights(result))


@pytest.mark.parametrize("every", [1, 2])
def test_the_history_names_what_was_held_out_and_each_look_is_told(
    spec: NetworkSpec, train: Any, held_out: ImageSet, tmp_path: Path, every: int
) -> None:
    recipe = default_recipe(epochs=3, batch_size=20, evaluate_every=every, average_decay=0.9)
    told: list[tuple[int, float]] = []
    device = torch.device("cpu")
    images, looked_at = images_in_memory(recipe, *train, held_out, ranks=Ranks(), device=device, seed=0)
    found = training.train(
        spec,
        recipe,
        images,
        HeldOut(looked_at, {"top1": "validation_accuracy"}, after_look=lambda *look: told.append(look)),
        name="evaluation",
        device=device,
        seed=0,
        folder=tmp_path,
        resume=False,
        progress=False,
    )
    assert [epoch for epoch, _ in told] == ([0, 1, 2] if every == 1 else [1, 2])
    assert told == [
        (entry.epoch, entry.validation_accuracy) for entry in found.history if entry.validation_accuracy is not None
    ]
    assert found.history[-1].of("ema_validation_accuracy") is not None
    assert not [name for name in found.history[-1].model_fields_set if "test" in name]
    assert {line["phase"] for line in read_log(tmp_path / "log.jsonl")} == {"evaluation"}


def test_resuming_a_training_of_another_length_is_refused(
    spec: NetworkSpec, train: Any, held_out: ImageSet, tmp_path: Path
) -> None:
    trained(spec, train, held_out, tmp_path, RECIPE.model_copy(update={"epochs": 1}))
    with pytest.raises(CheckpointError, match="must be of the same run, with epochs 4, but got 1"):
        trained(spec, train, held_out, tmp_path, resume=True)


def test_the_images_seen_are_counted_as_the_loop_counts_them(whole: Retrained) -> None:
    assert whole.images == whole.history[-1].step * RECIPE.batch_size == 800
    assert whole.test_images > 0


@pytest.mark.parametrize(
    "value",
    [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0}, {"momentum": 1.0}, {"average_decay": 1.0}, {"lr": 0.1}],
)
def test_a_recipe_refuses_what_cannot_train(value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        default_recipe(**value)


@pytest.mark.parametrize("changes", [{"auto_augment": "rand-m9-mstd0.5"}, {"repeats": 2}, {"crop": "random_size"}])
def test_what_a_gather_cannot_do_is_done_to_each_image_and_says_so_in_the_pixels(
    train: Any, held_out: ImageSet, changes: dict[str, Any]
) -> None:
    """A padded crop, mirrored or not, of the same image either way; all else is another picture."""
    batches = []
    for more in ({}, {"flip": 0.49999}, changes):
        recipe = default_recipe(batch_size=20, **more)
        images, _ = images_in_memory(recipe, *train, held_out, ranks=Ranks(), device=torch.device("cpu"), seed=0)
        ((x, y),) = images.parts(0, 5)
        batches.append((type(images).__name__, x, y))
        images.close()
    assert [name for name, *_ in batches] == ["EpochBatches", "StreamedBatches", "StreamedBatches"]
    (_, gathered, _), (_, streamed, labels), (_, other, _) = batches
    assert gathered.shape == streamed.shape == other.shape
    info, images_of = train
    wanted = torch.nn.functional.pad(images_of.images, (0, 0, *[info.crop_padding] * 4))
    side = info.resolution
    pixels = (((streamed * torch.tensor(info.std).view(3, 1, 1)) + torch.tensor(info.mean).view(3, 1, 1)) * 255).round()
    crops = {
        crop.numpy().tobytes()
        for image, label in zip(wanted, images_of.labels, strict=True)
        if label == labels[0]
        for mirrored in (image, image.flip(1))
        for top in range(2 * info.crop_padding + 1)
        for left in range(2 * info.crop_padding + 1)
        for crop in [mirrored[top : top + side, left : left + side].contiguous()]
    }
    assert pixels[0].permute(1, 2, 0).contiguous().byte().numpy().tobytes() in crops


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"batch_size": 5000, "mixup": 0.2}, "batch_size: must be at most the number of training images"),
        ({"batch_size": 21, "accumulate": 2}, "batch_size: must be a multiple"),
    ],
)
def test_a_batch_that_these_images_cannot_fill_is_refused(
    train: Any, held_out: ImageSet, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        images_in_memory(default_recipe(**changes), *train, held_out, ranks=Ranks(), device=torch.device("cpu"), seed=0)
