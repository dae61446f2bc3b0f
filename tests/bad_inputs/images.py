"""Images that are none: in folders that are held in memory or stay on disk, in calls of `data shard`, and in shards."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from tests.bad_inputs.attempts import Attempt
from tests.bad_inputs.texts import SEARCH
from tests.helpers.jpeg_folders import jpeg

TRAIN = (
    *("retrain", "network.yaml", "--data", "imagenet", "--data-dir", "images", "--recipe", "recipe.yaml"),
    *("--workers", "0", "--out", "out", "--device", "cpu", "--quiet"),
)
SHARD = ("data", "shard", "images", "packed", "--workers", "1", "--quiet")
#: The first image of every folder.
FIRST = "images/train/class_a/0.jpg"


def image_folders(rng: random.Random) -> Iterator[Attempt]:
    """One image, or one folder of them, that is none, for each of the three that read folders."""
    for base, command in (("folder", SHARD), ("folder", TRAIN), ("small", SEARCH)):
        for name, content in _contents(rng).items():
            yield Attempt("image folders", f"{name}: {command[0]}", command, base, _image(content))
        for name, change in _LAYOUTS.items():
            yield Attempt("image folders", f"{name}: {command[0]}", command, base, change)


def _image(content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / FIRST).write_bytes(content)


def _contents(rng: random.Random) -> dict[str, bytes]:
    """Contents of a file that is called an image."""
    good = jpeg(1)
    found = {
        "empty": b"",
        "NULs": bytes(1000),
        "random bytes": rng.randbytes(2000),
        "a text": b"no image\n",
        "a page": b"<!doctype html><title>404</title>",
        "a JPEG's first bytes": good[:20],
        "a JPEG cut in half": good[: len(good) // 2],
        "a JPEG without its end": good[:-2],
        "a PNG of 60,000 x 60,000": _png(60_000, 60_000),
        "a PNG of no width": _png(0, 10),
        "a PNG without data": _png(10, 10, b""),
        "a PNG text bomb": _text_bomb(),
        "a GIF of no frames": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
        "a BMP of a negative size": b"BM"
        + struct.pack("<IHHIIiiHHIIIIII", 54, 0, 0, 54, 40, -5, -5, 1, 24, 0, 0, 0, 0, 0, 0),
        "a TIFF of a loop": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "a WebP's first bytes": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
        "a PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a pickle": pickle.dumps([1]),
        "a NumPy array": _npy(np.zeros((8, 8), np.float64)),
        "a NumPy array of objects": _npy(np.array([{}], dtype=object)),
        "an image of one pixel": _saved(Image.new("RGB", (1, 1)), "PNG"),
        "an image of one row": _saved(Image.new("RGB", (4000, 1)), "PNG"),
    }
    for mode in ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"):
        kind = "PNG" if mode in ("1", "L", "LA", "P", "RGBA", "I;16") else "TIFF"
        if mode != "PA":
            found[f"an image of mode {mode}"] = _saved(Image.new(mode, (12, 12)), kind)
    for number in range(10):
        flipped = bytearray(good)
        for _ in range(3):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        found[f"a JPEG with flipped bits {number}"] = bytes(flipped)
    return found


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, data: bytes = b"\x00" * 10) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


@cache
def _text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    for number in range(3):
        info.add_text(f"t{number}", "x" * 10_000_000, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _instead(make: Callable[[Path], object], path: str = FIRST) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        target = place / path
        if target.is_dir():
            target.rename(target.with_name("moved"))
        else:
            target.unlink(missing_ok=True)
        make(target)

    return change


def _emptied(place: Path) -> None:
    for path in (place / "images").rglob("*.jpg"):
        path.unlink()


def _renamed(name: bytes) -> Callable[[Path], object]:
    """The first image, and the first class, under a name of these bytes."""

    def change(place: Path) -> None:
        folder = os.fsencode(place / "images/train/class_a")
        os.rename(os.path.join(folder, b"0.jpg"), os.path.join(folder, name + b".jpg"))
        for half in (b"train", b"val"):
            parent = os.path.join(os.fsencode(place / "images"), half)
            os.rename(os.path.join(parent, b"class_a"), os.path.join(parent, name))

    return change


_LAYOUTS: dict[str, Callable[[Path], object]] = {
    "no images at all": _emptied,
    "no folder": lambda place: (place / "images").rename(place / "elsewhere"),
    "a file in place of the folder": _instead(lambda path: path.write_bytes(b"x"), "images"),
    "a file in place of a half": _instead(lambda path: path.write_bytes(b"x"), "images/train"),
    "a file in place of a class": _instead(lambda path: path.write_bytes(b"x"), "images/train/class_a"),
    "no validation": _instead(lambda path: None, "images/val"),
    "a class in one half alone": lambda place: (place / "images/train/class_x").mkdir(),
    "a class of another name": lambda place: (place / "images/val/class_a").rename(place / "images/val/class_z"),
    "a link to nowhere": _instead(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
    "a class that is a link to its parent": _instead(lambda path: path.symlink_to(".."), "images/train/class_a"),
    "a FIFO": _instead(os.mkfifo),
    "a folder in place of an image": _instead(Path.mkdir),
    "a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a process's own file": _instead(lambda path: path.symlink_to("/proc/self/mem")),
    "a name of Latin-1 bytes": _renamed(b"caf\xe9"),
    "a name with a line break": _renamed(b"a\nb"),
    "a name with an escape": _renamed(b"\x1b[31mred"),
    "a name with dollars": _renamed(b"$10_$20"),
    "a name with brackets": _renamed(b"[bold]x[red]"),
    "a name with a backslash": _renamed(b"a\\b"),
    "a long name": _renamed(b"n" * 240),
    "a name of dots": _renamed(b"..."),
    "a name that is hidden": _renamed(b".hidden"),
    "a name with a percent sign": _renamed(b"%s%n"),
    "a name from right to left": _renamed("\u202egpj".encode()),
    "a class called train": lambda place: (place / "images/train/class_a").rename(place / "images/train/train"),
}


def shards(rng: random.Random) -> Iterator[Attempt]:
    """Tar files and their indices, cut, flipped, and with what no tar of images has."""
    for name, change in _tars(rng).items():
        yield Attempt("shards", name, TRAIN, "shards", change)
    for number, value in enumerate((None, [], {}, 3, "x", {"labels": [1]}, {"version": 99}, [[1]])):
        yield Attempt("shards", f"an index of something {number}", TRAIN, "shards", _index(lambda old, v=value: v))  # type: ignore[misc]
    for key in ("labels", "names", "offsets", "sizes", "classes", "version", "format", "tar_bytes", "images"):
        for other in (None, -1, [], ["x"], [10**12] * 4, {"x": 1}, "x"):
            yield Attempt("shards", f"index {key}: {other!r}", TRAIN, "shards", _index(_replaced(key, other)))


def _replaced(key: str, other: object) -> Callable[[object], object]:
    return lambda old: {**old, key: other} if isinstance(old, dict) else old


def _index(change: Callable[[object], object]) -> Callable[[Path], object]:
    """Every index file of the shards, changed."""

    def write(place: Path) -> None:
        for path in (place / "images").glob("*.json"):
            path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return write


def _tars(rng: random.Random) -> dict[str, Callable[[Path], object]]:
    def first(place: Path) -> Path:
        return sorted((place / "images").glob("train*.tar"))[0]

    def written(content: Callable[[bytes], bytes], indexed: bool = False) -> Callable[[Path], object]:
        def change(place: Path) -> None:
            path = first(place)
            path.write_bytes(content(path.read_bytes()))
            if not indexed:
                for index in (place / "images").glob("*-*.json"):
                    index.unlink()

        return change

    found: dict[str, Callable[[Path], object]] = {}
    for indexed in (False, True):
        words = "with its index" if indexed else "alone"
        for share in (0.0, 0.1, 0.5, 0.9, 0.999):
            found[f"a tar cut at {share} {words}"] = written(lambda c, s=share: c[: int(s * len(c))], indexed)  # type: ignore[misc]
        found[f"a tar of NULs {words}"] = written(lambda c: bytes(len(c)), indexed)
        found[f"a tar of random bytes {words}"] = written(lambda c: random.Random(0).randbytes(len(c)), indexed)
        found[f"a tar that is gzipped {words}"] = written(gzip.compress, indexed)
        for number in range(8):
            seed = rng.randrange(2**31)
            found[f"a tar with flipped bits {number} {words}"] = written(
                lambda c, s=seed: _flipped(c, random.Random(s)),
                indexed,  # type: ignore[misc]
            )
    for name, members in _MEMBERS.items():
        found[f"a tar with {name}"] = written(lambda c, m=members: _tar(m))  # type: ignore[misc]
    found["a FIFO for a tar"] = lambda place: (first(place).unlink(), os.mkfifo(first_gone(place)))
    found["no tar"] = lambda place: first(place).unlink()
    found["a folder for a tar"] = lambda place: (first(place).unlink(), first_gone(place).mkdir())
    return found


def first_gone(place: Path) -> Path:
    """Where the first shard was."""
    return place / "images" / "train-000000.tar"


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(4):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


_MEMBERS: dict[str, list[tuple[str, bytes]]] = {
    "no members": [],
    "an image without a label": [("0.jpg", b"x")],
    "a label without an image": [("0.cls", b"1")],
    "a label that is no number": [("0.jpg", b"x"), ("0.cls", b"x")],
    "a negative label": [("0.jpg", b"x"), ("0.cls", b"-1")],
    "a great label": [("0.jpg", b"x"), ("0.cls", b"9" * 5000)],
    "a label of no class": [("0.jpg", b"x"), ("0.cls", b"77")],
    "an empty label": [("0.jpg", b"x"), ("0.cls", b"")],
    "a label in JSON that is none": [("0.jpg", b"x"), ("0.json", b"[" * 5000)],
    "a path that leads out": [("../../0.jpg", b"x"), ("../../0.cls", b"0")],
    "an absolute path": [("/0.jpg", b"x"), ("/0.cls", b"0")],
    "a name of no letters": [("", b"x")],
    "a key twice": [("0.jpg", b"x"), ("0.cls", b"0"), ("0.jpg", b"x"), ("0.cls", b"0")],
}


def _tar(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            content = jpeg(2) if content == b"x" and name.endswith(".jpg") else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
