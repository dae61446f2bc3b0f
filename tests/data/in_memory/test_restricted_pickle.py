from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from se_nas.data.in_memory.restricted_pickle import PickledArray, read_pickle
from se_nas.errors import DataError


class _Runs:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


class _Evaluates:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


def _write(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_plain_values_come_back(tmp_path: Path, protocol: int, order: str) -> None:
    array = np.asarray(np.arange(24, dtype=np.uint8).reshape(2, 12), order=order)
    value = read_pickle(_write(tmp_path / "file", {b"data": array, b"labels": [1, 2]}, protocol))
    assert value[b"labels"] == [1, 2]
    assert isinstance(value[b"data"], PickledArray)
    np.testing.assert_array_equal(value[b"data"].uint8(), array)


def test_a_file_as_python_2_wrote_it_can_be_read(tmp_path: Path) -> None:
    pixels = bytes(range(6))
    content = (
        b"\x80\x02}(U\x06labels](K\x03K\x04eU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06" + pixels + b"tbu."
    )
    (tmp_path / "file").write_bytes(content)
    value = read_pickle(tmp_path / "file")
    assert value[b"labels"] == [3, 4]
    assert value[b"data"].uint8().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = _write(tmp_path / "file", {b"data": _Runs(f"touch {trace}")})
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    assert str(path) in str(caught.value)
    assert f"{os.name}.system" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the attack itself is real
    assert trace.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_builtins_are_refused(tmp_path: Path, protocol: int) -> None:
    with pytest.raises(DataError, match="eval"):
        read_pickle(_write(tmp_path / "file", {b"data": _Evaluates()}, protocol))


def test_a_nested_name_below_an_allowed_module_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.")
    with pytest.raises(DataError, match=r"but got numpy\.ndarray\.tofile"):
        read_pickle(tmp_path / "file")


def test_every_truncation_of_a_pickle_is_an_error_of_one_line(tmp_path: Path) -> None:
    whole = pickle.dumps({b"data": np.zeros((2, 8), dtype=np.uint8), b"labels": [0, 1]}, protocol=2)
    for length in range(len(whole)):
        (tmp_path / "file").write_bytes(whole[:length])
        with pytest.raises(DataError, match="must be a whole pickle") as caught:
            read_pickle(tmp_path / "file")
        assert "\n" not in str(caught.value)


def test_a_pickle_of_no_dictionary_and_a_missing_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold a dictionary, but got list"):
        read_pickle(_write(tmp_path / "file", [1]))
    with pytest.raises(DataError, match=r"absent: the file must be readable, but got: No such file"):
        read_pickle(tmp_path / "absent")


@pytest.mark.parametrize("array", [np.zeros(4, dtype=np.int64), np.array([None]), np.zeros(4, dtype=np.float32)])
def test_an_array_of_another_type_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_pickle(_write(tmp_path / "file", {b"data": array}))[b"data"].uint8()


def _nested(levels: int) -> bytes:
    """A tuple of the tuple before it, twice: two to the power of `levels` in all."""
    twice = b"".join(b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) for level in range(levels))
    return b")q\x00" + twice


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}" + _nested(100) + b"U\x01as.",
        b"\x80\x02}(" + _nested(100) + b"U\x01au.",
        b"\x80\x02(" + _nested(100) + b"U\x01ad.",
        b"\x80\x04}U\x01a\x8f(" + _nested(100) + b"\x90s.",
        b"\x80\x04}U\x01a(" + _nested(100) + b"\x91s.",
    ],
)
def test_a_tuple_of_tuples_is_not_waited_for(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=r"a key must be text or a number|there must be no set"):
        read_pickle(tmp_path / "file")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(DataError, match="the file must be readable, but got: it is no file"):
        read_pickle(tmp_path / "file")
