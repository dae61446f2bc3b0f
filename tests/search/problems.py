"""A search problem small enough to be searched in a test."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.parts import split_parts
from se_nas.data.sources import load_searched
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace

PARTS = {"weights": 0.5, "choices": 0.3, "validation": 0.2}


def make_problem(
    space: SearchSpace, folder: Path, *, macs: float | None = None, data: DataOptions | None = None, **fields: Any
) -> SearchProblem:
    """200 synthetic images of 8x8 pixels, or `data`; `macs` is a budget as a share of the way from the least to the
    greatest."""
    info, train = load_searched(data or DataOptions("synthetic", resolution=8, size=200), 0, print)
    space = dataclasses.replace(space, classes=info.classes, channels=info.channels)
    tables = count_tables(space)
    budgets: tuple[Budget, ...] = ()
    if macs is not None:
        costs = [tables["macs"].cost(architecture) for architecture in space.enumerate()]
        budgets = (Budget("macs", min(costs) + macs * (max(costs) - min(costs))),)
    values: dict[str, Any] = {
        "budgets": budgets,
        "tables": tables,
        "info": info,
        "train": train,
        "parts": split_parts(train.labels, PARTS, 0),
        "device": torch.device("cpu"),
        "seed": 0,
        "folder": folder,
        "progress": False,
        **fields,
    }
    return SearchProblem(space=space, **values)
