"""Somebody else's measurements: a table that was imported, beside which nothing can be timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from torch import Tensor, nn

from se_nas.cost.latency.key import LatencyKey
from se_nas.errors import DeviceError


def prepare(module: nn.Module, inputs: Sequence[Tensor], key: LatencyKey) -> NoReturn:
    """Raise DeviceError: the device is not here."""
    must = "a network must be timed where its latency can be measured"
    raise DeviceError(f"{must}, but of {key.device} there is an imported table alone")
