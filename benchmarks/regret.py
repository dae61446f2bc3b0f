"""Regret of searches over a space whose networks have all been trained: what the benchmarks on such tables share.

A search's regret is the accuracy of the best network within its budget less that of the network that it would hand
back, in points (per cent), after each of its evaluations. It stands beside uniform random search over the networks
within the budget, without replacement, whose distribution is computed, not drawn: the sampler `random` is not that,
since its repaired proposals are not uniform.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.records.files import write_atomic
from se_nas.report.plots.figure import WIDTH, drawn, figure_png
from se_nas.report.theme.palette import light
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.search.black_box.search import search_architectures
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

Numbers = NDArray[np.float64]

DRAWS = 5000
"""Of uniform random search where it sees one training; its regret has no simple formula there."""


@dataclass(frozen=True)
class Setup:
    """A kind of search.

    Attributes:
        noisy: whether it sees one training of each network.
        evaluations, seeds: at most so many, and so many searches.
    """

    sampler: str
    evaluations: int
    objectives: tuple[str, ...] = ("accuracy",)
    noisy: bool = False
    seeds: int = 20

    @property
    def name(self) -> str:
        """In the tables."""
        return self.sampler + (" [" + ", ".join(self.objectives) + "]" if len(self.objectives) > 1 else "")


class KnownTable:
    """The trained networks of a whole space.

    Attributes:
        architectures: all of the space; rows: (N, choices) their options' numbers.
        accuracies: (N, trainings) test accuracies in per cent.
        costs: (N,) numbers by metric, as this package counts them.
        judged: (N,) accuracies in per cent by which what a search hands back is judged where it saw one training.
        by: what these are, in words.
    """

    def __init__(
        self,
        space: SearchSpace,
        rows: NDArray[np.intp],
        accuracies: Numbers,
        judged: Numbers | None = None,
        by: str = "the mean of all",
    ) -> None:
        """`judged` is the mean of the trainings if it is not given."""
        self.space, self.tables, self.rows = space, count_tables(space), rows
        self.architectures = [
            space.architecture({c.name: c.options[i] for c, i in zip(space.choices, row, strict=True)}) for row in rows
        ]
        self.index = {architecture: i for i, architecture in enumerate(self.architectures)}
        self.accuracies = accuracies
        self.judged, self.by = self.means if judged is None else judged, by
        self.costs = {metric: table.costs(rows) for metric, table in self.tables.items()}

    @property
    def means(self) -> Numbers:
        """(N,) accuracies in per cent, each the mean of the trainings."""
        return np.asarray(self.accuracies.mean(axis=1))

    def within(self, budget: Budget) -> NDArray[np.intp]:
        """Indices of the networks that keep the budget."""
        return np.flatnonzero(self.costs[budget.metric] <= budget.limit)


@dataclass(frozen=True)
class Study:
    """Which searches of a table are made, and how they are shown.

    Attributes:
        marks: numbers of evaluations after which the regret is told; the last is the most.
        first, highest: evaluations and regret at the ends of the plot; tick: between two lines of regret.
    """

    budgets: tuple[Budget, ...]
    marks: tuple[int, ...]
    setups: tuple[Setup, ...]
    first: int
    highest: float
    tick: float

    @property
    def evaluations(self) -> int:
        """Of the longest search."""
        return self.marks[-1]


def regrets_over(seen: Numbers, true: Numbers, best: float) -> Numbers:
    """Regret after each evaluation, if the search then ended and handed back what looked best.

    Args:
        seen, true: (..., n) accuracies of what was evaluated, in order: as the search saw them, and as they are judged.
    """
    records = np.maximum.accumulate(seen, axis=-1)
    new = np.concatenate([np.ones_like(seen[..., :1], bool), records[..., 1:] > records[..., :-1]], axis=-1)
    holder = np.maximum.accumulate(np.where(new, np.arange(seen.shape[-1]), 0), axis=-1)
    return np.asarray(best - np.take_along_axis(true, holder, axis=-1))


def uniform_distribution(accuracies: Numbers, evaluations: int) -> tuple[Numbers, Numbers]:
    """Regrets that uniform random search without replacement can have, rising, and their probabilities.

    Returns:
        (N,) regrets of the networks, best first, and (evaluations, N) probabilities that, after 1, 2, ... evaluations,
        this one is the best so far: all better ones are undrawn, and it is drawn.
    """
    falling = np.sort(accuracies)[::-1]
    count = len(falling)
    undrawn = np.ones(count + 1)  # that the first 0, 1, ... of them are undrawn
    probabilities = np.empty((evaluations, count))
    better = np.arange(count + 1)
    for n in range(evaluations):
        if n < count:
            undrawn = undrawn * np.maximum(0, count - n - better) / (count - n)
        probabilities[n] = undrawn[:-1] - undrawn[1:]
    return falling[0] - falling, probabilities


def weighted_summary(regrets: Numbers, probabilities: Numbers) -> dict[str, float]:
    """Mean and quartiles of a distribution over rising regrets."""
    cumulative = np.cumsum(probabilities)
    quantiles = (
        float(regrets[min(int(np.searchsorted(cumulative, q - 1e-12)), len(regrets) - 1)]) for q in (0.25, 0.5, 0.75)
    )
    q1, median, q3 = quantiles
    return rounded({"median": median, "mean": float(regrets @ probabilities), "q1": q1, "q3": q3})


def summary(regrets: Numbers) -> dict[str, float]:
    """Mean and quartiles of (seeds,) regrets."""
    q1, median, q3 = np.quantile(regrets, (0.25, 0.5, 0.75))
    return rounded({"median": float(median), "mean": float(regrets.mean()), "q1": float(q1), "q3": float(q3)})


def rounded(values: dict[str, float]) -> dict[str, float]:
    """To more than trainings can tell."""
    return {key: round(value, 4) + 0.0 for key, value in values.items()}


def search_regrets(
    table: KnownTable, setup: Setup, budget: Budget, seed: int, first: Sequence[int] = (), **changes: Any
) -> Numbers:
    """(evaluations,) regrets of one search, which evaluates the networks `first`; changes are of `OptunaConfig`."""
    training = int(np.random.default_rng(seed).integers(table.accuracies.shape[1]))
    seen, true = (table.accuracies[:, training], table.judged) if setup.noisy else (table.means, table.means)
    config = OptunaConfig(
        **{"sampler": setup.sampler, "objectives": setup.objectives, "max_evaluations": setup.evaluations, **changes}
    )

    def evaluate(architecture: Architecture) -> float:
        return float(seen[table.index[architecture]]) / 100

    enqueue = [table.architectures[network] for network in first]
    result = search_architectures(
        table.space, [budget], evaluate, config=config, tables=table.tables, seed=seed, enqueue=enqueue
    )
    evaluated = distinct(result.evaluations)
    drawn_in_order = np.array([table.index[e.architecture] for e in evaluated])
    best = float(true[table.within(budget)].max())
    regrets = regrets_over(seen[drawn_in_order], true[drawn_in_order], best)
    return np.pad(regrets, (0, max(0, config.max_evaluations - len(regrets))), mode="edge")[: config.max_evaluations]


def distinct(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Without the repeated ones; all of them must keep the budgets."""
    assert all(e.feasible for e in evaluations)
    return [e for e in evaluations if e.same_as is None]


