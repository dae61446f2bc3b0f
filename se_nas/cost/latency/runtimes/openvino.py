"""OpenVINO (https://docs.openvino.ai) on CPUs, in a process of its own.

Where OpenVINO 2026.4 had run in a process, a training there that SIGTERM stopped later ended in a segmentation fault.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import openvino_process
from se_nas.cost.latency.runtimes.clocks import counts_thread_time
from se_nas.cost.latency.runtimes.onnx_model import onnx_bytes
from se_nas.cost.latency.runtimes.processes import end, ending
from se_nas.cost.latency.runtimes.runtime import Sampler
from se_nas.errors import DeviceError

#: Seconds that a process which no longer answers is given to end by itself, so that it can be said how.
_TO_END = 5.0
#: Seconds between two looks whether the process that is to answer still runs.
_LOOK_EVERY = 1.0


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """A model that is compiled and run by the process of OpenVINO, which is started where there is none.

    Raises:
        DeviceError: OpenVINO cannot run it; or, here and when it is called, the process has ended.
    """
    process = _running()
    number = process.prepare(onnx_bytes(module, inputs, key.dtype), key.threads)
    clock = "thread" if counts_thread_time(key) else "wall"

    def sample(runs: int) -> list[float]:
        return process.ask(f"run {number} {runs} {clock}")

    # at most noted here: it may be called in the middle of another request
    weakref.finalize(sample, process.forgotten.append, number).atexit = False
    return sample


class _Process:
    """See `openvino_process`.

    Attributes:
        forgotten: numbers of models that nobody will run again.
    """

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self._owner = os.getpid()
        self._numbers = itertools.count()
        self._one_at_a_time = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would fill
        # in a session of its own, so that Ctrl-C interrupts who waits for it, who then ends it; -P: the file's folder,
        # which has a module called openvino too, is not searched
        self._process = subprocess.Popen(
            [sys.executable, "-P", openvino_process.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def prepare(self, model: bytes, threads: int) -> int:
        """The number that a model is run by."""
        number = next(self._numbers)
        self.ask(f"prepare {number} {threads} {len(model)}", model)
        return number

    def ask(self, request: str, data: bytes = b"") -> list[float]:
        """What it answers.

        Raises:
            DeviceError: it has ended, or says that the request cannot be fulfilled.
        """
        with self._one_at_a_time:
            answer = None
            try:
                answer = self._answer(request, data)
            except (OSError, ValueError):
                raise DeviceError(f"runtime openvino must answer, but its process {self._ending()}") from None
            finally:
                if answer is None:
                    self.end()  # of an interrupted request the answer would be taken for the next one's
        if isinstance(answer, str):
            raise DeviceError(f"runtime openvino must be able to run the network, but says: {answer:.200}")
        return answer

    def _answer(self, request: str, data: bytes) -> list[float] | str:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        while self.forgotten:
            requests.write(f"forget {self.forgotten.pop()}\n".encode())
        requests.write(f"{request}\n".encode() + data)
        requests.flush()
        # another process that was forked in the wrong moment may hold the pipe open, which then has no end
        while not _readable(answers, _LOOK_EVERY):
            if not self.running and not _readable(answers, 0.0):
                raise OSError("it has ended without an answer")
        found: list[float] | str = json.loads(answers.readline())
        return found

    def _ending(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TO_END)
        end(self._process)
        self._errors.seek(0)
        return ending(self._process, self._errors.read().decode(errors="replace"))

    def end(self) -> None:
        """Also where it has ended by itself."""
        if os.getpid() == self._owner:  # and not one that was forked
            end(self._process)
            self._errors.close()


def _readable(pipe: IO[bytes], seconds: float) -> bool:
    return bool(select.select([pipe], [], [], seconds)[0])


#: By the process that started it: one that was forked would share the pipes of another.
_processes: dict[int, _Process] = {}


def _running() -> _Process:
    own = os.getpid()
    if own not in _processes or not _processes[own].running:
        _processes[own] = _Process()
        atexit.register(_processes[own].end)
    return _processes[own]
