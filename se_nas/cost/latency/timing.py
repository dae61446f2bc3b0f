"""Latency as a clock sees it: whole networks and single blocks, as they will be deployed, on a machine never quiet.

What keeps the noise out: everything takes turns, so that a slow phase of the machine hits all alike; a run that is not
timed warms the caches before each one that is; and medians, which a few interrupted runs do not move. One CPU thread is
timed by its own clock, which stands still while another process has the core. On a quiet machine it shows what the wall
clock shows (to 0.3 %); at four busy processes on two cores, tables made with it missed held-out networks by 3 %, those
made with the wall clock by 11 %.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from se_nas.cost.memory import least_bytes
from se_nas.errors import DeviceError, counted, short
from se_nas.hardware.environment import processor_name
from se_nas.hardware.memory import check_fits
from se_nas.layers.blocks import Block
from se_nas.layers.network import Network
from se_nas.records.bounds import MOST_BATCH, MOST_WORKERS
from se_nas.space.specs import BlockSpec, NetworkSpec

BACKENDS = ("eager", "cuda_graph")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

OnProgress = Callable[[int, int], None]
"""Told how many timings are done, and of how many."""

_SHORT, _LONG = 2, 6
"""Copies in the two chains whose difference gives a block's time."""


@dataclass(frozen=True)
class LatencyKey:
    """The conditions under which a latency holds; see `latency_key` for those of this machine.

    Attributes:
        device: its kind and model, "cpu Intel(R) Xeon(R) Processor" or "cuda NVIDIA H200".
        backend: "eager", or "cuda_graph": captured once and replayed, which leaves out Python's and the launches' time.
        dtype: a name in DTYPES, of weights and images.
        batch_size: images in one run; latencies are per run, not per image.
        threads: CPU threads inside an operation.
    """

    device: str
    backend: str = "eager"
    dtype: str = "float32"
    batch_size: int = 1
    threads: int = 1

    @property
    def torch_device(self) -> torch.device:
        """The device without its model."""
        return torch.device(self.device.partition(" ")[0])


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of one run of a network.

    Attributes:
        ci95_ms: where the true median is with at least 95 % confidence, from order statistics (fewer than 6 runs: their
            range). It covers the noise between these runs, not that of another day.
        n: timed runs.
    """

    median_ms: float
    mean_ms: float
    ci95_ms: tuple[float, float]
    n: int


def latency_key(
    device: str = "cpu", backend: str = "eager", dtype: str = "float32", batch_size: int = 1, threads: int = 1
) -> LatencyKey:
    """The key for this machine's `device`: "cpu", "cuda" or "mps".

    Raises:
        DeviceError: the device is not there, or cannot run that backend; or an argument has no such value.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device, False):
        there = ", ".join(name for name, is_there in present.items() if is_there)
        raise DeviceError(f"latency is measured on a device that is there, one of {there}, but got {device!r}")
    allowed = BACKENDS if device == "cuda" else ("eager",)
    if backend not in allowed:
        raise DeviceError(f"latency backend on {device} must be one of {', '.join(allowed)}, but got {backend!r}")
    if dtype not in DTYPES:
        raise DeviceError(f"latency dtype must be one of {', '.join(DTYPES)}, but got {dtype!r}")
    if not (1 <= batch_size <= MOST_BATCH and 1 <= threads <= MOST_WORKERS):
        raise DeviceError(
            f"latency batch_size must be from 1 to {MOST_BATCH:,} and threads from 1 to {MOST_WORKERS:,}, "
            f"but got batch_size={short(batch_size)}, threads={short(threads)}"
        )
    return LatencyKey(f"{device} {processor_name(device)}", backend, dtype, batch_size, threads)


def check_memory(network: NetworkSpec, key: LatencyKey) -> None:
    """Raise DeviceError where a network cannot be run under the key for want of memory; nothing is built."""
    side = network.resolution
    must = "latency batch_size must be such that a run fits the memory"
    what = f"{must}, but a network with {counted(key.batch_size, 'image')} of {side}x{side} pixels takes"
    check_fits(least_bytes(network, key.batch_size, DTYPES[key.dtype].itemsize), key.torch_device, what)


def no_progress(done: int, total: int) -> None:
    """An `OnProgress` that tells nobody."""


def measure_network(network: Network | NetworkSpec, key: LatencyKey, *, rounds: int = 40) -> Measurement:
    """`measure_networks` for one network."""
    return measure_networks([network], key, rounds=rounds)[0]


def measure_networks(
    networks: Sequence[Network | NetworkSpec],
    key: LatencyKey,
    on_progress: OnProgress = no_progress,
    *,
    rounds: int = 40,
) -> list[Measurement]:
    """Time networks in turn: each round runs every one once untimed and once timed.

    A network that is given built keeps its weights and its state: a copy is timed, in eval mode.

    Args:
        rounds: timed runs of each network, at least 1.

    Raises:
        DeviceError: the key is of another machine, or a run does not fit the memory.
    """
    with _conditions(key):
        watch = _stopwatch(key)
        runs = []
        for network in networks:
            check_memory(network if isinstance(network, NetworkSpec) else network.spec, key)
            module = Network(network) if isinstance(network, NetworkSpec) else copy.deepcopy(network)
            spec = module.spec
            images = _feature_map(key, spec.in_channels, spec.resolution)
            runs.append(_runner(module, (images,), key))
        samples: list[list[float]] = [[] for _ in runs]
        for done in range(rounds * len(runs)):
            i = done % len(runs)
            runs[i]()
            samples[i].append(watch(runs[i]))
            on_progress(done + 1, rounds * len(runs))
    return [summarise(values) for values in samples]