def noisy_uniform_regrets(table: KnownTable, budget: Budget, evaluations: int) -> Numbers:
    """(DRAWS, evaluations) regrets of uniform random searches that see one training of each network."""
    rng, within = np.random.default_rng(0), table.within(budget)
    best = float(table.judged[within].max())
    found = np.empty((DRAWS, evaluations))
    for row in found:
        order = rng.permutation(within)[:evaluations]
        regrets = regrets_over(
            table.accuracies[order, rng.integers(table.accuracies.shape[1])], table.judged[order], best
        )
        row[:] = np.pad(regrets, (0, evaluations - len(regrets)), mode="edge")
    return found


Job = tuple[Setup, Budget, int]
Curves = dict[tuple[Setup, Budget], Numbers]
Loader = Callable[[Path], KnownTable]

_TABLE: list[KnownTable] = []


def _start(load: Loader, path: Path) -> None:
    torch.set_num_threads(1)
    _TABLE[:] = [load(path)]


def _work(job: Job) -> tuple[Job, Numbers, float]:
    started = time.process_time()
    return job, search_regrets(_TABLE[0], *job), time.process_time() - started


def search_all(
    load: Loader, path: Path, study: Study, samplers: Sequence[str], seeds: int, processes: int
) -> tuple[Curves, dict[Setup, float]]:
    """(seeds, evaluations) regrets by kind and budget, and CPU seconds of one search by kind.

    Args:
        load: reads the table at `path`, in every process.
        seeds: at most so many searches of each kind.
    """
    known = list(dict.fromkeys(setup.sampler for setup in study.setups))
    if unknown := [name for name in samplers if name not in known]:
        raise SystemExit(f"--samplers: must be of {', '.join(known)}, but got {unknown[0]!r}")
    setups = [setup for setup in study.setups if setup.sampler in samplers]
    jobs = [
        (setup, budget, seed) for setup in setups for budget in study.budgets for seed in range(min(seeds, setup.seeds))
    ]
    console = Console(stderr=True)
    if processes == 1:
        _start(load, path)
        done = list(track(map(_work, jobs), "searches", len(jobs), console=console))
    else:
        with multiprocessing.get_context("spawn").Pool(processes, _start, (load, path)) as pool:
            done = list(track(pool.imap_unordered(_work, jobs), "searches", len(jobs), console=console))
    found = {job: (regrets, seconds) for job, regrets, seconds in done}
    curves: dict[tuple[Setup, Budget], list[Numbers]] = {}
    took: dict[Setup, list[float]] = {}
    for job in jobs:
        setup, budget, _ = job
        curves.setdefault((setup, budget), []).append(found[job][0])
        took.setdefault(setup, []).append(found[job][1])
    means = {setup: float(np.mean(values)) for setup, values in took.items()}
    return {key: np.stack(values) for key, values in curves.items()}, means


