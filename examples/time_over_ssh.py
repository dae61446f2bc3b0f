"""Times an ONNX file on another machine, for `latency: {runtime: command, device: board, run: ...}` with

run: python examples/time_over_ssh.py board --model {onnx} --runs {runs} --threads {threads}

where `ssh board` must need no password, and the other machine have Python with onnxruntime. One connection carries the
file and the script that times it, so that nothing is left there; milliseconds come back, one a line.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

THERE = """
import base64, time
import numpy, onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = {threads}, 1
model = base64.b64decode("{model}")
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
(images,) = session.get_inputs()
feed = {{images.name: numpy.random.default_rng(0).standard_normal(images.shape, dtype=numpy.float32)}}
for number in range({runs} + 5):
    start = time.perf_counter()
    session.run(None, feed)
    if number >= 5:  # the first ones warm up
        print((time.perf_counter() - start) * 1e3)
"""


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Time an ONNX file on another machine.")
    parser.add_argument("host", help="as ssh takes it; ~/.ssh/config says the port, the user and the key")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--python", default="python3", help="of the other machine")
    parser.add_argument("--ssh", default="ssh", help="the program that connects, with its options")
    asked = parser.parse_args(words)
    model = base64.b64encode(asked.model.read_bytes()).decode()
    script = THERE.format(model=model, runs=asked.runs, threads=asked.threads)
    # BatchMode fails where ssh would ask for a password, which nobody would see
    command = [*asked.ssh.split(), "-o", "BatchMode=yes", asked.host, asked.python, "-"]
    return subprocess.run(command, input=script, text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
