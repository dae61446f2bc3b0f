"""The process that OpenVINO runs in, which is given models and answers milliseconds.

It is run as a file and imports nothing of the package, so that it starts in half a second and holds no torch. A request
is a line of words: "prepare NUMBER THREADS BYTES" with a model of so many bytes after it, "run NUMBER RUNS CLOCK", or
"forget NUMBER", which alone has no answer. An answer is a line of JSON: milliseconds, or what went wrong in words. The
process ends where there are no more requests, as when whoever started it was killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

#: Runs until a network that had no turn for a while takes no longer than one that runs on and on, as it does where it
#: serves: its weights are not all in the nearer caches after the first one. The second run of networks of mbconv_cifar
#: took up to 30 % longer than the later ones in ONNX Runtime, the fifth 1 to 2 %.
UNTIMED = 4
CLOCKS = {"thread": time.thread_time, "wall": time.perf_counter}


def timed_runs(run: Callable[[], object], seconds: Callable[[], float], runs: int) -> list[float]:
    """Milliseconds of so many runs by a clock, after `UNTIMED` that are not timed."""
    for _ in range(UNTIMED):
        run()
    found = []
    for _ in range(runs):
        start = seconds()
        run()
        found.append((seconds() - start) * 1e3)
    return found


def _prepared(core: Any, model: bytes, threads: int) -> Callable[[], object]:
    """Runs a compiled model with one stream, as one image after another is served."""
    import numpy as np
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        # by itself it would run float32 networks in bfloat16 where the processor can
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request = compiled.create_infer_request()
    rng = np.random.default_rng(0)
    for place, declared in enumerate(compiled.inputs):
        images = rng.standard_normal(tuple(declared.shape), dtype=np.float32)
        request.set_input_tensor(place, openvino.Tensor(images, shared_memory=False))

    def run() -> object:
        return request.infer(share_inputs=True, share_outputs=True)

    for _ in range(3):
        run()
    return run


def serve() -> NoReturn:
    """Answer requests until there are no more, and end."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import openvino

    core = openvino.Core()
    prepared: dict[str, Callable[[], object]] = {}
    for line in requests:
        what, number, *values = line.decode().split()
        answer: list[float] | str = []
        try:
            if what == "forget":
                prepared.pop(number, None)
                continue
            if what == "prepare":
                threads, size = map(int, values)
                prepared[number] = _prepared(core, requests.read(size), threads)
            else:
                answer = timed_runs(prepared[number], CLOCKS[values[1]], int(values[0]))
        except Exception as error:  # whatever OpenVINO raises of a model
            answer = " ".join(str(error).split())
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # OpenVINO's own end was seen to wait for ever


if __name__ == "__main__":
    serve()
