"""timm's training parts as a recipe asks for them: optimisers beyond SGD, binary loss, mixing, erasing, teacher.

Each is timm's own, imported where a recipe asks for it; what is added makes it fit a run that can be resumed at any
step. Mixing and erasing, which draw from global generators, draw from a seed and leave those generators as they were.

timm: https://github.com/huggingface/pytorch-image-models
"""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from se_nas.data.on_disk.transforms import MEAN, STD
from se_nas.errors import CheckpointError, ConfigError, DataError, did_you_mean, in_line
from se_nas.hardware.device import pins, sent
from se_nas.layers.torchvision_guard import import_timm
from se_nas.records.checkpoint import StateDict, check_finite
from se_nas.records.checksum import checksum_fault

if TYPE_CHECKING:
    from se_nas.training.recipe import Recipe

_OPTIMIZER_OPTIONS = ("momentum", "betas", "eps", "alpha")


def unusable_parts(recipe: Recipe) -> list[str]:
    """One line for each name or option in the recipe that timm does not know; SGD and no policy need no timm."""
    problems = []
    if recipe.optimizer in ("sgd", "momentum"):
        problems += _options_without_use(recipe, {"momentum"})
    else:
        problems += _faults_of_optimizer(recipe)
    if recipe.auto_augment is not None:
        try:
            recipe.train_transform(recipe.train_resolution or 224).build()
        except DataError:
            policy = recipe.auto_augment
            problems.append(f"auto_augment: must be a policy of timm's, such as rand-m9-mstd0.5, but got {policy!r}")
    return problems


def _options_without_use(recipe: Recipe, known: Collection[str]) -> list[str]:
    return [
        f"{name}: must be null for optimizer {recipe.optimizer}, which has none, but got {getattr(recipe, name)}"
        for name in _OPTIMIZER_OPTIONS
        if getattr(recipe, name) is not None and name not in known
    ]


def _faults_of_optimizer(recipe: Recipe) -> list[str]:
    import_timm()
    from timm.optim import get_optimizer_class, get_optimizer_info, list_optimizers

    try:
        info = get_optimizer_info(recipe.optimizer)
    except ValueError:
        meant = did_you_mean(recipe.optimizer, list_optimizers())
        return [f"optimizer: must be one of timm's, but got {recipe.optimizer!r}{meant}"]
    known = inspect.signature(get_optimizer_class(recipe.optimizer, bind_defaults=False)).parameters
    problems = _options_without_use(recipe, known)
    if info.second_order:
        problems.append(f"optimizer: must be of first order, but got {recipe.optimizer!r}")
    return problems or _faults_of_making(recipe)


def _faults_of_making(recipe: Recipe) -> list[str]:
    """What timm says to making the recipe's optimiser."""
    try:
        make_timm_optimizer(nn.Linear(1, 1), recipe, recipe.peak_learning_rate)
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        return [f"optimizer: must be one that can be made, but got: {in_line(error)}"]
    return []


def make_timm_optimizer(network: nn.Module, recipe: Recipe, learning_rate: float) -> torch.optim.Optimizer:
    """timm's optimiser over the trainable parameters; see `training.optimizer.make_optimizer`."""
    import_timm()
    from timm.optim import create_optimizer_v2

    options = {name: getattr(recipe, name) for name in _OPTIMIZER_OPTIONS if getattr(recipe, name) is not None}
    # timm leaves frozen parameters out where it sorts them into groups, and there alone
    grouped = recipe.weight_decay > 0 and not recipe.decay_norm_and_bias
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        network if grouped else [parameter for parameter in network.parameters() if parameter.requires_grad],
        opt=recipe.optimizer,
        lr=learning_rate,
        weight_decay=recipe.weight_decay,
        filter_bias_and_bn=not recipe.decay_norm_and_bias,
        **options,
    )
    return optimizer


