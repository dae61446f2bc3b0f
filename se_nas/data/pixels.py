"""How pixels of any depth and any number of channels become those that a network is shown: the one rule of all loaders.

A picture is an image of Pillow's where it is grey or of colours, and else as many grey ones as it has channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from se_nas.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_PLAIN_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


@dataclass(frozen=True)
class Planes:
    """A picture that is neither grey nor of three colours: its channels as grey images of one size."""

    planes: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.planes[0].size


Picture: TypeAlias = "Image.Image | Planes"


def planes_in(picture: Picture) -> tuple[Image.Image, ...]:
    """The images of Pillow's whose bands, one after the other, are the channels."""
    return picture.planes if isinstance(picture, Planes) else (picture,)


def pixels_of(planes: tuple[Image.Image, ...]) -> NDArray[np.uint8]:
    """(H, W, C) of images as `planes_in` gives them."""
    arrays = [np.asarray(plane) for plane in planes]
    pixels: NDArray[np.uint8] = np.concatenate([a[..., None] if a.ndim == 2 else a for a in arrays], axis=2)
    return pixels


def picture_of(pixels: NDArray[np.uint8]) -> Picture:
    """The picture of (H, W, C) pixels."""
    from PIL import Image

    if pixels.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(pixels))
    planes = tuple(Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[2]))
    return planes[0] if len(planes) == 1 else Planes(planes)


@dataclass(frozen=True)
class Reading:
    """What a picture must be, and how its file is understood.

    Attributes:
        channels: 3 are colours, 1 is grey, and each is had of the other; any other number must be the file's.
        orient: whether the orientation in EXIF, which cameras write, is applied.
        value_range: the values that become 0 and 255, of images of more than 8 bits; None is the range of 16 bits, and
            no other kind of number is read then.

    Raises:
        DataError: channels is below 1, or value_range does not rise.
    """

    channels: int = 3
    orient: bool = True
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise DataError(f"channels must be at least 1, but got {self.channels}")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise DataError(f"value_range must be two rising values, but got {self.value_range}")

    def mismatch(self, channels: int) -> str:
        """What is wrong with an image of so many channels."""
        return f"the image has {channels} channels where the network takes {self.channels}"

    def of_image(self, image: Image.Image, kind: str) -> Picture:
        """The picture of an image that Pillow has read, of Pillow's format `kind`.

        An alpha channel and what makes a palette transparent are left out, as usual, unless four channels are wanted.

        Raises:
            ValueError: the image's mode has no known range, or its channels do not fit.
        """
        mode = image.mode
        if mode in _DEEP_MODES:
            # of the whole numbers of 32 bits only netpbm's are known to have 16; Pillow scales them to that
            values = np.asarray(image)
            return planes_of(values.astype(np.uint16) if mode == "I" and kind == "PPM" else values, self)
        if mode not in _PLAIN_MODES:
            raise ValueError(f"the image must be of a mode such as L, I;16 or RGB, but Pillow's mode of it is {mode}")
        if mode in ("La", "RGBa"):  # colours that are multiplied by their alpha
            image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
        image.info.pop("transparency", None)  # of a palette, about which Pillow would warn
        wanted = {1: "L", 3: "RGB"}.get(self.channels)
        if wanted is not None:
            return image if image.mode == wanted else image.convert(wanted)
        bands = image.getbands()
        if image.mode == "P" or len(bands) != self.channels:
            raise ValueError(self.mismatch(3 if image.mode == "P" else len(bands)))
        return Planes(image.split())


RGB = Reading()


def planes_of(values: NDArray[Any], reading: Reading, *, any_order: bool = False) -> Picture:
    """The picture of an array (H, W) or (H, W, C); where `any_order`, also of (C, H, W), told by the channels wanted.

    Raises:
        ValueError: its shape does not fit the reading's channels, or its numbers have no known range.
    """
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or not values.size:
        raise ValueError(f"an array must be of a height, a width and channels, but its shape is {values.shape}")
    channels = reading.channels
    fitting = (channels, 1, 3) if channels in (1, 3) else (channels,)
    if any_order and values.shape[2] not in fitting and values.shape[0] in fitting:
        values = values.transpose(1, 2, 0)
    if values.shape[2] not in fitting:
        raise ValueError(reading.mismatch(values.shape[2]))
    pixels = _eight_bits(values, reading.value_range)
    if pixels.shape[2] != channels:
        return reading.of_image(_colour_or_grey(pixels), "")
    return picture_of(pixels)


def _colour_or_grey(pixels: NDArray[np.uint8]) -> Image.Image:
    picture = picture_of(pixels)
    assert not isinstance(picture, Planes), "it has 1 or 3 channels"
    return picture


def _eight_bits(values: NDArray[Any], value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if value_range is None:
        if values.dtype.kind != "u" or values.dtype.itemsize != 2:
            what = "must be of 8 or 16 bits, or its range be named (value range)"
            raise ValueError(f"the image {what}, but its numbers are {values.dtype.newbyteorder('=')}")
        value_range = 0.0, 65535.0
    low, high = value_range
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    if not np.isfinite(scaled).all():
        raise ValueError("the image must be of finite numbers, but some are none")
    result: NDArray[np.uint8] = scaled.round().clip(0, 255).astype(np.uint8)
    return result
