"""What a runtime is: how it prepares a network to be timed, where it runs, and what it needs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.records.registry import Code, imported

Sampler = Callable[[int], list[float]]
"""Runs a prepared network so many times, once it is as fast as it gets, and gives the milliseconds of every run."""

Prepare = Callable[[nn.Module, Sequence[Tensor], LatencyKey], Sampler]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What runs a network where it is deployed; a latency is one of a runtime.

    Attributes:
        title: what it is called in sentences.
        prepare: a function of a module in eval mode, its inputs and the key (all on the key's device and of its dtype),
            which gives a `Sampler` that is warm.
        devices: kinds of device of this machine that it runs on; none where the device is another one.
        dtypes: names of the number formats that it runs in.
        clock: what its milliseconds are read from under a key, in words.
        packages: what it imports; extra: the extra of this package that brings them.
        default_on: kinds of device that it is the default on, where it is installed.
        chains: whether a block can be timed by chains of its copies; else whole networks alone are timed.
        graph: whether it leaves out what no output needs, as compilers of graphs do.
        runs_a_turn: timed runs of one network in a row before the next one's turn; few spread a slow moment over all.
        visits: how often everything is timed while a table is made; fewer where it takes long to prepare a network.
        of: the key of a run file that it cannot do without: a program to run, or a file of what was timed.
    """

    title: str
    prepare: Code
    devices: tuple[str, ...]
    clock: Callable[[LatencyKey], str]
    dtypes: tuple[str, ...] = ("float32",)
    packages: tuple[str, ...] = ()
    extra: str | None = None
    default_on: tuple[str, ...] = ()
    chains: bool = True
    graph: bool = True
    runs_a_turn: int = 2
    visits: int = 4
    of: Literal["run", "file"] | None = None

    @property
    def timed(self) -> bool:
        """Whether networks can be timed in it; else there is a table alone."""
        return self.of != "file"

    @property
    def remote(self) -> bool:
        """Whether the device is another one than this machine's."""
        return not self.devices

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)

    @property
    def versions(self) -> dict[str, str]:
        """Of its packages, as far as they say."""
        found = {}
        for package in self.packages:
            with suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
        return found

    def prepared(self, module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> Sampler:
        """See `prepare`."""
        return cast(Sampler, imported(self.prepare)(module, inputs, key))