@drawn
def plot(found: Curves, table: KnownTable, study: Study) -> Figure:
    """Median regret and its quartiles over the evaluations: a row a budget, a column a sampler."""
    samplers = list(dict.fromkeys(setup.sampler for setup, _ in found if not setup.noisy))

    def line(axes: Axes, quartiles: Numbers, tone: str, label: str) -> None:
        low, middle, high = quartiles
        x = np.arange(1, len(middle) + 1)
        axes.fill_between(x, low, high, color=light(tone), alpha=0.16, linewidth=0)
        axes.plot(x, middle, color=light(tone), label=label)

    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    grid = figure.subplots(len(study.budgets), len(samplers), sharex=True, sharey=True, squeeze=False)
    for row, budget in zip(grid, study.budgets, strict=True):
        regrets, probabilities = uniform_distribution(table.means[table.within(budget)], study.evaluations)
        each = [weighted_summary(regrets, p) for p in probabilities]
        uniform = np.array([[values[key] for values in each] for key in ("q1", "median", "q3")])
        for axes, sampler in zip(row, samplers, strict=True):
            line(axes, uniform, "muted", "uniform random")
            for (setup, kept), got in found.items():
                if setup.sampler == sampler and kept == budget and not setup.noisy:
                    tone, label = ("orange" if len(setup.objectives) > 1 else "blue", ", ".join(setup.objectives))
                    line(axes, np.quantile(got, (0.25, 0.5, 0.75), axis=0), tone, f"[{label}]")
            axes.set_xscale("log")
            axes.set_xlim(study.first, study.evaluations)
            axes.set_ylim(0, study.highest)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.set_xticks([study.first, *study.marks])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(MultipleLocator(study.tick))
        row[0].set_ylabel(f"regret (points)\n{budget}")
    for axes, sampler in zip(grid[0], samplers, strict=True):
        axes.set_title(sampler)
    for axes in grid[-1]:
        axes.set_xlabel("evaluations")
    lines = {text: handle for axes in grid[0] for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside upper right", ncols=len(lines))
    return figure


def at_marks(curve: Numbers, study: Study) -> dict[str, dict[str, float]]:
    """Summaries of (n, evaluations) regrets."""
    return {str(mark): summary(curve[:, mark - 1]) for mark in study.marks if mark <= curve.shape[1]}


def rows_of(curves: Curves, seconds: dict[Setup, float], study: Study, noisy: bool) -> dict[str, dict[str, Any]]:
    """What is told of each kind of search, by its name."""
    return {
        setup.name: {
            "objectives": list(setup.objectives),
            "seeds": len(curves[setup, study.budgets[0]]),
            "cpu_seconds_a_search": round(seconds[setup], 2),
            "regret": {str(budget): at_marks(curves[setup, budget], study) for budget in study.budgets},
            "regret_of_each_seed": {
                str(budget): {
                    str(mark): curves[setup, budget][:, mark - 1].round(4).tolist()
                    for mark in study.marks
                    if mark <= setup.evaluations
                }
                for budget in study.budgets
            },
        }
        for setup in seconds
        if setup.noisy == noisy
    }


def uniform_row(table: KnownTable, study: Study) -> dict[str, Any]:
    """The same of uniform random search, exactly."""
    regret = {}
    for budget in study.budgets:
        regrets, probabilities = uniform_distribution(table.means[table.within(budget)], study.evaluations)
        regret[str(budget)] = {str(mark): weighted_summary(regrets, probabilities[mark - 1]) for mark in study.marks}
    return {"seeds": "exact", "regret": regret}


def noisy_uniform_row(table: KnownTable, study: Study) -> dict[str, Any]:
    """The same of uniform random search that sees one training, from DRAWS searches."""
    regret = {
        str(budget): at_marks(noisy_uniform_regrets(table, budget, study.evaluations), study)
        for budget in study.budgets
    }
    return {"seeds": DRAWS, "regret": regret}


def markdown(rows: dict[str, dict[str, Any]], study: Study) -> list[str]:
    """Median (mean) regrets at the marks, a line a kind of search, a column a budget and mark."""
    columns = [f"{budget}, {mark}" for budget in study.budgets for mark in study.marks]
    lines = ["| sampler | seeds | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        found = [row["regret"][str(budget)].get(str(mark)) for budget in study.budgets for mark in study.marks]
        cells = ["" if at is None else f"{at['median']:.2f} ({at['mean']:.2f})" for at in found]
        lines.append(f"| {name} | {row['seeds']} | " + " | ".join(cells) + " |")
    return lines


def told(table: KnownTable, study: Study, curves: Curves, seconds: dict[Setup, float]) -> dict[str, Any]:
    """Print the tables for people; what the results say of the budgets and of the searches.

    Where the judge is the mean of all trainings, the one that a search saw is among them: where there are few, its
    regret is told too small.
    """
    budgets = {
        str(b): {"networks": len(w := table.within(b)), "best_accuracy": round(float(table.means[w].max()), 4)}
        for b in study.budgets
    }
    found: dict[str, Any] = {"budgets": budgets, "searches": {"uniform random": uniform_row(table, study)}}
    found["searches"] |= rows_of(curves, seconds, study, noisy=False)
    print("Median (mean) regret in points; what a search sees is the mean of a network's trainings:\n")
    print("\n".join(markdown(found["searches"], study)))
    if any(setup.noisy for setup in study.setups):
        rows = {"uniform random": noisy_uniform_row(table, study), **rows_of(curves, seconds, study, noisy=True)}
        found["searches_seeing_one_training"] = rows
        print(f"\nThe same where it sees one training, judged by {table.by}:\n")
        print("\n".join(markdown(rows, study)))
    return found


def parser_of(description: str | None, table: str, setups: Sequence[Setup]) -> argparse.ArgumentParser:
    """What every benchmark of this kind is told; `table` is the help of its table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help=table)
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write regrets.json and regrets.png there")
    parser.add_argument("--samplers", default=",".join(dict.fromkeys(s.sampler for s in setups)), help="with commas")
    parser.add_argument("--seeds", type=int, default=20, help="at most so many searches of each kind")
    parser.add_argument("--processes", type=int, default=1, help="searches at a time")
    return parser


def write_results(folder: Path, outcome: dict[str, Any], figure: Figure, name: str = "regrets") -> None:
    """Write NAME.json, whose lists of numbers take a line each, and NAME.png."""
    number_lists = re.compile(r"\[[\s\d.,e-]+\]")
    text = number_lists.sub(lambda match: " ".join(match[0].split()), json.dumps(outcome, indent=2))
    write_atomic(folder / f"{name}.json", text + "\n")
    write_atomic(folder / f"{name}.png", figure_png(figure))
