"""The metrics of cost: what each counts of a network, and how it is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context
from typing import Any, Literal

from se_nas.cost.counts import attention_counts, block_counts, head_counts, stem_counts
from se_nas.cost.deployed_weights import attention_weights, block_weights, built_weights, ends_weights
from se_nas.cost.peak_activation import block_peak, ends_peak
from se_nas.cost.running_schedule import peak_of_running
from se_nas.layers.network import Network
from se_nas.records.fields import LATENCY as LATENCY
from se_nas.records.registry import Registry
from se_nas.space.specs import BlockSpec, ConvSpec, HeadSpec, NetworkSpec

PEAK, ENERGY = "peak_activation_bytes", "energy_mj"

#: Weights and activations are counted as float32, whatever a latency is measured in: that of what is exported.
FLOAT_BYTES = 4

Parts = Literal["sum", "max"]
"""What a network's cost is of the parts of its stem, its blocks and its head: their sum, or the greatest of them."""

_OF_DEVICE = re.compile(rf"{LATENCY}\.([A-Za-z0-9_-]{{1,60}})")


def latency_on(device: str | None) -> str:
    """The metric of latency on a device of a run of several; None for that of a run of one."""
    return LATENCY if device is None else f"{LATENCY}.{device}"


def device_of(metric: object) -> str | None:
    """The device whose latency a metric is, of a run of several; None of every other metric."""
    found = _OF_DEVICE.fullmatch(metric) if isinstance(metric, str) else None
    return found and found[1]


def is_latency(metric: str) -> bool:
    """Whether a metric is a latency, on whichever device."""
    return metric == LATENCY or device_of(metric) is not None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A cost of a network, from a part of each block and one of the stem and the head.

    Budgets, objectives, tables, certificates and pages take every metric that is registered.

    Attributes:
        title: what it is called where it stands alone, such as "Parameters"; unit: what follows a number.
        block: its part of one block; None where it is measured, as latency and energy are.
        attention: what of that part is the block's attention's, where it is a summand that no kernel changes; tables of
            many options are made much faster then.
        reads_kernel: whether blocks that differ in the kernels of their convolutions alone may differ in it.
        parts: whether the parts add up, or the greatest is the network's; none may be below 0 in that case.
        rest: its part of the stem and the head; by default nothing.
        built: the same of a network that is really built, in eval mode, counted on the modules themselves, as
            certificates check it; by default what `block` and `rest` say of the specification.
        digits: significant ones that are shown; prefixes: whether thousands and millions are k and M; joined: whether
            these are written to the unit, as in MB.
        noun: of what it is, where a sentence has others in the same unit: "1.2 MB weights".
        aside: whether tables of many networks leave it out where it is neither a budget nor an objective.
    """

    title: str
    unit: str
    block: Callable[[BlockSpec], float] | None = None
    attention: Callable[[BlockSpec], float] | None = None
    reads_kernel: bool = True
    rest: Callable[[Sequence[ConvSpec], HeadSpec], float] | None = None
    parts: Parts = "sum"
    built: Callable[[Network], float] | None = None
    digits: int = 4
    prefixes: bool = True
    joined: bool = False
    noun: str = ""
    aside: bool = False

    @property
    def counted(self) -> bool:
        """Whether it is known exactly without a clock."""
        return self.block is not None

    def fixed(self, stem: Sequence[ConvSpec], head: HeadSpec) -> float:
        """Of the stem and the head."""
        return float(self.rest(stem, head)) if self.rest else 0.0

    def of(self, spec: NetworkSpec) -> float:
        """Of a network's specification; the metric must be a counted one."""
        assert self.block is not None
        parts = [self.fixed(spec.stem_convs, spec.head), *(float(self.block(block)) for block in spec.blocks)]
        return max(parts) if self.parts == "max" else sum(parts)

    def format(self, value: float, up: bool = False) -> str:
        """A cost for people: `4.21 M MACs`, `1.2 MB`, `1.93 ms`; `up` rounds it up, to be read as a limit."""
        if up:
            value = float(Context(prec=self.digits, rounding=ROUND_CEILING).create_decimal_from_float(value))
        if self.prefixes:
            for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
                if abs(value) >= size:
                    return f"{value / size:.{self.digits}g}{suffix}{'' if self.joined else ' '}{self.unit}"
            return f"{value:g} {self.unit}"
        return f"{value:.{self.digits}g} {self.unit}"


class Metrics(Registry[Metric]):
    """What is registered, and the latency on every device that a run may name, `latency_ms.phone`."""

    def __missing__(self, name: str) -> Metric:
        if (device := device_of(name)) is None:
            raise KeyError(name)
        return replace(self[LATENCY], title=f"{self[LATENCY].title} on {device}", noun=f"on {device}")

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or device_of(name) is not None

    def checked(self, name: Any, also: Sequence[str] = (), where: Callable[[Metric], bool] = lambda entry: True) -> str:
        """See `Registry.checked`; the names that a message lists are those registered."""
        return super().checked(name, (*also, *([name] if device_of(name) and where(self[name]) else [])), where)

    def listed(self, known: Iterable[str]) -> list[str]:
        """The names of all, with the latencies on devices among those that are known in the place of plain latency."""
        devices = [name for name in dict.fromkeys(known) if device_of(name) is not None]
        return [one for name in self for one in (devices if devices and name == LATENCY else [name])]


METRICS = Metrics(
    "metric",
    {
        "macs": Metric(
            title="MACs",
            unit="MACs",
            block=lambda block: block_counts(block).macs,
            attention=lambda block: attention_counts(block).macs,
            rest=lambda stem, head: (stem_counts(stem) + head_counts(head)).macs,
        ),
        "params": Metric(
            title="Parameters",
            unit="parameters",
            block=lambda block: block_counts(block).params,
            attention=lambda block: attention_counts(block).params,
            rest=lambda stem, head: (stem_counts(stem) + head_counts(head)).params,
            built=lambda network: sum(parameter.numel() for parameter in network.parameters()),
        ),
        LATENCY: Metric(title="Latency", unit="ms", digits=3, prefixes=False),
        "weight_bytes": Metric(
            title="Weights",
            unit="B",
            noun="weights",
            block=lambda block: FLOAT_BYTES * block_weights(block),
            attention=lambda block: FLOAT_BYTES * attention_weights(block),
            rest=lambda stem, head: FLOAT_BYTES * ends_weights(stem, head),
            built=lambda network: FLOAT_BYTES * built_weights(network),
            joined=True,
            aside=True,
        ),
        PEAK: Metric(
            title="Peak activations",
            unit="B",
            noun="activations",
            block=lambda block: FLOAT_BYTES * block_peak(block),
            reads_kernel=False,
            rest=lambda stem, head: FLOAT_BYTES * ends_peak(stem, head),
            parts="max",
            built=lambda network: FLOAT_BYTES * peak_of_running(network),
            joined=True,
            aside=True,
        ),
        ENERGY: Metric(title="Energy", unit="mJ", digits=3, prefixes=False, aside=True),
    },
)


def is_aside(metric: str) -> bool:
    """Whether a metric, registered or that of a table made by hand, is shown only where it is asked for."""
    return metric in METRICS and METRICS[metric].aside