def make_loss(recipe: Recipe, weights: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of logits (B, classes), 0-d, against labels (B,) int64 or, of mixed images, targets (B, classes).

    Label smoothing is applied to labels; `make_mixup` has put it into its targets already.

    Args:
        weights: (classes,) by which the loss of each image is multiplied before the mean is taken; of a mixed image the
            mean of its classes' counts.
    """
    if weights is None:
        return _plain_loss(recipe, "mean")
    single = _plain_loss(recipe, "none")

    def weighted(logits: Tensor, target: Tensor) -> Tensor:
        losses = single(logits, target)
        per_image = losses.mean(1) if losses.ndim == 2 else losses  # the binary loss has one for every class
        return (per_image * (weights[target] if target.ndim == 1 else target @ weights)).mean()

    return weighted


def _plain_loss(recipe: Recipe, reduction: str) -> Callable[[Tensor, Tensor], Tensor]:
    smoothing = recipe.label_smoothing
    if recipe.loss == "cross_entropy":
        return lambda logits, target: F.cross_entropy(
            logits, target, label_smoothing=smoothing if target.ndim == 1 else 0.0, reduction=reduction
        )
    import_timm()
    from timm.loss import BinaryCrossEntropy

    binary: nn.Module = BinaryCrossEntropy(smoothing, recipe.binary_target_threshold, reduction=reduction)
    return binary


def make_mixup(recipe: Recipe, classes: int) -> Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None:
    """Mixup and CutMix as the recipe has them; None where it has neither.

    The function takes images (B, 3, H, W), B even, which it changes in place, labels (B,) and a seed; it returns the
    images and targets (B, classes) float32 with the label smoothing in them. One draw holds for the whole batch.
    Mixup: https://arxiv.org/abs/1710.09412; CutMix: https://arxiv.org/abs/1905.04899.
    """
    if not recipe.mixes:
        return None
    import_timm()
    from timm.data import Mixup

    mixup = Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=1.0,
        switch_prob=0.5,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )

    def mix(images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with _seeded(seed):
            mixed, targets = mixup(images, labels)
        return mixed, targets

    return mix


def make_erasing(recipe: Recipe) -> Callable[[Tensor, int], Tensor] | None:
    """Random erasing (https://arxiv.org/abs/1708.04896) as the recipe has it; None where it has none.

    The function takes normalised images (B, 3, H, W) on any device, which it changes in place, and a seed; it returns
    the images. timm's loader erases after mixing.
    """
    if not recipe.random_erasing:
        return None
    import_timm()
    from timm.data.random_erasing import RandomErasing

    erasing: dict[torch.device, RandomErasing] = {}  # timm's is made for one device

    def erase(images: Tensor, seed: int) -> Tensor:
        device = images.device
        if device not in erasing:
            erasing[device] = RandomErasing(recipe.random_erasing, mode=recipe.random_erasing_mode, device=device)
        with _seeded(seed, device):
            erased: Tensor = erasing[device](images)
        return erased

    return erase


def make_cutout(recipe: Recipe) -> Callable[[Tensor, int], Tensor] | None:
    """Cutout (https://arxiv.org/abs/1708.04552) as the recipe has it; None where it has none.

    The function takes normalised images (B, C, H, W) on any device, which it changes in place, and a seed; it returns
    the images. The square's centre is anywhere in the image; what it covers is set to 0, the mean.
    """
    side = recipe.cutout
    if not side:
        return None

    def cut_out(images: Tensor, seed: int) -> Tensor:
        count, _, height, width = images.shape
        generator = torch.Generator().manual_seed(seed)  # of the CPU, so that one seed gives one batch on every device
        centres = [torch.randint(0, size, (count, 1), generator=generator) for size in (height, width)]
        # from the square's first row and column; it may reach over the border
        rows = torch.arange(height) - (centres[0] - side // 2)
        columns = torch.arange(width) - (centres[1] - side // 2)
        covered = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
        return images.masked_fill_(sent(covered.unsqueeze(1), images.device), 0.0)

    return cut_out


@contextmanager
def _seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds Python's and NumPy's global generators (and torch's, given a device), and puts them back at the end."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002  timm draws from it
    devices = [device] if device is not None and pins(device) else []
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        with torch.random.fork_rng(
            devices, enabled=device is not None, device_type=devices[0].type if devices else "cuda"
        ):
            if device is not None:
                torch.manual_seed(seed)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


class TimmTeacher(nn.Module):
    """A timm model that is not trained. Maps images (B, 3, H, W) to logits (B, classes).

    Args:
        mean, std: that the images are normalised by; the model has its own.
    """

    _scale: Tensor
    _shift: Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        cfg: Any = model.pretrained_cfg
        own = cfg["mean"], cfg["std"]
        ours_mean, ours_std = torch.tensor(mean), torch.tensor(std)
        its_mean, its_std = torch.tensor(own[0]), torch.tensor(own[1])
        self.model = model
        self._renormalise = (mean, std) != (tuple(own[0]), tuple(own[1]))
        self.register_buffer("_scale", (ours_std / its_std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_shift", ((ours_mean - its_mean) / its_std).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> TimmTeacher:
        """Stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, classes), without gradients."""
        if self._renormalise:
            images = images * self._scale + self._shift
        logits: Tensor = self.model(images)
        return logits


def make_teacher(
    name: str,
    checkpoint: str | Path,
    classes: int,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    named: str = "--teacher",
) -> TimmTeacher:
    """The timm model called `name` with the weights of a file: a state dict, a timm checkpoint or safetensors.

    Args:
        mean, std: that the images which it will see are normalised by.
        named: what asks for it, named in errors.

    Raises:
        ConfigError: timm has no such model.
        CheckpointError: the file is missing, or does not hold the weights of that model with `classes` classes.
    """
    timm = import_timm()
    if not timm.is_model(name):
        meant = did_you_mean(name, timm.list_models())
        raise ConfigError(named, [f"must be a timm model, but got {name!r}{meant}"])
    model = timm.create_model(name, num_classes=classes)
    expected = f"{checkpoint}: the teacher's checkpoint must hold the weights of {name} with {classes} classes"
    if not Path(checkpoint).is_file():
        raise CheckpointError(f"{expected}, but there is no such file")
    with Path(checkpoint).open("rb") as file:
        fault = checksum_fault(file)
    if fault is not None:
        raise CheckpointError(f"{expected}, but {fault}")
    weights = _weights_of_teacher(checkpoint, expected)
    try:
        check_finite(weights)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    try:
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{expected}, but {_misfit(weights, model.state_dict())}") from error
    return TimmTeacher(model, mean, std)


def _weights_of_teacher(checkpoint: str | Path, expected: str) -> StateDict:
    from timm.models import load_state_dict

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's about how a file was pickled
            weights: StateDict = load_state_dict(str(checkpoint), weights_only=True)
        return weights
    except MemoryError:
        raise
    except OSError as error:
        raise CheckpointError(f"{expected}, but it cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the readers of the formats raise nearly any, with advice that is not for here
        raise CheckpointError(f"{expected}, but it is no checkpoint that can be read safely") from error


def _misfit(weights: Mapping[str, Any], own: Mapping[str, Tensor]) -> str:
    """The first fault of weights that a model with the state dict `own` did not take, and how many more there are."""
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}
    faults = [
        f"{name} is of shape {shapes[name]} and not {tuple(value.shape)}"
        for name, value in own.items()
        if name in shapes and shapes[name] != value.shape
    ]
    faults += [f"{name} is missing" for name in own if name not in shapes]
    faults += [f"{name} is none of its weights" for name in shapes if name not in own]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return faults[0] + more if faults else "they are not tensors"


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """temperature^2 * KL(teacher || student) of the softened distributions, 0-d, mean over the batch.

    Both are logits (B, classes). https://arxiv.org/abs/1503.02531, section 2.
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2
