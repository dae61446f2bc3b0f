"""timm's parts: what is handed out behaves as timm's own does in its training script, and leaves no trace behind."""

from __future__ import annotations

import datetime
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.errors import CheckpointError, ConfigError
from se_nas.layers.torchvision_guard import import_timm
from se_nas.training.optimizer import make_average, make_optimizer
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import load_recipe
from se_nas.training.timm_parts import (
    distillation_loss,
    make_cutout,
    make_erasing,
    make_loss,
    make_mixup,
    make_teacher,
)
from tests.helpers.tiny_imagenet import RECIPE, recipe_of

timm = import_timm()

LEAST: dict[str, Any] = {
    "source": "a test",
    "epochs": 10,
    "batch_size": 64,
    "learning_rate": 0.1,
    "reference_batch_size": 64,
    "weight_decay": 1e-4,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**LEAST, **changes})


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5))


def generators() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), name, tuple(keys), tuple(rest), tuple(torch.get_rng_state().tolist())


@pytest.fixture
def untouched() -> Any:
    """Fails the test where the global generators are not as they were."""
    before = generators()
    yield
    assert generators() == before


# --- optimiser --------------------------------------------------------------------------------


def test_norms_and_biases_are_not_decayed_unless_asked_for() -> None:
    network = small_network()
    network(torch.zeros(2, 3, 8, 8))

    def decayed(**changes: Any) -> set[int]:
        groups = make_optimizer(network, recipe(**changes)).param_groups
        assert sum(len(group["params"]) for group in groups) == 5
        return {id(p) for group in groups if group["weight_decay"] for p in group["params"]}

    assert decayed() == {id(network[0].weight), id(network[3].weight)}
    assert decayed(decay_norm_and_bias=True) == {id(p) for p in network.parameters()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobile-150", {"momentum": 0.9, "nesterov": True, "lr": 0.05}),
        ("se-paper", {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}),
        ("mobile-600", {"momentum": 0.9, "alpha": 0.9, "eps": 1e-3}),
        ("a2", {"betas": (0.9, 0.999), "lr": 0.05}),
    ],
)
def test_the_optimiser_has_the_recipes_options(name: str, expected: dict[str, Any]) -> None:
    given = load_recipe(name, {"learning_rate": 0.05, "warmup_learning_rate": 0.0, "min_learning_rate": 0.0})
    group = make_optimizer(nn.Conv2d(3, 3, 3), given).param_groups[-1]
    assert {option: group[option] for option in expected} == expected


# --- loss -------------------------------------------------------------------------------------


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["cross_entropy", "binary_cross_entropy"])
def test_losses_of_labels_and_of_targets(kind: str, smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5), torch.randint(0, 5, (6,))
    loss = make_loss(recipe(loss=kind, label_smoothing=smoothing))
    target = smoothed(labels, 5, smoothing)
    if kind == "cross_entropy":
        expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    else:
        expected = F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(loss(logits, labels), expected)
    torch.testing.assert_close(loss(logits, target), expected)


def test_a_threshold_makes_targets_binary() -> None:
    logits, target = torch.randn(2, 3), torch.tensor([[0.7, 0.3, 0.0], [0.9, 0.0, 0.1]])
    loss = make_loss(recipe(loss="binary_cross_entropy", binary_target_threshold=0.2))
    binary = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(loss(logits, target), F.binary_cross_entropy_with_logits(logits, binary))


# --- mixing and erasing -----------------------------------------------------------------------


def images(seed: int = 0) -> Tensor:
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def mixing(**changes: Any) -> Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]:
    mix = make_mixup(recipe(**changes), 5)
    assert mix is not None
    return mix


