from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from se_nas.data.image_file import decode
from se_nas.data.on_disk.transforms import MEAN, STD, EvalTransform, TrainTransform, normalise
from se_nas.errors import DataError
from se_nas.layers.torchvision_guard import import_timm
from tests.helpers.jpeg_folders import jpeg


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what timm draws from
    torch.manual_seed(seed)


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5-inc1"])
def test_training_pixels_are_those_of_timm_for_the_same_draws(auto_augment: str | None) -> None:
    import_timm()
    from timm.data import create_transform

    ours = TrainTransform(16, (0.2, 0.9), "random", 0.4, 0.3, auto_augment).build()
    theirs = create_transform(
        16,
        is_training=True,
        use_prefetcher=True,
        scale=(0.2, 0.9),
        interpolation="random",
        hflip=0.4,
        color_jitter=0.3,
        auto_augment=auto_augment,
    )
    results = []
    for seed in range(8):
        image = decode(jpeg(seed))
        _seed(seed)
        result = ours(image)
        _seed(seed)
        assert result.shape == (3, 16, 16)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, theirs(image).numpy())
        results.append(result.tobytes())
    assert len(set(results)) == 8


def test_evaluation_cuts_the_centre_out_of_the_resized_image() -> None:
    image = decode(jpeg(3, 40, 30))
    small = image.resize((26, 20), Image.Resampling.BICUBIC)  # 26.67 is cut off, as torchvision does
    expected = np.asarray(small.crop((5, 2, 21, 18)))
    np.testing.assert_array_equal(EvalTransform(16, 0.8).build()(image), expected.transpose(2, 0, 1))


def test_normalised_images_have_the_statistics_of_imagenet_taken_out() -> None:
    images = torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
    for layout in (images, images.contiguous(memory_format=torch.channels_last)):
        result = normalise(layout)
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(result.double(), (images / 255 - mean) / std, rtol=0, atol=1e-6)


def test_constants_are_those_of_timm() -> None:
    import_timm()
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    assert (MEAN, STD) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def test_a_built_transform_can_be_sent_to_a_worker() -> None:
    built = pickle.loads(pickle.dumps(TrainTransform(8, auto_augment="rand-m9-mstd0.5").build()))
    assert built(decode(jpeg(0))).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolution": 0}, "resolution must be at least 1, but got 0"),
        ({"interpolation": "cubic"}, "must be one of bicubic, bilinear, lanczos, random, but got 'cubic'"),
        ({"scale": (0.5, 1.2)}, "must rise within"),
        ({"flip": 1.5}, "flip must be from 0 to 1"),
        ({"color_jitter": -1.0}, "color_jitter at least 0"),
    ],
)
def test_values_out_of_range_are_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainTransform(**values)  # type: ignore[arg-type]


def test_unknown_policies_and_crops_are_errors() -> None:
    with pytest.raises(DataError, match="must be a policy of timm's"):
        TrainTransform(auto_augment="rond-m9").build()
    with pytest.raises(DataError, match="crop must be above 0 and at most 1, but got 2"):
        EvalTransform(crop=2)
    with pytest.raises(DataError, match="one of bicubic, bilinear, lanczos, but got 'random'"):
        EvalTransform(interpolation="random")
