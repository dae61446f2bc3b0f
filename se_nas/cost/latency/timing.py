"""Latency as a clock sees it: whole networks and single blocks, as they will be deployed, on a machine never quiet.

What keeps the noise out: everything takes turns, so that a slow phase of the machine hits all alike; runs that are not
timed warm the caches at the beginning of each turn; and medians, which a few interrupted runs do not move.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from se_nas.cost.counts import block_counts
from se_nas.cost.latency.chains import chains
from se_nas.cost.latency.key import DTYPES, LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES, default_runtime
from se_nas.cost.latency.runtimes.runtime import Sampler
from se_nas.cost.memory import least_bytes
from se_nas.errors import DeviceError, counted, did_you_mean, install, short
from se_nas.hardware.device import UNTUNED, arithmetic, present_devices
from se_nas.hardware.environment import processor_name
from se_nas.hardware.memory import check_fits
from se_nas.layers.network import Network
from se_nas.records.bounds import MOST_BATCH, MOST_WORKERS
from se_nas.records.models.certificate import LatencyConditions
from se_nas.space.specs import BlockSpec, NetworkSpec

OnProgress = Callable[[int, int], None]
"""Told how many timings are done, and of how many."""

_LENGTHS = (2, 6)
"""Copies in the two chains whose difference gives a block's time."""
_CHECKED = 16
"""Blocks of which it is looked at whether chains are linear in their copies."""
_MOST_BEND = 0.3
"""Share by which two more copies may take longer or less than the two before; a busy machine bends it by 0.1."""


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
    device: str = "cpu",
    runtime: str | None = None,
    dtype: str = "float32",
    batch_size: int = 1,
    threads: int = 1,
    program: str | None = None,
) -> LatencyKey:
    """The key for this machine's `device`, "cpu", "cuda" or "mps"; of a runtime elsewhere, for what a device is called.

    Args:
        runtime: a name in RUNTIMES; None for the default one, see `default_runtime`.
        program: of a runtime elsewhere, what times there.

    Raises:
        DeviceError: the device is not there, or cannot run that runtime; or an argument has no such value.
    """
    if dtype not in DTYPES:
        raise DeviceError(f"latency dtype must be one of {', '.join(DTYPES)}, but got {dtype!r}")
    if not (1 <= batch_size <= MOST_BATCH and 1 <= threads <= MOST_WORKERS):
        raise DeviceError(
            f"latency batch_size must be from 1 to {MOST_BATCH:,} and threads from 1 to {MOST_WORKERS:,}, "
            f"but got batch_size={short(batch_size)}, threads={short(threads)}"
        )
    if runtime is not None and runtime not in RUNTIMES:
        hint = did_you_mean(runtime, RUNTIMES)
        raise DeviceError(f"latency runtime must be one of {', '.join(RUNTIMES)}, but got {short(runtime)}{hint}")
    if runtime is not None and RUNTIMES[runtime].remote:
        if RUNTIMES[runtime].of == "run" and program is None:
            raise DeviceError(f"latency runtime {runtime} needs a program that times: `run` beside it in a run file")
        return LatencyKey(device, runtime, dtype, batch_size, threads, program)
    if device not in (present := present_devices()):
        must = f"latency is measured on a device that is there, one of {', '.join(present)}"
        raise DeviceError(f"{must}, but got {device!r}")
    runtime = runtime or default_runtime(device, dtype)
    entry = RUNTIMES[runtime]
    if device not in entry.devices:
        able = ", ".join(name for name, other in RUNTIMES.items() if device in other.devices)
        raise DeviceError(f"latency runtime on {device} must be one of {able}, but got {runtime!r}")
    if dtype not in entry.dtypes:
        raise DeviceError(f"latency dtype of {runtime} must be one of {', '.join(entry.dtypes)}, but got {dtype!r}")
    if entry.missing:
        how = install(entry.extra) if entry.extra else f"pip install {' '.join(entry.missing)}"
        raise DeviceError(f"latency runtime {runtime} needs {' and '.join(entry.missing)}, not installed here: {how}")
    by_torch = device == "cuda" and not entry.packages
    found = LatencyKey(f"{device} {processor_name(device)}", runtime, dtype, batch_size, threads)
    return replace(found, arithmetic=UNTUNED) if by_torch else found


def latency_conditions(key: LatencyKey) -> LatencyConditions:
    """The conditions as certificates and other files have them."""
    found = LatencyConditions(
        device=key.device,
        runtime=key.runtime,
        dtype=key.dtype,
        batch_size=key.batch_size,
        threads=key.threads,
        clock=clock_name(key),
    )
    more = {"program": key.program, "arithmetic": key.arithmetic}
    return found.model_copy(update={name: value for name, value in more.items() if value is not None})


def key_under(conditions: LatencyConditions) -> LatencyKey:
    """The key for this machine under the conditions of a certificate, which may be another machine's.

    Raises:
        DeviceError: this machine has not what they name.
    """
    runtime = RUNTIMES.get(conditions.runtime)
    device = conditions.device if runtime and runtime.remote else conditions.device.partition(" ")[0]
    same = (conditions.runtime, conditions.dtype, conditions.batch_size, conditions.threads, conditions.program)
    return latency_key(device, *same)


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
    """Time networks in turn: in each, one runs until the caches are warm, and then a few times by the clock.

    A network that is given built keeps its weights and its state: a copy is timed, in eval mode.

    Args:
        rounds: timed runs of each network, at least 1.

    Raises:
        DeviceError: the key is of another machine, or a run does not fit the memory.
    """
    with _conditions(key):
        samplers = [_network_sampler(network, key) for network in networks]
        samples: list[list[float]] = [[] for _ in samplers]
        a_turn = RUNTIMES[key.runtime].runs_a_turn
        for left in range(rounds, 0, -a_turn):
            for i, sampler in enumerate(samplers):
                samples[i] += sampler(min(a_turn, left))
                done = (rounds - left) * len(samplers) + (i + 1) * min(a_turn, left)
                on_progress(done, rounds * len(samplers))
    return [summarise(values) for values in samples]