def summarise(samples: Sequence[float]) -> Measurement:
    """Median, mean and the median's confidence interval of at least one sample, in milliseconds."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    # the k-th smallest and the k-th largest enclose the median unless fewer than k of n fair coins show one side
    k = max(1, int(binom.ppf(0.025, n, 0.5)))
    return Measurement(
        float(np.median(ordered)), float(np.mean(ordered)), (float(ordered[k - 1]), float(ordered[n - k])), n
    )


def measure_blocks(
    blocks: Sequence[BlockSpec], key: LatencyKey, on_progress: OnProgress = no_progress, *, passes: int = 8
) -> list[float]:
    """Milliseconds of each block inside a network: what one more copy adds to a chain of copies.

    The difference of a long and a short chain is free of what every timing pays once (the call, the first cache
    misses). Each pass visits all blocks and takes the least of a few timings of either chain; the answer is the median
    of the passes, and 0 where noise made it negative.

    Args:
        passes: visits to each block, at least 1.

    Raises:
        DeviceError: the key is of another machine.
    """
    slopes = np.zeros((passes, len(blocks)))
    with _conditions(key):
        watch = _stopwatch(key)
        for i in range(passes):
            for j, block in enumerate(blocks):
                slopes[i, j] = _slope(block, key, watch)
                on_progress(i * len(blocks) + j + 1, passes * len(blocks))
    return [max(0.0, float(value)) for value in np.median(slopes, axis=0)]


def _slope(block: BlockSpec, key: LatencyKey, watch: Callable[[Callable[[], object]], float]) -> float:
    # built at each visit: the chains of a whole space together would take gigabytes
    first = Block(block)
    copies = [first, *(copy.deepcopy(first) for _ in range(_LONG - 1))]
    maps = [_feature_map(key, block.in_channels, block.resolution) for _ in copies]
    short, long = (_runner(_Chain(copies[:n], block.keeps_shape), maps[:n], key) for n in (_SHORT, _LONG))
    timings = [(watch(short), watch(long)) for _ in range(3)]
    return (min(t for _, t in timings) - min(t for t, _ in timings)) / (_LONG - _SHORT)


class _Chain(nn.Module):
    """Copies of a block in a row; those of a block that changes the shape, each on a map of its own instead."""

    def __init__(self, copies: Sequence[nn.Module], feeds_itself: bool) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.feeds_itself = feeds_itself

    def forward(self, *maps: Tensor) -> Tensor:
        x = maps[0]
        for block, own in zip(self.copies, maps, strict=True):
            x = block(x if self.feeds_itself else own)
        return x


def _feature_map(key: LatencyKey, channels: int, resolution: int) -> Tensor:
    x = torch.randn(key.batch_size, channels, resolution, resolution)
    return x.to(key.torch_device, DTYPES[key.dtype]).to(memory_format=torch.channels_last)


def _runner(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Callable[[], object]:
    """A warmed-up call of the module under the key's backend."""
    module = module.eval().to(key.torch_device, DTYPES[key.dtype])
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub forgets it

    def run() -> object:
        return module(*inputs)

    if key.backend == "eager":
        run()
        return run
    # torch asks for a warm-up on another stream than the one that captures
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> object:
        graph.replay()
        return output  # kept alive with the graph that writes it

    return replay


def clock_name(key: LatencyKey) -> str:
    """What latencies under this key are read from."""
    if key.torch_device.type == "cuda":
        return "CUDA events"
    return "CPU time of the one thread" if _by_thread_clock(key) else "wall clock"


def _by_thread_clock(key: LatencyKey) -> bool:
    # Windows counts a thread's time in steps of 15 ms
    fine = time.get_clock_info("thread_time").resolution < 1e-6
    return key.torch_device.type == "cpu" and key.threads == 1 and fine


def _stopwatch(key: LatencyKey) -> Callable[[Callable[[], object]], float]:
    """A function that runs its argument and returns the milliseconds until the device is done."""
    device = key.torch_device.type
    clock = time.thread_time if _by_thread_clock(key) else time.perf_counter

    def elapsed(run: Callable[[], object]) -> float:
        if device == "mps":
            torch.mps.synchronize()
        start = clock()
        run()
        if device == "mps":
            torch.mps.synchronize()
        return (clock() - start) * 1e3

    def events(run: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    return events if device == "cuda" else elapsed


@contextmanager
def _conditions(key: LatencyKey) -> Iterator[None]:
    """Set the key's threads and inference mode, and put them and the random state back."""
    here = latency_key(key.torch_device.type, key.backend, key.dtype, key.batch_size, key.threads)
    if here != key:
        raise DeviceError(f"latency must be measured on the key's device, {key.device}, but this is {here.device}")
    threads = torch.get_num_threads()
    torch.set_num_threads(key.threads)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)
