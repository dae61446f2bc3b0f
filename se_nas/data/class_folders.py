"""Which files below a class's folder are its images: one rule for all loaders, by which what is passed over is counted.

A file is an image if it has a suffix of `IMAGE_SUFFIXES`, in whichever case, at whichever depth below the folder. What
is hidden (its name begins with a dot) and what has another suffix is passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from se_nas.data.image_file import IMAGE_SUFFIXES
from se_nas.errors import DataError, cut

_THREADS = 16  # a listing waits for the disk
_SHOWN = 200


class PassedOver:
    """What was not taken, by reason: how many, and the first as an example."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """One more, or `count`, for a reason that completes "passed over: 3 ..."."""
        before = self._found.get(reason, (0, example))
        self._found[reason] = before[0] + count, min(before[1], example)

    def __iadd__(self, other: PassedOver) -> PassedOver:
        for reason, (count, example) in other._found.items():
            self.add(reason, example, count)
        return self

    def lines(self, where: Path) -> tuple[str, ...]:
        """A line for each reason."""
        return tuple(
            f"{printable(str(where))}: passed over: {count:,} {reason}, such as {cut(printable(example), _SHOWN)}"
            for reason, (count, example) in sorted(self._found.items())
        )


HIDDEN = "hidden (the name begins with a dot)"
OTHER_SUFFIX = "without the suffix of an image"
NO_CLASS = "in no class's folder"


def printable(text: str) -> str:
    """One line of text, in which what is not UTF-8 in a file's name stands as an escape: nothing else can show it."""
    try:
        content = os.fsencode(text)
    except UnicodeEncodeError:  # of a file of names, and not of a file system
        content = text.encode(errors="surrogatepass")
    shown = content.decode(errors="backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", shown)


def class_names(folders: Sequence[str], where: Path) -> tuple[str, ...]:
    """What classes are called by their folders: as those are, but with escapes where a name is not UTF-8.

    Raises:
        DataError: two are called alike then.
    """
    names = tuple(map(printable, folders))
    for name, folder in zip(names, folders, strict=True):
        if names.count(name) > 1 and name != folder:
            raise DataError(f"{printable(str(where))}: the folders of two classes must not both read {name!r}")
    return names


def subfolders(folder: Path, passed_over: PassedOver) -> list[str]:
    """Names of the folders in one, sorted; what stands beside them is passed over.

    Raises:
        DataError: the folder cannot be read.
    """
    found = []
    with _reading(folder), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                passed_over.add(HIDDEN, os.path.join(folder.name, entry.name))
            elif entry.is_dir():
                found.append(entry.name)
            else:
                passed_over.add(NO_CLASS, os.path.join(folder.name, entry.name))
    return sorted(found)


def images_by_folder(root: Path, half: str, folders: Sequence[str], passed_over: PassedOver) -> list[list[str]]:
    """Of each of the folders root/half/NAME its images, as sorted paths below `root`.

    Raises:
        DataError: a folder cannot be read, or what is named as an image is no file.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(lambda name: _images(root, os.path.join(half, name)), folders))
    for _, over in found:
        passed_over += over
    return [sorted(files) for files, _ in found]


def has_images(folder: Path) -> bool:
    """Whether there is an image in a folder, at whichever depth; DataError where one cannot be read."""
    return bool(_images(folder, "")[0])


def labelled_images(
    root: Path, half: str, folders: Sequence[str], labels: Path, passed_over: PassedOver
) -> list[list[str]]:
    """Of each class the images among unsorted ones in root/half, by a file of labels.

    Args:
        folders: the classes, by the names of their folders.
        labels: has a line for each image: its name (with or without a suffix) and its class, with a comma, a tab or a
            space between; or its class alone, in the order of the names. What follows the class, and a first line that
            names columns, is passed over.

    Raises:
        DataError: the lines do not give each image one of the classes.
    """
    found_files, over = _images(root, half)
    files = sorted(found_files)
    passed_over += over
    classes = {printable(name): number for number, name in enumerate(folders)}
    try:
        if not labels.is_file():
            raise OSError(0, "it is no file")
        lines = [line.strip() for line in labels.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{labels}: the file of labels must be readable text, but got: {reason}") from error
    lines = [line for line in lines if line]
    by_file = {} if all(line in classes for line in lines) else dict(_named(lines, classes, labels))
    if not by_file and len(lines) != len(files):
        got = f"{len(lines):,} lines for {len(files):,} images"
        raise DataError(f"{labels}: there must be a class for every image of {root / half}, but there are {got}")
    found: list[list[str]] = [[] for _ in folders]
    for number, file in enumerate(files):
        name = os.path.basename(file)
        label = classes[lines[number]] if not by_file else by_file.pop(name, by_file.pop(os.path.splitext(name)[0], -1))
        if label < 0:
            raise DataError(f"{labels}: there must be a line for every image of {root / half}, but none is for {name}")
        found[label].append(file)
    if by_file:
        passed_over.add(f"lines of {labels.name} without an image", next(iter(by_file)), len(by_file))
    return found


def _named(lines: list[str], classes: Mapping[str, int], labels: Path) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(lines, 1):
        separator = next((mark for mark in (",", "\t", " ") if mark in line), " ")
        name, _, rest = (part.strip() for part in line.partition(separator))
        label = rest if rest in classes else rest.split(separator)[0].split(" ")[0].strip()
        if label in classes:
            yield name, classes[label]
        elif number > 1:
            must = "a line must be the name of an image and of a class of train, or of a class"
            raise DataError(f"{labels}: {must}, but line {number} is {cut(line, 80)}")


def few(names: Sequence[str]) -> str:
    """Up to 3 names, and how many there are if they are more, as the subject of a sentence with its verb."""
    shown = ", ".join(map(printable, names[:3]))
    return f"{shown} {'is' if len(names) == 1 else 'are'}" if len(names) <= 3 else f"{len(names)} ({shown}, ...) are"


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = printable(str(folder))
        raise DataError(f"{where}: the folder must be readable, but got: {error.strerror or error}") from error


def _images(root: Path, folder: str) -> tuple[list[str], PassedOver]:
    files, passed_over = [], PassedOver()
    with _reading(root / folder), os.scandir(root / folder) as entries:
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                passed_over.add(HIDDEN, path)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                if not entry.is_file():  # to leave it out, or to look for images in it, would be a guess
                    got = "is a folder" if entry.is_dir() else "is not one, or is a link that leads to none"
                    where = printable(str(root / path))
                    raise DataError(f"{where}: what is named as an image must be a file, but it {got}")
                files.append(path)
            elif entry.is_dir():
                below, over = _images(root, path)
                files.extend(below)
                passed_over += over
            else:
                passed_over.add(OTHER_SUFFIX, path)
    return files, passed_over
