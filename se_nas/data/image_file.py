"""From the bytes of an image file to pixels of 8 bits: the one place where a file of a user's is given to Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from se_nas.data.pixels import RGB, Picture, Reading, planes_of
from se_nas.data.tiff_bands import TiffLayout, is_tiff, read_bands, tiff_layout

if TYPE_CHECKING:
    from PIL import Image

_SUFFIXES = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICO": (".ico",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}

SAFE_FORMATS = tuple(_SUFFIXES)
"""Pillow's names of the formats that are read, whatever a file is called.

Of each the decoder runs no program, as Pillow's of PostScript would (Ghostscript), and a file shows its format by its
first bytes, so that no other content passes for one. Beside them arrays of numpy's (.npy) are read.
"""

IMAGE_SUFFIXES = frozenset({".npy"}.union(*_SUFFIXES.values()))
"""Of the files that are taken for images, in folders and in tar files."""

MAX_DAMAGED = 100
"""So many images of a data set may be damaged where nothing else is said."""

_NPY = b"\x93NUMPY"
_MOST_VALUES = 2 * 89_478_485 * 4
"""Of an array: as Pillow allows so many pixels, of four channels."""


def decode(content: bytes, reading: Reading = RGB) -> Picture:
    """The picture in the bytes of an image file, wholly decoded, which releases Python's lock.

    Raises:
        Exception: nearly any, where the bytes are no whole image or it does not fit `reading`; where they are of none
            of `SAFE_FORMATS`, `UnidentifiedImageError` that names the format.
    """
    if content.startswith(_NPY):
        return planes_of(_array(content), reading, any_order=True)
    layout = tiff_layout(content) if is_tiff(content) else TiffLayout()
    as_bands = reading.channels not in (1, 3) and layout.bands
    if layout.pages > 1:
        if layout.pages != reading.channels or layout.bands != 1:
            must = "must have one page, or a grey one for each channel"
            raise ValueError(f"a TIFF file {must}, but has {layout.pages} for {reading.channels} channels")
        as_bands = True
    if layout.white_is_zero and (as_bands or layout.bits > 8):  # which Pillow turns round up to 8 bits alone
        raise ValueError("a TIFF file of more than 8 bits or of bands must have black at 0, but it has white there")
    if as_bands:
        return planes_of(read_bands(content, reading.channels), reading)
    if layout.colours not in (0, 1, 3) and not layout.inks:
        raise ValueError(reading.mismatch(layout.colours))
    image = _open(content)
    turn = _upright(image)
    image.load()
    kind = image.format or ""
    if kind == "TIFF":  # which Pillow turns while it loads
        turn = _Turn(None) if reading.orient else _inverse(turn)
    elif not reading.orient:
        turn = _Turn(None)
    if layout.bits == 12 and reading.value_range is None:  # which Pillow leaves as they are, in 16 bits
        reading = replace(reading, value_range=(0.0, 4095.0))
    return reading.of_image(turn(image), kind)


def _open(content: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(content), formats=_built_in())
    except UnidentifiedImageError as error:  # Pillow's words have an address in memory, which no two runs share
        raise UnidentifiedImageError(_unidentified(content)) from error


class _Turn:
    """A turn or mirroring of an image, by Pillow's number; None leaves it as it is."""

    def __init__(self, method: int | None) -> None:
        self.method = method

    def __call__(self, image: Image.Image) -> Image.Image:
        return image if self.method is None else image.transpose(self.method)  # type: ignore[arg-type]


def _upright(image: Image.Image) -> _Turn:
    """What the orientation in an image's EXIF asks for, as cameras write it instead of turning the pixels."""
    from PIL import Image

    turns = Image.Transpose
    by_number = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    try:
        return _Turn(by_number.get(image.getexif().get(0x0112, 1)))
    except Exception:  # damaged EXIF raises nearly anything; the pixels are sound for all that
        return _Turn(None)


def _inverse(turn: _Turn) -> _Turn:
    from PIL.Image import Transpose

    quarters = {Transpose.ROTATE_90: Transpose.ROTATE_270, Transpose.ROTATE_270: Transpose.ROTATE_90}
    return _Turn(None if turn.method is None else quarters.get(Transpose(turn.method), turn.method))


def orientation_exif(content: bytes) -> bytes:
    """EXIF of an image's orientation and nothing else, for an image made of it; empty where it has none."""
    from PIL import Image

    try:
        number = _open(content).getexif().get(0x0112, 1)
    except Exception:  # see `_upright`
        return b""
    if number not in range(2, 9):
        return b""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif.tobytes()


def _array(content: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file; ValueError where it is none, or one of objects."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "buif":
        raise ValueError(f"an array must be of numbers, but it is of {dtype}")
    count = int(np.prod(shape, dtype=object))
    if count > _MOST_VALUES:
        raise ValueError(f"an array must have at most {_MOST_VALUES:,} values, but its shape is {shape}")
    values = np.frombuffer(content, dtype, count, file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


@cache
def _built_in() -> tuple[str, ...]:
    """Those of `SAFE_FORMATS` that the Pillow at hand knows; it would fail at the name of another."""
    from PIL import Image

    Image.init()
    return tuple(name for name in SAFE_FORMATS if name in Image.OPEN)


def _unidentified(content: bytes) -> str:
    """What is wrong with bytes that are no image of `SAFE_FORMATS`, told by their beginning: no decoder is asked."""
    from PIL import Image

    for name, (_, accepts) in Image.OPEN.items():
        try:
            begins_so = accepts is not None and accepts(content[:16])
        except (IndexError, TypeError, struct.error):  # too short for this format
            continue
        if begins_so and name not in SAFE_FORMATS:
            return f"it is of the format {name}, but must be of {', '.join(_built_in())}"
        if begins_so:  # words, where this Pillow was built without the format
            return begins_so if isinstance(begins_so, str) else f"it begins like {name}, but does not go on like it"
    return "it is not an image that Pillow can read"
