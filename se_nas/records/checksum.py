"""Files of weights carry the SHA-256 of all their bytes, in the comment that a ZIP archive may end with.

torch writes its files as ZIP archives and checks none of their sums on reading, so that most flipped bits would change
a weight without a word. Whoever reads the archive with anything else passes over the comment.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from typing import BinaryIO

_MARK = b"se_nas sha256 "
_DIGITS = 64
_COMMENT = len(_MARK) + _DIGITS
#: The last record of an archive; its last two bytes are the length of the comment that follows.
_END = b"PK\x05\x06"
_END_BYTES = 22
_CHUNK = 2**20


def with_checksum(archive: bytes) -> bytes:
    """A ZIP archive without a comment, with its checksum."""
    if archive[-_END_BYTES:][:4] != _END:
        raise ValueError("an archive to be given a checksum must be a ZIP archive without a comment, but is none")
    marked = archive[:-2] + struct.pack("<H", _COMMENT) + _MARK
    return marked + hashlib.sha256(marked).hexdigest().encode()


def checksum_fault(file: BinaryIO | bytes) -> str | None:
    """What is wrong with the bytes of a file, by the checksums that it has itself; None where nothing is.

    One changed bit anywhere in what `with_checksum` gave is found. Of an archive of others the sums of its members are
    checked, and of what is no archive nothing is known.
    """
    content = io.BytesIO(file) if isinstance(file, bytes) else file
    if content.read(4) != b"PK\x03\x04" and not _is_marked(content):
        return None
    if _is_marked(content):
        size = content.seek(0, io.SEEK_END) - _DIGITS
        return None if _digest(content, size) == content.read(_DIGITS) else "its content is altered"
    content.seek(-min(_END_BYTES, content.seek(0, io.SEEK_END)), io.SEEK_END)
    end = content.read()
    if end[:4] != _END or end[-2:] != b"\x00\x00":
        return "it is truncated or altered at its end"
    try:
        with zipfile.ZipFile(content) as archive:
            return None if archive.testzip() is None else "its content is altered"
    except Exception as error:  # a damaged archive fails in many ways
        return f"it is truncated or altered ({type(error).__name__})"


def _is_marked(content: BinaryIO) -> bool:
    size = content.seek(0, io.SEEK_END)
    content.seek(max(0, size - _COMMENT))
    return content.read(len(_MARK)) == _MARK


def _digest(content: BinaryIO, size: int) -> bytes:
    """Of the first bytes; the file stands behind them afterwards."""
    content.seek(0)
    digest = hashlib.sha256()
    while size > 0:
        chunk = content.read(min(size, _CHUNK))
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()
