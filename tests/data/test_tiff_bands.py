"""TIFF files of many bands, written here byte by byte as the standard has it."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from se_nas.data.image_file import decode
from se_nas.data.pixels import Reading, pixels_of, planes_in

_BANDS = np.random.default_rng(0).integers(0, 65536, (20, 17, 6), dtype=np.uint16)


def _tiff(
    values: NDArray[np.generic],
    *,
    order: str = "<",
    deflate: bool = False,
    predictor: bool = False,
    apart: bool = False,
    tile: int | None = None,
    rows: int = 7,
    compression: int | None = None,
) -> bytes:
    height, width, bands = values.shape
    values = values.astype(values.dtype.newbyteorder(order))
    parts = []
    for layer in [values[..., b : b + 1] for b in range(bands)] if apart else [values]:
        across, down = (tile, tile) if tile else (width, rows)
        for top in range(0, height, down):
            for left in range(0, width, across):
                part = layer[top : top + down, left : left + across]
                if tile:
                    part = np.pad(part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)))
                if predictor:
                    part = np.diff(part, axis=1, prepend=part[:, :1] * 0)
                content = part.astype(values.dtype).tobytes()
                parts.append(zlib.compress(content) if deflate else content)
    bits = values.dtype.itemsize * 8
    offsets = np.cumsum([8, *map(len, parts)]).tolist()
    tags: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (bits,) * bands, 259: (compression or (8 if deflate else 1),), 262: (1,),
        277: (bands,), 284: (2 if apart else 1,), 317: (2 if predictor else 1,), 338: (0,) * (bands - 1),
        339: ({"u": 1, "i": 2, "f": 3}[values.dtype.kind],) * bands,
    }  # fmt: skip
    sizes = tuple(map(len, parts))
    tags |= (
        {322: (tile,), 323: (tile,), 324: tuple(offsets[:-1]), 325: sizes}
        if tile
        else {273: tuple(offsets[:-1]), 278: (rows,), 279: sizes}
    )
    at = offsets[-1]
    directory, extra = struct.pack(f"{order}H", len(tags)), b""
    beyond = at + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        body = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = body if len(body) == 4 else struct.pack(f"{order}I", beyond + len(extra))
        extra += b"" if len(body) == 4 else body
        directory += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + b"".join(parts) + directory + struct.pack(f"{order}I", 0) + extra


def _pixels(content: bytes, channels: int, value_range: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    return pixels_of(planes_in(decode(content, Reading(channels, value_range=value_range))))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("tile", [None, 16])
def test_bands_are_read_however_they_lie(order: str, deflate: bool, apart: bool, tile: int | None) -> None:
    content = _tiff(_BANDS, order=order, deflate=deflate, predictor=deflate, apart=apart, tile=tile)
    np.testing.assert_array_equal(_pixels(content, 6), (_BANDS / 257).round())


def test_bands_of_floats_are_scaled_by_the_range_that_is_named() -> None:
    values = (_BANDS / 65535).astype(np.float32)
    expected = (values.astype(float) * 255).round()
    np.testing.assert_array_equal(_pixels(_tiff(values), 6, (0, 1)), expected)


def test_pages_of_one_band_are_channels_where_there_are_as_many() -> None:
    pages = [Image.fromarray(_BANDS[..., band]) for band in range(6)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(_pixels(buffer.getvalue(), 6), (_BANDS / 257).round())
    for channels in (1, 3, 5):
        with pytest.raises(ValueError, match=r"must have one page, or a grey one for each channel, but has 6 for"):
            _pixels(buffer.getvalue(), channels)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_bands_that_are_not_the_channels_are_refused_and_none_is_dropped(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"^the image has 6 channels where the network takes {channels}$"):
        _pixels(_tiff(_BANDS), channels)


def test_a_compression_that_is_not_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"must be plain or by Deflate \(or be a .npy file\), but has compression 5"):
        _pixels(_tiff(_BANDS, compression=5), 6)


def test_damaged_files_are_errors_of_that_image_and_none_hangs_or_fills_the_memory() -> None:
    whole, rng = _tiff(_BANDS, deflate=True), random.Random(0)
    for number in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(whole) - 400 if number % 2 else 0, len(whole))] = rng.randrange(256)
        content = bytes(damaged[: rng.randrange(len(whole))] if number % 3 else damaged)
        with contextlib.suppress(ValueError, OSError):
            assert _pixels(content, 6).shape[2] == 6


def _grey(bits: int, meaning: int, content: bytes, width: int) -> bytes:
    entries = {
        256: (4, width), 257: (4, 1), 258: (3, bits), 259: (3, 1), 262: (3, meaning),
        273: (4, 8), 277: (3, 1), 278: (4, 1), 279: (4, len(content)),
    }  # fmt: skip
    tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in entries.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    return head + content + struct.pack("<H", len(entries)) + tags + b"\0" * 4


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_file_of_12_bits_is_scaled_by_its_range(channels: int) -> None:
    content = _grey(12, 1, bytes.fromhex("000555aaafff"), 4)
    (pixels,) = pixels_of(planes_in(decode(content, Reading(channels=channels))))
    np.testing.assert_array_equal(pixels[:, 0], [0, 85, 170, 255])
    (named,) = pixels_of(planes_in(decode(content, Reading(channels=channels, value_range=(0, 8190)))))
    np.testing.assert_allclose(named[:, 0], [0, 42.5, 85, 127.5], atol=0.5)


def test_a_deep_tiff_file_in_which_zero_is_white_is_refused_and_not_read_as_its_negative() -> None:
    content = struct.pack("<4H", 0, 21845, 43690, 65535)
    with pytest.raises(ValueError, match="must have black at 0, but it has white there"):
        decode(_grey(16, 0, content, 4))
    (pixels,) = pixels_of(planes_in(decode(_grey(8, 0, bytes([0, 85, 170, 255]), 4))))
    np.testing.assert_array_equal(pixels[:, 0], [255, 170, 85, 0])