def test_what_is_off_is_none() -> None:
    assert make_mixup(recipe(), 5) is None
    assert make_erasing(recipe()) is None
    assert make_cutout(recipe()) is None
    assert make_average(nn.Linear(1, 1), recipe()) is None


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("changes", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixing_is_timms_and_a_function_of_the_seed(changes: dict[str, float]) -> None:
    from timm.data import Mixup

    labels = torch.arange(8) % 5
    mix = mixing(**changes, label_smoothing=0.1)
    timms = Mixup(changes.get("mixup", 0.0), changes.get("cutmix", 0.0), label_smoothing=0.1, num_classes=5)
    before = np.random.get_state()  # noqa: NPY002
    for seed in (3, 4, 2**62 + 5):
        np.random.seed(seed % 2**32)  # noqa: NPY002
        expected, wanted = timms(images(), labels)
        np.random.set_state(before)  # noqa: NPY002
        mixed, targets = mix(images(), labels, seed)
        assert torch.equal(mixed, expected)
        assert torch.equal(targets, wanted)
        assert not torch.equal(mixed, images())
        torch.testing.assert_close(targets.sum(1), torch.ones(8))


def test_mixed_targets_go_with_mixed_images() -> None:
    constant = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 16, 16).clone()
    mixed, targets = make_mixup(recipe(mixup=1.0), 8)(constant, torch.arange(8), 1)  # type: ignore[misc]
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(8.0))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_is_timms_and_a_function_of_the_seed(mode: str) -> None:
    from timm.data.random_erasing import RandomErasing

    erase = make_erasing(recipe(random_erasing=0.7, random_erasing_mode=mode))
    assert erase is not None
    first, again, other = erase(images(), 5), erase(images(), 5), erase(images(), 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    changed = (first != images()).flatten(1).any(1)
    assert changed.any()
    before = random.getstate(), torch.get_rng_state()
    random.seed(5)
    torch.manual_seed(5)
    expected = RandomErasing(0.7, mode=mode, device="cpu")(images())
    random.setstate(before[0])
    torch.set_rng_state(before[1])
    assert torch.equal(first, expected)


@pytest.mark.usefixtures("untouched")
def test_cutout_sets_one_square_of_each_image_to_the_mean_and_is_a_function_of_the_seed() -> None:
    cut_out = make_cutout(recipe(cutout=5))
    assert cut_out is not None
    plain = torch.ones(64, 3, 16, 12)
    first, again, other = (cut_out(plain.clone(), seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    gone = first == 0
    assert torch.equal(gone[:, 0], gone[:, 2])
    counts = []
    for image in gone[:, 0]:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert bool(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())  # a square, with nothing else
        counts.append(int(image.sum()))
    assert max(counts) == 25
    assert 9 <= min(counts) < 25  # over the border, of which the centre is within


def test_the_generators_come_back_after_a_failure() -> None:
    before = generators()
    with pytest.raises(AssertionError):
        mixing(mixup=0.5)(images()[:3], torch.arange(3), 0)
    assert generators() == before


# --- average ----------------------------------------------------------------------------------


def shift(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor += torch.randn(tensor.shape, generator=generator)
            else:
                tensor += 1


def test_the_average_is_timms_of_weights_and_buffers_and_resumes() -> None:
    from timm.utils import ModelEmaV3

    for warmup in (False, True):
        given = recipe(average_decay=0.05 if not warmup else 0.9, average_warmup=warmup)  # 0.05: below any warm-up
        network = nn.BatchNorm2d(3)
        ours, timms = (
            make_average(network, given),
            ModelEmaV3(network, decay=given.average_decay or 0.0, use_warmup=warmup),
        )
        assert ours is not None
        for step in range(6):
            shift(network, step)
            ours.update(step)
            timms.update(network, step=step + 1)
            if step == 0:
                assert torch.equal(ours.module.weight, network.weight)  # type: ignore[arg-type]
            if step == 3:
                ours.load_state_dict({name: t.clone() for name, t in ours.state_dict().items()})
        assert list(ours.state_dict()) == list(network.state_dict())
        for name, tensor in timms.module.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor)
        assert not torch.equal(ours.module.weight, network.weight)  # type: ignore[arg-type]
        assert not ours.module.training
        assert not any(p.requires_grad for p in ours.module.parameters())


# --- teacher ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "other_norm"), [("test_efficientnet", False), ("test_resnet", True)])
def test_a_teacher_sees_images_normalised_as_it_was_trained_with(tmp_path: Path, name: str, other_norm: bool) -> None:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7).eval()
    checkpoint = tmp_path / "teacher.pth"
    torch.save(model.state_dict(), checkpoint)
    teacher = make_teacher(name, checkpoint, 7).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    x = torch.rand(2, 3, 64, 64)

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
        return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    its = model.pretrained_cfg
    assert (its["mean"] != IMAGENET_DEFAULT_MEAN) == other_norm
    logits = teacher(normalised(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    assert not logits.requires_grad
    torch.testing.assert_close(logits, model(normalised(its["mean"], its["std"])).detach(), rtol=1e-4, atol=1e-5)


def test_a_teacher_that_cannot_be_had_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^--teacher: must be a timm model, but got 'resnett50'; did you mean resnet50\?$"
    ):
        make_teacher("resnett50", tmp_path / "x.pth", 10)
    with pytest.raises(CheckpointError, match="there is no such file"):
        make_teacher("test_resnet", tmp_path / "x.pth", 10)
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    torch.save(timm.create_model("test_resnet", num_classes=9).state_dict(), tmp_path / "nine.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    own = timm.create_model("test_resnet", num_classes=10).state_dict()
    torch.save({"state_dict": own, "saved": datetime.timedelta(1)}, tmp_path / "unsafe.pth")
    torch.save({"state_dict": own, "epoch": 1}, tmp_path / "ten.pth")
    whole = (tmp_path / "ten.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open(tmp_path / "pickle.pth", "wb") as file:
            pickle.dump({"a": 1}, file, protocol=4)
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    torch.save({**own, "fc.scale": torch.ones(10)}, tmp_path / "more.pth")
    unsafe = "it is no checkpoint that can be read safely"
    said = {
        "bad.pth": unsafe,
        "bad.safetensors": unsafe,
        "unsafe.pth": unsafe,
        "half.pth": "it is truncated or altered at its end",
        "pickle.pth": unsafe,
        "list.pth": unsafe,
        "nine.pth": "fc.weight is of shape (9, 96) and not (10, 96) (and 1 more)",
        "none.pth": f"conv1.0.weight is missing (and {len(own)} more)",
        "more.pth": "fc.scale is none of its weights",
    }
    for name, reason in said.items():
        with pytest.raises(CheckpointError) as caught:
            make_teacher("test_resnet", tmp_path / name, 10)
        expected = "the teacher's checkpoint must hold the weights of test_resnet with 10 classes"
        assert str(caught.value) == f"{tmp_path / name}: {expected}, but {reason}"
    assert isinstance(make_teacher("test_resnet", tmp_path / "ten.pth", 10), nn.Module)


def test_the_distillation_loss() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    p = F.softmax(teacher / 2, dim=1)
    expected = 4 * (p * (p.log() - F.log_softmax(student / 2, dim=1))).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, 2.0), expected)
    assert distillation_loss(teacher, teacher, 3.0) == pytest.approx(0.0, abs=1e-6)
    expected.backward()
    high = 100.0  # in the limit of high temperature: matching of centred logits, arXiv 1503.02531, section 2.1
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(
        distillation_loss(student, teacher, high), centred.square().mean(1).mean() / 2, rtol=0.05, atol=0
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_with_weights_of_classes_an_image_counts_as_often_as_its_weight_says(loss: str) -> None:
    """A whole weight is the same as so many copies of the image; equal weights change nothing."""
    recipe = recipe_of({**RECIPE, "loss": loss, "label_smoothing": 0.1})
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 2])
    plain = make_loss(recipe)
    assert make_loss(recipe, torch.ones(3))(logits, labels) == pytest.approx(float(plain(logits, labels)))
    copies = torch.tensor([0, 1, 2, 2, 2, 3])
    weighted = make_loss(recipe, torch.tensor([1.0, 3.0, 1.0]))
    assert weighted(logits, labels) * 4 == pytest.approx(float(plain(logits[copies], labels[copies]) * 6), rel=1e-5)
    mixed = torch.nn.functional.one_hot(labels, 3).float()
    smoothless = make_loss(recipe_of({**RECIPE, "loss": loss}), torch.tensor([1.0, 3.0, 1.0]))
    assert smoothless(logits, mixed) == pytest.approx(float(smoothless(logits, labels)), rel=1e-5)
