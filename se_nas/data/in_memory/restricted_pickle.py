"""Read a pickle of dictionaries, lists, bytes and uint8 arrays without ever running what it names.

The few globals that the official CIFAR files name stand for inert stand-ins of this file, so that neither numpy nor
anything else is called by the pickle; any other global is refused.
https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from se_nas.errors import DataError, in_line


class PickledArray:
    """The state of a pickled numpy array, kept until `uint8` makes an array of it."""

    def __init__(self) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def uint8(self) -> NDArray[np.uint8]:
        """The array.

        Raises:
            ValueError, TypeError: it is no uint8 array, or its bytes do not fill its shape.
        """
        _, shape, dtype, fortran, content = self._state
        if not isinstance(dtype, _PickledDtype) or dtype.code not in ("u1", b"u1"):
            raise ValueError("an array must be of uint8")
        array: NDArray[np.uint8] = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
        return array


class _PickledDtype:
    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, which a uint8 has none of."""


class _PickledType:
    """What numpy.ndarray is to a pickle: only ever an argument."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("numpy.ndarray must not be called")


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes under pickle protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("_codecs.encode must get text and latin1")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _PickledType,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode,
}


class _Refused(Exception):
    """Names a global that has no stand-in."""


_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):  # type: ignore[misc]
    """Python's own unpickler in Python: keys can be looked at there before they are hashed.

    A hundred bytes can be a tuple of tuples, each twice the one before: its hash would take for ever.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def load_global(self) -> None:
        lines = [self.readline() for _ in range(2)]
        if not all(line.endswith(b"\n") for line in lines):
            raise pickle.UnpicklingError("the name of a global is cut off")
        self.append(self.find_class(*(line[:-1].decode() for line in lines)))

    def load_setitem(self) -> None:
        _check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        for key in self.stack[::2]:  # since the mark
            _check_key(key)
        super().load_setitems()

    def load_set(self) -> None:
        raise pickle.UnpicklingError("there must be no set")

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_dict()

    dispatch[pickle.GLOBAL[0]] = load_global
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    for code in (pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS):
        dispatch[code[0]] = load_set


def _check_key(key: Any) -> None:
    if not isinstance(key, str | bytes | int):
        raise pickle.UnpicklingError(f"a key must be text or a number, but it is a {type(key).__name__}")


def read_pickle(path: Path) -> dict[bytes, Any]:
    """The dictionary pickled in a file; text that Python 2 wrote is bytes, arrays are `PickledArray`.

    Raises:
        DataError: the file cannot be read, is truncated, holds no dictionary, or names any other global.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError(0, "it is no file" if path.exists() else "No such file or directory")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file must be readable, but got: {error.strerror or error}") from error
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _Refused as error:
        raise DataError(f"{path}: a pickle must name no global but numpy arrays, but got {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = in_line(error)
        raise DataError(f"{path}: the file must be a whole pickle, but got: {reason}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: the pickle must hold a dictionary, but got {type(value).__name__}")
    return value
