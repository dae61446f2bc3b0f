"""Files that one part writes and another reads: written atomically, and read so that damage is one clear error."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from se_nas.errors import ConfigError, OutputError, short

#: A JSON file of ours is far smaller; one that is larger is not ours, and reading it would fill the memory.
MOST_BYTES = 512 * 2**20
#: Levels of nesting; more would end what walks or shows the value, wherever that is.
MOST_DEPTH = 100


def beside(file: str | os.PathLike[str], word: str | os.PathLike[str]) -> Path:
    """The path that a file names: relative to the folder that it lies in, with `~` for the user's home.

    Raises:
        ConfigError: `~name` names no user.
    """
    return Path(file).parent / from_home(word, str(file))


def from_home(word: str | os.PathLike[str], source: str) -> Path:
    """A path with `~` written out; ConfigError, which names `source`, where it names no user."""
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        must = "a path must begin with ~ or with ~ and the name of a user"
        raise ConfigError(source, [f"{must}, but got {short(os.fspath(word))}"]) from error


def write_atomic(path: str | os.PathLike[str], content: str | bytes, *, private: bool = False) -> Path:
    """Write `content` to `path` through a temporary file in the same folder and one rename.

    A reader, or a process that is killed at any moment, sees the old file or the new one, never half.

    Args:
        path: the file to write; its folder is made where it is missing.
        content: text is written as UTF-8.
        private: only its owner may read it (mode 0600), for files that may hold a secret; else the umask decides.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(6)}.tmp"
    made = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # the mode is given at the creation: the umask is kept, and a secret is readable by others at no moment
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
        made = True
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        blocked = isinstance(error, (FileExistsError, NotADirectoryError))
        reason = "a file stands where a folder must be" if blocked else error.strerror or str(error)
        raise OutputError(f"{target}: the output must be writable, but got: {reason}") from error
    finally:
        if made:
            temporary.unlink(missing_ok=True)  # there no longer, unless the writing failed
    return target


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write `value` as indented JSON, atomically; see `write_atomic`."""
    return write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def check_regular(path: Path) -> None:
    """Raise ConfigError where something is at `path` that is no regular file: a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise ConfigError(str(path), ["file: must be a regular file, but it is not"])


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises:
        ConfigError: the file is missing, unreadable, no regular file, over `MOST_BYTES`, not UTF-8 or not JSON, or
            nested too deeply.
    """
    file = Path(path)
    try:
        check_regular(file)
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(str(path), [f"file: must have at most {MOST_BYTES:,} bytes, but has {size:,}"])
        return parse_json(file.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(str(path), [f"file: must be readable, but got: {error.strerror}"]) from error


def parse_json(content: bytes | str, source: str, *, with_nan: bool = False) -> Any:
    """The value of a JSON text; `source` names where it comes from.

    Args:
        with_nan: NaN and infinities are taken, which other programs write though JSON has none.

    Raises:
        ConfigError: it is not UTF-8, not JSON, or nested too deeply.
    """
    try:
        value = json.loads(content, parse_constant=None if with_nan else _refuse_constant)
    except RecursionError:
        deep = True
    except ValueError as error:  # a UnicodeDecodeError is one
        raise ConfigError(source, [f"file: must be JSON, but got: {error!s:.200}"]) from error
    else:
        deep = is_deep(value)
    if deep:
        raise ConfigError(source, ["file: must be JSON of a sane depth, but it is nested too deeply"])
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name}, which is not a number in JSON")


def is_deep(value: object) -> bool:
    """Whether over `MOST_DEPTH` mappings and lists stand in each other; what several names stand for counts once."""
    level: list[object] = [value]
    seen: set[int] = set()
    for _ in range(MOST_DEPTH):
        containers = [item for item in level if isinstance(item, (dict, list)) and id(item) not in seen]
        seen.update(map(id, containers))
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
    return bool(level)
