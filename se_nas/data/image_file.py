"""From the bytes of an image file to an RGB image: the one place where a file of a user's is given to Pillow."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SAFE_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are read, whatever a file is called.

Of each the decoder runs no program, as Pillow's of PostScript would (Ghostscript), and a file shows its format by its
first bytes, so that no other content passes for one.
"""


def decode(content: bytes) -> Image.Image:
    """The RGB image in the bytes of an image file, wholly decoded, which releases Python's lock.

    Raises:
        Exception: nearly any, where the bytes are no whole image; where they are of none of `SAFE_FORMATS`,
            `UnidentifiedImageError` that names the format.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=_built_in())
    except UnidentifiedImageError as error:  # Pillow's words have an address in memory, which no two runs share
        raise UnidentifiedImageError(_unidentified(content)) from error
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


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
            return begins_so if isinstance(begins_so, str) else f"it begins as {name} does, but goes on otherwise"
    return "it is no image that Pillow can read"
