"""The metrics of steps, which stay on the device until somebody looks, and the lines that say them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from se_nas.errors import wrapped
from se_nas.records.run_log import numbers_in

Metrics = Mapping[str, float | Tensor]


def on_host(steps: list[tuple[int, Metrics]]) -> Iterator[tuple[int, dict[str, float]]]:
    """The steps' metrics as floats, waiting once for the device, not once a metric."""
    alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for _, metrics in steps:
        for value in metrics.values():
            if isinstance(value, Tensor):
                alike.setdefault((value.device, value.dtype), []).append(value)
    fetched = {kind: iter(torch.stack(values).tolist()) for kind, values in alike.items()}
    for step, metrics in steps:
        floats = {}
        for name, value in metrics.items():
            floats[name] = float(next(fetched[value.device, value.dtype]) if isinstance(value, Tensor) else value)
        yield step, floats


def in_words(values: Mapping[str, Any]) -> str:
    """Numbers of an epoch on one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers_in(values) if name != "epoch")


def print_line(console: Console, line: str) -> None:
    """Print a line: whole into a file, and on a terminal broken between words, where that would break it anywhere."""
    shown = wrapped(line, console.width) if console.is_terminal else line
    console.print(shown, markup=False, highlight=False, soft_wrap=True)
