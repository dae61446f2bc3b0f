"""Fetch an archive whose checksum is known, and take from it the named files only."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from se_nas.errors import DataError, in_line

_BLOCK = 1 << 18
_TIMEOUT = 60  # seconds without an answer


def download_archive(url: str, md5: str, folder: Path, names: Iterable[str]) -> None:
    """Make `folder` with the files `names`, which lie under a folder of the same name in the .tar.gz at `url`.

    All happens beside `folder`, which appears by one rename when everything is in place.

    Raises:
        DataError: the network fails, the checksum is another, a file is not in the archive, or the place is not
            writable.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            archive, unpacked = Path(temporary, "archive"), Path(temporary, "unpacked")
            digest = hashlib.md5(usedforsecurity=False)
            with archive.open("wb") as file:
                for block in _blocks(url):
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != md5:
                raise DataError(f"{url}: the download must have md5 {md5}, but got {digest.hexdigest()}")
            _unpack(archive, f"{url}: the archive", folder.name, names, unpacked)
            os.replace(unpacked, folder)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: the folder must be writable, but got: {reason}") from error


def _blocks(url: str) -> Iterator[bytes]:
    """The content of `url` piece by piece, with a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        try:
            response = urllib.request.urlopen(url, timeout=_TIMEOUT)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failed(url, error) from error
        with response:
            length = response.headers.get("Content-Length")
            task = progress.add_task(url.rsplit("/", 1)[-1], total=int(length) if length else None)
            while True:
                try:
                    block = response.read(_BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _failed(url, error) from error
                if not block:
                    return
                progress.advance(task, len(block))
                yield block


def _failed(url: str, error: Exception) -> DataError:
    return DataError(f"{url}: the download must succeed, but got: {in_line(error)}")


def _unpack(archive: Path, source: str, folder: str, names: Iterable[str], target: Path) -> None:
    """Copy the content of regular members only, under names of our own: no path in the archive is ever followed."""
    target.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
            for name in names:
                member = members.get(f"{folder}/{name}")
                content = tar.extractfile(member) if member else None
                if content is None:
                    raise DataError(f"{source} must hold {folder}/{name}, but it does not")
                with content, (target / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{source} must be a whole .tar.gz, but got: {error}") from error
