"""Differentiable searches side by side: one trial for each seed and each set of budgets that a run file lists."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import TypedDict

from se_nas.cost.budget import Budget, parse_budget_options, parse_budgets
from se_nas.errors import ConfigError
from se_nas.nni_bridge.page_values import Axis, axis
from se_nas.runs.run_file import RunConfig


class GridTrial(TypedDict):
    """The parameters of a trial."""

    seed: int
    budgets: str


def grid(config: RunConfig) -> list[GridTrial]:
    """The parameters of every trial, as the page shows them: `{"seed": 1, "budgets": "macs=300k params=20k"}`.

    Without seeds or budgets of its own in `nni:`, the grid has the run's.

    Raises:
        ConfigError: a budget of the grid is none, or is one on a latency of which the run makes no table.
    """
    grid_budgets(config)
    words = [" ".join(map(_word, b.items())) for b in config.nni.budgets or [config.budgets]]
    trials = itertools.product(dict.fromkeys(words), dict.fromkeys(config.nni.seeds or [config.seed]))
    return [{"seed": seed, "budgets": word} for word, seed in trials]


def grid_budgets(config: RunConfig) -> list[tuple[Budget, ...]]:
    """The budgets that `nni:` lists; ConfigError as of `grid`."""
    found = [parse_budgets(budgets, f"nni.budgets[{i}]") for i, budgets in enumerate(config.nni.budgets)]
    used = [(f"nni.budgets[{i}]", budget.metric) for i, budgets in enumerate(found) for budget in budgets]
    if problems := list(config.latency_faults(used)):
        raise ConfigError("nni.budgets", problems)
    return found


def _word(budget: tuple[str, object]) -> str:
    """A budget as the page shows it, without blanks, which part the budgets of a trial."""
    metric, limit = budget
    return f"{metric}={''.join(str(limit).split())}"


def grid_space(config: RunConfig) -> dict[str, Axis]:
    """NNI's search space of the grid, for the page's axes."""
    trials = grid(config)
    return {"seed": axis(trial["seed"] for trial in trials), "budgets": axis(trial["budgets"] for trial in trials)}


def changes_of(parameters: Mapping[str, object]) -> dict[str, object]:
    """What a trial's parameters change in the run's configuration, by dotted path.

    Raises:
        ConfigError: they are none of a grid, as a user can make them up on NNI's page.
    """
    seed, words = _parts(parameters)
    budgets = parse_budget_options(words.split(), "the trial's budgets")
    return {"seed": seed, "budgets": {b.metric: b.limit for b in budgets}}


def name_of(parameters: Mapping[str, object]) -> str:
    """A folder name for a trial: the same when it is run again; ConfigError as of `changes_of`."""
    seed, words = _parts(parameters)
    return f"seed{seed}_" + (re.sub(r"[^\w.]+", "-", words).strip("-") or "no-budget")


def _parts(parameters: Mapping[str, object]) -> tuple[int, str]:
    seed, budgets = parameters.get("seed"), parameters.get("budgets")
    if not isinstance(seed, int) or isinstance(seed, bool) or not isinstance(budgets, str):
        must = "must be a seed, which is a whole number, and budgets, which are text"
        raise ConfigError("the trial's parameters", [f"{must}, but got {dict(parameters)!r:.200}"])
    return seed, budgets
