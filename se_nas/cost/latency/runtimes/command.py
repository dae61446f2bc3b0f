"""A program of the user's, which is given an ONNX file and prints milliseconds: a phone over adb, a board over ssh.

No shell reads the command line: it is split into words as a shell would, and the words in braces are replaced then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from se_nas.cost.latency.folder import latency_folder
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.cost.latency.runtimes.processes import Reader, end, ending
from se_nas.cost.latency.runtimes.runtime import Sampler
from se_nas.errors import DeviceError, counted, short
from se_nas.records.bounds import LEAST_MS, MOST_MS
from se_nas.records.files import write_atomic
from se_nas.records.locks import holder, locked

PLACES = ("onnx", "runs", "batch_size", "threads")
#: Bytes that a program may print, and those of its errors that are looked at: the last ones.
_MOST_OUTPUT, _LAST_ERRORS = 2**20, 2**12
#: Seconds for which the rest is awaited of what a program printed that has ended: what it started may hold it open.
_LAST_WORDS = 5.0
_PLACE = re.compile(r"\{(\w*)\}")

_log = logging.getLogger(__name__)


def program_faults(program: str) -> list[str]:
    """What is wrong with a command line, in words that may follow its name."""
    try:
        words = shlex.split(program)
    except ValueError as error:
        return [f"must be a command line, but it has {str(error).lower()}: {short(program)}"]
    named = set(_PLACE.findall(" ".join(words)))
    if unknown := sorted(named - set(PLACES)):
        places = ", ".join(f"{{{place}}}" for place in PLACES)
        return [f"must have no words in braces but {places}, but got {', '.join(f'{{{name}}}' for name in unknown)}"]
    if not words or "onnx" not in named:
        return [f"must be a command line with {{onnx}} where the network's file goes, but got {short(program)}"]
    return []


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """A call of the key's program, which times the network elsewhere.

    Raises:
        DeviceError: when it is called, and the program is not there, or fails as often as it may.
    """
    model = onnx_bytes(module, inputs, key.dtype)
    assert key.program is not None

    def sample(runs: int) -> list[float]:
        with tempfile.TemporaryDirectory(prefix="se_nas_") as folder:
            path = Path(folder) / "network.onnx"
            write_atomic(path, model)
            values = {"onnx": path, "runs": runs, "batch_size": key.batch_size, "threads": key.threads}
            words = [_PLACE.sub(lambda match: str(values[match[1]]), word) for word in shlex.split(key.program or "")]
            with _alone(key):
                return _tried(words, key)

    return sample


class _Failure(Exception):
    """What a call came to, in words that may follow "must print milliseconds, but"."""


def _tried(words: Sequence[str], key: LatencyKey) -> list[float]:
    must = f"the program of latency runtime command, {short(words[0])}, must print milliseconds"
    for attempt in range(key.retries + 1):
        try:
            return parse_milliseconds(_output(words, key.timeout))
        except _Failure as failure:
            if attempt == key.retries:
                raise DeviceError(f"{must}, but {failure} ({counted(attempt + 1, 'try', 'tries')})") from None
            _log.warning("%s, but %s: it is called again", must, failure)
    raise AssertionError("a program is called once at least")


def _output(words: Sequence[str], timeout: float) -> str:
    try:
        # in a session of its own, so that what it has started ends with it
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise DeviceError(
            f"the program of latency runtime command must be one that can be started, but {short(words[0])} cannot: "
            f"{error.strerror}"
        ) from error
    output, errors = Reader(process.stdout, slice(_MOST_OUTPUT)), Reader(process.stderr, slice(-_LAST_ERRORS, None))
    try:
        process.wait(timeout)
        for reader in (output, errors):
            reader.join(_LAST_WORDS)
    except subprocess.TimeoutExpired:
        raise _Failure(f"it was still running after {timeout:g} s") from None
    finally:
        end(process)
    if process.returncode:
        raise _Failure(f"it {ending(process, errors.text())}")
    if output.read > _MOST_OUTPUT:
        raise _Failure(f"it printed {output.read:,} bytes, of which no more than {_MOST_OUTPUT:,} are read")
    return output.text()


def parse_milliseconds(output: str) -> list[float]:
    """The milliseconds that a program printed: one a line, or JSON, a list of them or an object with "ms" or
    "milliseconds".

    Raises:
        _Failure: it printed something else.
    """
    try:
        value = json.loads(output)
    except ValueError:
        value = output.split("\n")
        value = [line.strip() for line in value if line.strip()]
    if isinstance(value, dict):
        value = value.get("ms", value.get("milliseconds"))
    if isinstance(value, (int, float)):
        value = [value]
    try:
        found = [float(item) for item in value if not isinstance(item, bool)]
    except (TypeError, ValueError, OverflowError):
        found = []
    if not found or len(found) != len(value) or not all(LEAST_MS <= ms <= MOST_MS for ms in found):
        raise _Failure(f"it printed {short(output.strip())}")
    return found


@contextmanager
def _alone(key: LatencyKey) -> Iterator[None]:
    """One network at a time on a device: two would disturb each other."""
    digest = hashlib.sha256(f"{key.device}\n{key.program}".encode()).hexdigest()[:12]
    path = latency_folder() / f"device_{digest}.lock"
    with locked(path, wait=False) as held:
        if held:
            yield
            return
    _log.warning("latency: %s has the device %s: this process waits for it", holder(path), key.device)
    with locked(path):
        yield
