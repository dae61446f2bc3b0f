"""The conditions that a latency holds under: a table, a certificate and a cache are of one set of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats that torch runs a network in."""

DTYPES = {**FLOATS, "int8": torch.float32}
"""Number formats of latencies, and what a network is given in each: a quantised one takes and gives floats."""


@dataclass(frozen=True)
class LatencyKey:
    """The conditions under which a latency holds; see `latency_key` for those of this machine.

    Attributes:
        device: its kind and model, "cpu Intel(R) Xeon(R) Processor" or "cuda NVIDIA H200"; of a device that a program
            of the user's times, what the user calls it.
        runtime: what runs the network, a name in RUNTIMES.
        dtype: a name in DTYPES.
        batch_size: images in one run; latencies are per run, not per image.
        threads: CPU threads inside an operation.
        program: the command line of runtime "command".
        arithmetic: of torch on a CUDA device how it finds kernels and rounds, in words.
        timeout: seconds that the program may take for one network; retries: how often it is called again where it
            fails. Neither changes what a latency is.
    """

    device: str
    runtime: str = "eager"
    dtype: str = "float32"
    batch_size: int = 1
    threads: int = 1
    program: str | None = None
    arithmetic: str | None = None
    timeout: float = field(default=600.0, compare=False)
    retries: int = field(default=2, compare=False)

    @property
    def torch_device(self) -> torch.device:
        """Where its tensors are made: the device without its model, or the CPU for one that is elsewhere."""
        kind = self.device.partition(" ")[0]
        return torch.device(kind if kind in ("cuda", "mps", "xpu") and self.program is None else "cpu")
