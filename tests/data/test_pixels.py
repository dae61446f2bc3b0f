"""Images of every depth, mode, orientation and number of channels: the same pixels whatever the file, or refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from se_nas.data.image_file import IMAGE_SUFFIXES, SAFE_FORMATS, decode
from se_nas.data.pixels import Reading, pixels_of, planes_in
from se_nas.errors import DataError

_GREY = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
_COLOURS = np.random.default_rng(1).integers(0, 256, (12, 9, 3), dtype=np.uint8)
_BANDS = np.random.default_rng(2).integers(0, 65536, (12, 9, 5), dtype=np.uint16)


def _file(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def _npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _pixels(content: bytes, **reading: Any) -> NDArray[np.uint8]:
    return pixels_of(planes_in(decode(content, Reading(**reading))))


@pytest.mark.parametrize("name", ["PNG", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_image_of_16_bits_is_that_of_8_bits(name: str, channels: int) -> None:
    deep = Image.fromarray(_GREY.astype(np.uint16) * 257)
    options = {"irreversible": False} if name == "JPEG2000" else {}
    expected = np.repeat(_GREY[..., None], channels, axis=2)
    np.testing.assert_array_equal(_pixels(_file(deep, name, **options), channels=channels), expected)


def test_the_byte_order_of_deep_images_makes_no_difference() -> None:
    values = _GREY.astype(np.uint16) * 257
    little, big = (_file(Image.fromarray(values.astype(order)), "TIFF") for order in ("<u2", ">u2"))
    np.testing.assert_array_equal(_pixels(little), _pixels(big))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_range_of_their_own_are_refused_until_it_is_named(dtype: type) -> None:
    content = _file(Image.fromarray((_GREY * 4.0 - 100).astype(dtype)), "TIFF")
    with pytest.raises(ValueError, match=rf"or its range be named .*, but its numbers are {np.dtype(dtype)}"):
        _pixels(content)
    np.testing.assert_array_equal(_pixels(content, channels=1, value_range=(-100, 920))[..., 0], _GREY)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of finite numbers"):
        _pixels(_npy(np.array([[0.5, np.nan]])), channels=1, value_range=(0, 1))


@pytest.mark.parametrize("mode", ["LAB", "F", "I"])
def test_a_mode_without_a_known_range_is_refused_by_name(mode: str) -> None:
    with pytest.raises(ValueError, match=rf"{mode}$|float32$|int32$"):
        _pixels(_file(Image.new(mode, (4, 4)), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_other_mode_becomes_grey_or_colours(mode: str, channels: int) -> None:
    image = Image.fromarray(_COLOURS).convert(mode)
    pixels = _pixels(_file(image, "TIFF"), channels=channels)
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(12, 9, channels)
    np.testing.assert_array_equal(pixels, expected)


def test_a_palette_with_transparency_keeps_its_colours_and_raises_no_warning() -> None:
    image = Image.fromarray(_COLOURS).convert("P")
    content = _file(image, transparency=bytes(range(256)))
    np.testing.assert_array_equal(_pixels(content), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("number", range(1, 9))
def test_an_orientation_in_exif_is_applied_unless_it_is_to_be_left(name: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    options = {"quality": 100} if name == "JPEG" else {"lossless": True} if name == "WEBP" else {}
    stored = Image.fromarray(np.repeat(np.repeat(_COLOURS, 8, 0), 8, 1))
    content = _file(stored, name, exif=exif.tobytes(), **options)
    plain = np.asarray(stored).astype(int)
    turned = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.transpose(1, 0, 2),
        6: plain.transpose(1, 0, 2)[:, ::-1],
        7: plain[::-1, ::-1].transpose(1, 0, 2),
        8: plain.transpose(1, 0, 2)[::-1],
    }[number]
    for reading, expected in ((Reading(), turned), (Reading(orient=False), plain)):
        got = np.asarray(decode(content, reading)).astype(int)
        assert got.shape == expected.shape
        assert abs(got - expected).mean() < (12 if name == "JPEG" else 1e-9)


def test_damaged_exif_leaves_the_pixels_as_they_are() -> None:
    content = _file(Image.fromarray(_COLOURS), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(_pixels(content), _COLOURS)


@pytest.mark.parametrize("values", [_BANDS, _BANDS.transpose(2, 0, 1), np.asfortranarray(_BANDS)])
def test_an_array_of_any_number_of_channels_is_read_whichever_comes_first(values: NDArray[np.uint16]) -> None:
    np.testing.assert_array_equal(_pixels(_npy(values), channels=5), (_BANDS / 257).round())


def test_arrays_of_one_or_three_channels_are_images_like_any_other() -> None:
    for values in (_GREY, _GREY[..., None]):
        np.testing.assert_array_equal(_pixels(_npy(values))[..., 1], _GREY)
    grey = np.asarray(Image.fromarray(_COLOURS).convert("L"))
    np.testing.assert_array_equal(_pixels(_npy(_COLOURS), channels=1)[..., 0], grey)


@pytest.mark.parametrize(
    ("content", "channels", "message"),
    [
        (_npy(_BANDS), 3, "the image has 5 channels where the network takes 3"),
        (_npy(_BANDS), 4, "the image has 5 channels where the network takes 4"),
        (_file(Image.fromarray(_COLOURS)), 5, "the image has 3 channels where the network takes 5"),
        (_file(Image.new("P", (4, 4))), 4, "the image has 3 channels where the network takes 4"),
        (_npy(np.zeros(3)), 3, "must be of a height, a width and channels"),
        (_npy(np.array(["a"])), 3, "an array must be of numbers"),
        (_npy(np.zeros((0, 3), np.uint8)), 1, "must be of a height, a width and channels"),
        (_npy(np.zeros((2, 2, 2), np.int64)), 2, "but its numbers are int64"),
        (_npy(_BANDS)[:200], 5, "buffer is smaller than requested size"),
        (
            b"\x93NUMPY\x01\x00\x76\x00{'descr':'|u1','fortran_order':False,'shape':(99999,99999)}" + b" " * 90,
            1,
            "most",
        ),
    ],
)
def test_what_does_not_fit_the_channels_is_refused(content: bytes, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _pixels(content, channels=channels)


def test_an_array_of_objects_runs_nothing() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="an array must be of numbers, but it is of object"):
        _pixels(buffer.getvalue())


def test_four_channels_are_read_as_they_are() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    np.testing.assert_array_equal(_pixels(_file(Image.fromarray(pixels)), channels=4), pixels)


def test_a_reading_must_make_sense() -> None:
    for wrong in ({"channels": 0}, {"value_range": (1, 1)}):
        with pytest.raises(DataError):
            Reading(**wrong)  # type: ignore[arg-type]


def test_every_suffix_by_which_pillow_knows_a_safe_format_is_an_images() -> None:
    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in SAFE_FORMATS}
    assert known <= IMAGE_SUFFIXES
    assert {".jfif", ".avif", ".npy"} <= IMAGE_SUFFIXES


def test_a_png_whose_text_would_fill_the_memory_is_refused() -> None:
    one, many = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    one.add_text("a", "x" * 10_000_000, zip=True)
    for number in range(80):
        many.add_text(f"a{number}", "x" * 900_000, zip=True)
    for info in (one, many):
        with pytest.raises(ValueError, match=r"Decompressed data too large|Too much memory used in text"):
            decode(_file(Image.new("L", (8, 8)), pnginfo=info))
