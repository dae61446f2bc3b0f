"""A training recipe: every number that says how a network is trained, on images in memory or on disk, in one YAML file.

Names and meanings are those of timm's training script where it has the value, so that a published command line reads
off as a recipe. The shipped ones are in `recipes/`, each headed by its source and by what was published with it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from se_nas.data.on_disk.transforms import EvalTransform, TrainTransform
from se_nas.errors import ConfigError
from se_nas.hardware.graph_step import Asked
from se_nas.layers.freezing import FrozenParts
from se_nas.records.former_names import without_constants
from se_nas.records.numbers import BatchSize, Count, CountFromZero
from se_nas.records.record import Record


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("must be low and high, with low <= high")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]


#: What recipes of before could set, and nothing did.
_CONSTANTS = {
    "mixup_probability": 1.0,
    "mixup_switch_probability": 0.5,
    "crop_ratio": [3 / 4, 4 / 3],
    "channels_last": True,
}


class Distillation(Record):
    """Learning from a teacher's logits too (https://arxiv.org/abs/1503.02531).

    The loss is (1 - alpha) * loss of the labels + alpha * temperature^2 * KL(teacher || student), both softened.

    Attributes:
        alpha: share of the teacher in the loss.
        temperature: what the logits of both are divided by.
    """

    alpha: Share
    temperature: Positive


class Recipe(Record):
    """How a network is trained from scratch.

    Attributes:
        source: the paper or page that the values are from.
        epochs: passes over the training images.
        batch_size: images in one update of the weights, over all ranks and accumulated parts.
        learning_rate: peak of the schedule, for a batch of `reference_batch_size`; it is linear in the batch size
            (https://arxiv.org/abs/1706.02677).
        reference_batch_size: the batch size for which the learning rates are given; null is `batch_size` itself.
        optimizer: timm's name of an optimiser; "sgd" is Nesterov's, "momentum" plain. Where one of the next values is
            null, the optimiser's own default holds.
        momentum, betas, eps: the optimiser's values of these names, where it has them.
        alpha: RMSProp's smoothing of the squared gradients.
        weight_decay: weight decay of the optimiser, on norms and biases only where the next key says so.
        decay_norm_and_bias: whether norms and biases decay too.
        schedule: "cosine" falls to `min_learning_rate` over all epochs; "step" falls every `decay_epochs`.
        schedule_per: whether the rate changes at each "step" of training or, as timm's by default, each "epoch".
        warmup_epochs: length of a linear rise from `warmup_learning_rate`; it counts among `epochs`.
        warmup_learning_rate, min_learning_rate: first and last rate of the schedule, for the same batch. Where the
            first is null, the rate rises by equal shares of the peak, of which the first step takes one.
        warmup_prefix: whether the schedule begins after the warm-up; else it goes on beneath it.
        decay_epochs, decay_rate: in the "step" schedule the rate is multiplied by `decay_rate` every `decay_epochs`.
        learning_rate_noise: from which to which share of the epochs the rate is multiplied by timm's seeded noise.
        loss: loss on the labels; the binary one takes every class by itself.
        binary_target_threshold: soft targets above it count as 1, others as 0; for the binary loss alone.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: "balanced" lets the loss of an image count the more the fewer its class has among the training
            images, so that classes count alike; null counts images alike.
        balanced_sampling: whether every class is drawn equally often. An epoch keeps its length: images of small
            classes are repeated in it, and some of large ones left for another.
        mixup, cutmix: parameter of the Beta distribution by which images are mixed; 0 is off. Every batch is mixed;
            where both are on, by one of the two.
        mixup_off_epoch: the first epoch without mixing; at 0 mixing stays on.
        crop: "random_size" cuts a part of random size and shape, "padded" puts zeros around an image and cuts its own
            size, as is usual with CIFAR. Only images in memory, which are of one size, can be padded; by how much is
            known of each data set.
        crop_scale: from which to which share of the area training crops are drawn.
        interpolation: how training crops are resized; "random" draws bilinear or bicubic for each.
        flip: probability of a horizontal flip; null is 0.5 where a mirror image is of the same class, else 0.
        cutout: side in pixels of a square that is set to the mean (https://arxiv.org/abs/1708.04552); 0 is none.
        color_jitter: greatest relative change of brightness, contrast and saturation; see `TrainTransform`.
        auto_augment: timm's name of a policy, such as "rand-m9-mstd0.5".
        random_erasing: probability that a rectangle of an image is erased.
        random_erasing_mode: what the rectangle is filled with: zeros ("const"), one colour ("rand") or noise ("pixel").
        repeats: how often an image comes in a row, differently augmented (repeated augmentation).
        dropout: rate of dropout before the classifier; null keeps the network's own.
        drop_path: rate of stochastic depth at the last block, rising linearly from 0.
        average_decay: decay of a running average of the weights; null is no average.
            After n steps the decay is at most (1 + n) / (10 + n), as TensorFlow has it, so that short trainings forget
            the weights that they began with; 0.9999 is reached after 90,000.
        average_warmup: whether it is at most 1 - (1 + n)^(-2/3) instead, as in timm's ModelEmaV3, which is slower.
        clip: greatest norm of all gradients together; null does not clip.
        zero_init_last: start the last norm of each residual branch at 0 (https://arxiv.org/abs/1706.02677).
        precision: "auto" is bfloat16 on a GPU that computes in it, else float32.
        compile: whether the network is compiled by torch; "auto" does so on CUDA devices with Triton, in trainings of
            at least 20,000 steps.
        cuda_graphs: whether CUDA captures a step's forward and backward pass, which is then one launch. "auto" does so
            on CUDA devices, in trainings of at least 200 steps on one rank, without `accumulate` and float16.
        accumulate: parts that each rank computes its share of a batch in, one after the other.
        train_resolution, test_resolution: side of the images in pixels; null is the network's own.
        test_crop: side of the centre crop, as a share of the shorter side that the image is resized to; null tests on
            images as they lie in memory, and on whole ones from disk.
        test_interpolation: how test images are resized.
        evaluate_every: epochs between two evaluations; there is one after the last epoch anyhow.
        distillation: learning from a teacher too; null is off.
        freeze: parts of a network with trained weights that stay as they are, their norms' statistics too: stem,
            numbers of stages from 1 (rows of blocks of one width and size), head (what stands before the classifier),
            or all of these.
    """

    source: str = Field(min_length=1)

    epochs: Count
    batch_size: BatchSize
    learning_rate: Positive
    reference_batch_size: Count | None = None

    optimizer: str = "sgd"
    momentum: Fraction | None = None
    betas: tuple[Fraction, Fraction] | None = None
    eps: Positive | None = None
    alpha: Fraction | None = None
    weight_decay: float = Field(ge=0)
    decay_norm_and_bias: bool = False

    schedule: Literal["cosine", "step"] = "cosine"
    schedule_per: Literal["step", "epoch"] = "step"
    warmup_epochs: float = Field(0.0, ge=0)
    warmup_learning_rate: float | None = Field(0.0, ge=0)
    warmup_prefix: bool = False
    min_learning_rate: float = Field(0.0, ge=0)
    decay_epochs: Positive | None = None
    decay_rate: Share | None = None
    learning_rate_noise: Annotated[tuple[Probability, Probability], AfterValidator(_ascending)] | None = None

    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    binary_target_threshold: Fraction | None = None
    label_smoothing: Fraction = 0.0
    class_weights: Literal["balanced"] | None = None
    balanced_sampling: bool = False
    mixup: float = Field(0.0, ge=0, le=100)
    cutmix: float = Field(0.0, ge=0, le=100)
    mixup_off_epoch: CountFromZero = 0

    crop: Literal["random_size", "padded"] = "random_size"
    crop_scale: Annotated[tuple[Share, Share], AfterValidator(_ascending)] = (0.08, 1.0)
    interpolation: Literal["bilinear", "bicubic", "random"] = "bicubic"
    flip: Probability | None = 0.5
    cutout: CountFromZero = 0
    color_jitter: float = Field(0.0, ge=0)
    auto_augment: str | None = None
    random_erasing: Probability = 0.0
    random_erasing_mode: Literal["const", "rand", "pixel"] = "pixel"
    repeats: Count = 1

    dropout: Fraction | None = None
    drop_path: Fraction = 0.0
    average_decay: Decay | None = None
    average_warmup: bool = False
    clip: Positive | None = None
    zero_init_last: bool = False

    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: Asked = "auto"
    cuda_graphs: Asked = "auto"
    accumulate: Count = 1

    train_resolution: int | None = Field(None, ge=8, le=4096)
    test_resolution: int | None = Field(None, ge=8, le=4096)
    test_crop: Share | None = 0.875
    test_interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    evaluate_every: Count = 1

    distillation: Distillation | None = None
    freeze: FrozenParts = ()

    @model_validator(mode="before")
    @classmethod
    def _without_constants(cls, value: Any) -> Any:
        return without_constants(value, _CONSTANTS)

    @property
    def peak_learning_rate(self) -> float:
        """The greatest learning rate, at this recipe's own batch size."""
        return self.learning_rate * self.batch_scale

    @property
    def batch_scale(self) -> float:
        """What the recipe's learning rates, which hold for `reference_batch_size`, are multiplied by."""
        return self.batch_size / (self.reference_batch_size or self.batch_size)

    @property
    def mixes(self) -> bool:
        """Whether Mixup or CutMix is on."""
        return self.mixup > 0 or self.cutmix > 0

    def mixes_in(self, epoch: int) -> bool:
        """Whether batches of this epoch, counted from 0, are mixed."""
        return self.mixes and (self.mixup_off_epoch == 0 or epoch < self.mixup_off_epoch)

    def micro_batch(self, ranks: int, where: str = "recipe") -> int:
        """Images in one forward pass of one of `ranks` ranks.

        Args:
            where: what the values are of, in an error.

        Raises:
            ConfigError: the batch does not divide into such parts, a part has one image, or an odd number of them that
                are to be mixed in pairs.
        """
        size, left = divmod(self.batch_size, ranks * self.accumulate)
        parts = f"ranks ({ranks}) times accumulate ({self.accumulate})"
        if left or not size:
            raise ConfigError(where, [f"batch_size: must be a multiple of {parts}, but got {self.batch_size}"])
        if self.mixes and size % 2:
            what = f"must divide into even parts over {parts}, since Mixup and CutMix pair images"
            raise ConfigError(where, [f"batch_size: {what}, but got {self.batch_size}, parts of {size}"])
        if size < 2:
            what = f"each part must have at least 2 images, for batch norm, over {parts}"
            raise ConfigError(where, [f"batch_size: {what}, but got {self.batch_size}"])
        return size

    def train_transform(self, resolution: int) -> TrainTransform:
        """What happens to a training image; `resolution` in pixels is the network's, used where the recipe has none."""
        return TrainTransform(
            resolution=self.train_resolution or resolution,
            scale=self.crop_scale,
            interpolation=self.interpolation,
            flip=0.5 if self.flip is None else self.flip,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment,
        )

    def eval_transform(self, resolution: int) -> EvalTransform:
        """What happens to a test image; `resolution` in pixels is the network's, used where the recipe has none."""
        return EvalTransform(
            resolution=self.test_resolution or resolution,
            crop=self.test_crop or 1.0,
            interpolation=self.test_interpolation,
        )