@contextmanager
def prepared(network: Network | NetworkSpec, key: LatencyKey) -> Iterator[Sampler]:
    """What runs a network as it is timed, under the key's conditions while the block lasts."""
    with _conditions(key):
        yield _network_sampler(network, key)


def summarise(samples: Sequence[float]) -> Measurement:
    """Median, mean and the median's confidence interval of at least one sample, in milliseconds."""
    return Measurement(float(np.median(samples)), float(np.mean(samples)), median_interval(samples), len(samples))


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Where the true median is with at least 95 % confidence, from order statistics of at least one sample."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    # the k-th smallest and the k-th largest enclose the median unless fewer than k of n fair coins show one side
    k = max(1, int(binom.ppf(0.025, n, 0.5)))
    return float(ordered[k - 1]), float(ordered[n - k])


def measure_blocks(
    blocks: Sequence[BlockSpec], key: LatencyKey, on_progress: OnProgress = no_progress, *, passes: int = 8
) -> list[float] | None:
    """Milliseconds of each block inside a network: what one more copy adds to a chain of copies.

    The difference of a long and a short chain is free of what every timing pays once (the call, the first cache
    misses). Each pass visits all blocks and takes the least of a few timings of either chain; the answer is the median
    of the passes, and 0 where noise made it negative. None where a runtime does not take in proportion longer for more
    copies, as one that sees through a chain would not.

    Args:
        passes: visits to each block, at least 1.

    Raises:
        DeviceError: the key is of another machine.
    """
    slopes = np.zeros((passes, len(blocks)))
    with _conditions(key):
        if RUNTIMES[key.runtime].graph and not chains_are_linear(blocks, key):
            return None
        for i in range(passes):
            for j, block in enumerate(blocks):
                short, long = chain_ms(block, key, _LENGTHS)
                slopes[i, j] = (long - short) / (_LENGTHS[1] - _LENGTHS[0])
                on_progress(i * len(blocks) + j + 1, passes * len(blocks))
    return [max(0.0, float(value)) for value in np.median(slopes, axis=0)]


def chains_are_linear(blocks: Sequence[BlockSpec], key: LatencyKey) -> bool:
    """Whether the second copies added to chains take as long as the first ones, over some of the blocks together."""
    built = [block for block in blocks if block_counts(block).macs]  # of the others a chain is no longer
    some = built[:: -(-len(built) // _CHECKED) or 1]
    for _ in range(2):  # a busy moment passes
        times = np.array([chain_ms(block, key, (2, 4, 6)) for block in some])
        first, second = np.diff(times.sum(axis=0)) if some else (1.0, 1.0)
        if first > 0 and abs(second / first - 1) <= _MOST_BEND:
            return True
    return False


def chain_ms(block: BlockSpec, key: LatencyKey, lengths: Sequence[int]) -> list[float]:
    """The least of a few timings of chains of so many copies of a block."""
    # built at each visit: the chains of a whole space together would take gigabytes
    samplers = []
    for chain in chains(block, lengths, share=RUNTIMES[key.runtime].graph):
        maps = [_feature_map(key, block.in_channels, block.resolution) for _ in chain.copies]
        samplers.append(_sampler(chain, maps[:1] if block.keeps_shape and RUNTIMES[key.runtime].graph else maps, key))
    return [min(sampler(3)) for sampler in samplers]


def _network_sampler(network: Network | NetworkSpec, key: LatencyKey) -> Sampler:
    check_memory(network if isinstance(network, NetworkSpec) else network.spec, key)
    module = Network(network) if isinstance(network, NetworkSpec) else copy.deepcopy(network)
    spec = module.spec
    return _sampler(module, [_feature_map(key, spec.in_channels, spec.resolution)], key)


def _feature_map(key: LatencyKey, channels: int, resolution: int) -> Tensor:
    x = torch.randn(key.batch_size, channels, resolution, resolution)
    return x.to(key.torch_device, DTYPES[key.dtype]).to(memory_format=torch.channels_last)


def _sampler(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
    """What times the module in the key's runtime."""
    module = module.eval().to(key.torch_device, DTYPES[key.dtype])
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub forgets it
    return RUNTIMES[key.runtime].prepared(module, inputs, key)


def clock_name(key: LatencyKey) -> str:
    """What latencies under this key are read from."""
    return RUNTIMES[key.runtime].clock(key)


@contextmanager
def _conditions(key: LatencyKey) -> Iterator[None]:
    """Set the key's threads, arithmetic and inference mode, and put them and the random state back."""
    device = key.device if RUNTIMES[key.runtime].remote else key.torch_device.type
    here = latency_key(device, key.runtime, key.dtype, key.batch_size, key.threads, key.program)
    if here != key:
        raise DeviceError(f"latency must be measured on the key's device, {key.device}, but this is {here.device}")
    threads = torch.get_num_threads()
    torch.set_num_threads(key.threads)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(), arithmetic(key.torch_device, tuned=False):
            torch.default_generator.manual_seed(0)  # torch's own seeds those of GPUs too
            yield
    finally:
        torch.set_num_threads(threads)
