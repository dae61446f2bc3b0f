"""TIFF files of any number of bands, as satellites and microscopes give: Pillow reads no more than four.

https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf: strips or tiles, bands beside or after each other, plain
or by Deflate. A file of grey pages, as many as there are channels, is a picture of these bands too.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_BYTES = 2**30
_MOST_PAGES = 1000
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_KINDS = {1: "u", 2: "i", 3: "f"}


@dataclass(frozen=True)
class TiffLayout:
    """What a TIFF file says of its pages, which are of one layout.

    Attributes:
        pages: but for those that are smaller copies of another; 1 for a file that is no TIFF.
        bands: values to a pixel; 0 for a file that is no TIFF.
        colours: of them, without those that are called an alpha.
        inks: whether they are CMYK.
        bits: of the first of them; 0 for a file that is no TIFF.
        white_is_zero: whether they are grey and the greater value the darker, as scanners may have it.
    """

    pages: int = 1
    bands: int = 0
    colours: int = 0
    inks: bool = False
    bits: int = 0
    white_is_zero: bool = False


def is_tiff(content: bytes) -> bool:
    """Whether bytes begin as a TIFF file does."""
    return content[:4] in (b"II*\0", b"MM\0*")


def tiff_layout(content: bytes) -> TiffLayout:
    """The layout of the file; ValueError where it cannot be read."""
    pages = _pages(content)
    page = pages[0]
    bands = page.get(277, (1,))[0]
    alpha = sum(kind in (1, 2) for kind in page.get(338, ()))
    meaning = page.get(262, (1,))[0]
    return TiffLayout(len(pages), bands, bands - alpha, meaning == 5, page.get(258, (1,))[0], meaning == 0)


def read_bands(content: bytes, channels: int) -> NDArray[np.generic]:
    """(H, W, C) of the first page, or of as many pages of one band as there are channels.

    Raises:
        ValueError: the file is damaged, or of a compression that is not read.
    """
    pages = _pages(content)
    if len(pages) == channels > 1 and all(page.get(277, (1,))[0] == 1 for page in pages):
        planes = [_page(content, page) for page in pages]
        if len({plane.shape for plane in planes}) > 1:
            raise ValueError("the pages of a TIFF file must be of one size to be channels, but they are not")
        return np.concatenate(planes, axis=2)
    return _page(content, pages[0])


Page = dict[int, tuple[int, ...]]


def _pages(content: bytes) -> list[Page]:
    """The tags with whole numbers of each page."""
    order = "<" if content[:2] == b"II" else ">"
    pages: list[Page] = []
    seen = set()
    try:
        (at,) = struct.unpack_from(f"{order}I", content, 4)
        while at and at not in seen and len(pages) < _MOST_PAGES:
            seen.add(at)
            (count,) = struct.unpack_from(f"{order}H", content, at)
            page: Page = {0: (order == "<",)}
            for entry in range(at + 2, at + 2 + 12 * count, 12):
                tag, kind, length = struct.unpack_from(f"{order}HHI", content, entry)
                if kind not in _TYPES:
                    continue
                code = f"{order}{length}{_TYPES[kind]}"
                place = entry + 8
                if struct.calcsize(code) > 4:
                    (place,) = struct.unpack_from(f"{order}I", content, place)
                if struct.calcsize(code) > len(content):
                    raise struct.error
                page[tag] = struct.unpack_from(code, content, place)
            if not page.get(254, (0,))[0] & 1:  # a smaller copy
                pages.append(page)
            (at,) = struct.unpack_from(f"{order}I", content, at + 2 + 12 * count)
    except struct.error:
        if not pages:
            raise ValueError("the TIFF file must be whole, but its tags are cut off") from None
    if not pages:
        raise ValueError("the TIFF file must have a page, but has none")
    return pages


def _page(content: bytes, page: Page) -> NDArray[np.generic]:
    """(H, W, bands)."""
    width, height, bands = (page.get(tag, (1 if tag == 277 else 0,))[0] for tag in (256, 257, 277))
    bits, kinds = set(page.get(258, (1,))), set(page.get(339, (1,)))
    apart = page.get(284, (1,))[0] == 2
    compression, predictor = page.get(259, (1,))[0], page.get(317, (1,))[0]
    if len(bits) > 1 or len(kinds) > 1 or not bits <= {8, 16, 32, 64} or not kinds <= set(_KINDS):
        raise ValueError(f"the bands of a TIFF file must be of one kind of 8 to 64 bits, but are of {sorted(bits)}")
    if compression not in (1, 8, 32946) or predictor not in (1, 2):
        how = f"compression {compression}, predictor {predictor}"
        raise ValueError(f"a TIFF file of {bands} bands must be plain or by Deflate (or be a .npy file), but has {how}")
    (bit,), (kind,) = bits, kinds
    dtype = np.dtype(f"{'<' if page[0][0] else '>'}{_KINDS[kind]}{bit // 8}")
    if not 0 < width * height * bands * dtype.itemsize <= _MOST_BYTES:
        raise ValueError(f"a TIFF file must have at most {_MOST_BYTES:,} bytes, but is {width} x {height} x {bands}")
    tiled = 324 in page
    across, down = (page[322][0], page[323][0]) if tiled else (width, min(page.get(278, (height,))[0], height))
    offsets, sizes = (page[324], page[325]) if tiled else (page.get(273, ()), page.get(279, ()))
    if not across or not down:
        raise ValueError("the parts of a TIFF file must have a size, but have none")
    layers, deep = (bands, 1) if apart else (1, bands)
    places = [(b, y, x) for b in range(layers) for y in range(0, height, down) for x in range(0, width, across)]
    if len(places) != len(offsets) or len(sizes) != len(offsets):
        raise ValueError(f"a TIFF file must have the {len(places)} parts of its image, but has {len(offsets)}")
    result = np.empty((height, width, bands), dtype)
    for (band, top, left), offset, size in zip(places, offsets, sizes, strict=True):
        rows = down if tiled else min(down, height - top)
        wanted = rows * across * deep * dtype.itemsize
        part = content[offset : offset + size]
        if compression != 1:
            try:
                part = zlib.decompressobj().decompress(part, wanted)
            except zlib.error as error:
                raise ValueError(f"the TIFF file must be whole, but got: {error}") from None
        if len(part) < wanted:
            raise ValueError(f"the TIFF file must be whole, but a part has {len(part)} of {wanted} bytes")
        values = np.frombuffer(part[:wanted], dtype).reshape(rows, across, deep)
        if predictor == 2:  # differences to the left neighbour
            values = np.cumsum(values, axis=1, dtype=dtype.newbyteorder("="))
        inside = values[: height - top, : width - left]
        result[top : top + rows, left : left + across, band : band + deep] = inside
    return result
