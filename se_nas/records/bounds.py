"""Bounds of numbers that a user may give, one for each kind: what nobody can mean is refused before work begins."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator

#: The greatest seed: torch, NumPy and what derives others from it take every one up to here.
MOST_SEED = 2**32 - 1
#: CPU threads, or processes at a time: an operating system gives out no more, and torch ends the process instead.
MOST_WORKERS = 1024
#: Of anything that is counted one by one: epochs, evaluations, networks.
MOST_COUNT = 1_000_000
#: Images at once.
MOST_BATCH = 2**20

#: Milliseconds of one run of a network: nothing runs in a nanosecond, or is waited for over a quarter of an hour.
LEAST_MS, MOST_MS = 1e-6, 1e6

#: Opsets of ONNX that networks can be written in, and the one they are written in by default.
OLDEST_OPSET, USUAL_OPSET, NEWEST_OPSET = 13, 18, 25

# Of networks: each is greater than in any network that was ever published.
MOST_CHANNELS = 2**16
MOST_CLASSES = 2**20
MOST_PIXELS = 2**14
MOST_KERNEL = 127
MOST_STRIDE = 64
MOST_STAGE, MOST_BLOCKS = 1000, 10_000
MOST_HIDDEN_LAYERS = 100
#: Widths that one place may choose among, of which each pair with those of the place before is a block of its own, and
#: resolutions of a space.
MOST_SIZES = 64
#: Weights of all convolutions and linear layers together; 16 GB in float32.
MOST_WEIGHTS = 4 * 10**9


def size_within(most: float) -> AfterValidator:
    """A validator of pydantic's of a size in a network."""

    def check(value: Any) -> Any:
        if value > most:
            raise ValueError(f"must be at most {most:,}, which is more than any published network has")
        return value

    return AfterValidator(check)
