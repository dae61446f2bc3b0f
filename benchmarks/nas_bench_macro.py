"""Claim: on NAS-Bench-Macro under budgets of 40 and 60 MMACs the default sampler's median regret after 200 evaluations
is at most half of uniform random search's.

NAS-Bench-Macro (Su et al., arXiv 2103.11922) trained all 6,561 networks of a space on CIFAR-10, three times each. A
search here sees the mean of the three test accuracies; its regret is the accuracy of the best network within the budget
less that of the best it evaluated, in points (per cent). It stands beside uniform random search over the networks
within the budget, without replacement, whose distribution is computed, not drawn: the sampler `random` is not that,
since its repaired proposals are not uniform. In a second table a search sees one training's accuracy, as in life, and
what it would hand back is judged by the mean of the three.

The table is data/nas-bench-macro_cifar10.json of https://github.com/xiusu/NAS-Bench-Macro; it may be packed by xz or
gzip. --write-table converts it for `evaluator: table` of a run file and ends. Run:
python benchmarks/nas_bench_macro.py TABLE.json [--write-table FILE.jsonl] [--results FOLDER] [--processes 2].
The Gaussian process needs a second a proposal when it knows hundreds of networks, so it gets fewer evaluations and
seeds; it still takes most of the time, some 15 minutes of a core, and --samplers can leave it out. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import lzma
import multiprocessing
import re
import time
from collections.abc import Sequence
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
from se_nas.errors import SeNasError
from se_nas.hardware.environment import describe_environment
from se_nas.records.files import write_atomic
from se_nas.report.plots.figure import WIDTH, drawn, figure_png
from se_nas.report.theme.palette import light
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.search.black_box.search import search_architectures
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

Numbers = NDArray[np.float64]

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "nas_bench_macro.yaml"
BUDGETS = (Budget("macs", 40e6), Budget("macs", 60e6))
EVALUATIONS = 500
MARKS = (50, 100, 200, 500)
"""Numbers of evaluations after which the regret is told."""
TRAININGS = 3
DRAWS = 5000
"""Of uniform random search where it sees one training; its regret has no simple formula there."""
BARS = {"default_share_of_uniform": 0.5, "at": 200}
"""Most median regret of the default sampler, as a share of uniform random search's, after so many evaluations."""


@dataclass(frozen=True)
class Setup:
    """A kind of search.

    Attributes:
        noisy: whether it sees one training of each network.
        evaluations, seeds: at most so many, and so many searches.
    """

    sampler: str
    objectives: tuple[str, ...] = ("accuracy",)
    noisy: bool = False
    evaluations: int = EVALUATIONS
    seeds: int = 20

    @property
    def name(self) -> str:
        """In the tables."""
        return self.sampler + (" [" + ", ".join(self.objectives) + "]" if len(self.objectives) > 1 else "")


BOTH = ("accuracy", "macs")
SETUPS = (
    Setup("evolution"),
    Setup("nsga2"),
    Setup("nsga2", BOTH),
    Setup("nsga3"),
    Setup("nsga3", BOTH),
    Setup("tpe"),
    Setup("tpe", BOTH),
    Setup("gp", evaluations=200, seeds=5),
    Setup("random"),
    Setup("predictor"),
    Setup("evolution", noisy=True),
    Setup("predictor", noisy=True),
)
DEFAULT = SETUPS[0]
"""What `sampler: auto` is for accuracy alone."""


class MacroTable:
    """The trained networks.

    Attributes:
        architectures: all of the space.
        accuracies: (N, TRAININGS) test accuracies in per cent.
        costs: (N,) numbers by metric, as this package counts them.
    """

    def __init__(self, space: SearchSpace, published: dict[str, Any]) -> None:
        keys = sorted(published)
        digits = "".join(map(str, range(3)))
        if len(keys) != space.size or not all(re.fullmatch(f"[{digits}]{{{len(space.choices)}}}", k) for k in keys):
            raise SystemExit(
                f"the table must have the {space.size} networks of {space.name}, but has {len(keys)} entries"
            )
        rows = np.array([[int(digit) for digit in key] for key in keys], dtype=np.intp)
        self.space, self.tables = space, count_tables(space)
        self.architectures = [
            space.architecture({c.name: c.options[i] for c, i in zip(space.choices, row, strict=True)}) for row in rows
        ]
        self.index = {architecture: i for i, architecture in enumerate(self.architectures)}
        self.accuracies = np.array([published[key]["test_acc"] for key in keys], dtype=np.float64)
        self.costs = {metric: table.costs(rows) for metric, table in self.tables.items()}
        for metric, name in (("macs", "flops"), ("params", "params")):
            if not np.array_equal(self.costs[metric], [published[key][name] for key in keys]):
                raise SystemExit(f"the table's {name} must be our {metric} of {space.name}, but some are not")

    @property
    def means(self) -> Numbers:
        """(N,) accuracies in per cent, each the mean of the trainings."""
        return np.asarray(self.accuracies.mean(axis=1))

    def within(self, budget: Budget) -> NDArray[np.intp]:
        """Indices of the networks that keep the budget."""
        return np.flatnonzero(self.costs[budget.metric] <= budget.limit)

    def json_lines(self) -> str:
        """The table as `evaluator: table` reads it."""
        lines = (
            {
                "picks": architecture.as_dict(),
                "accuracy": round(self.means[i] / 100, 8),
                **{metric: int(values[i]) for metric, values in self.costs.items()},
            }
            for i, architecture in enumerate(self.architectures)
        )
        return "".join(json.dumps(line) + "\n" for line in lines)


def load_table(path: Path) -> MacroTable:
    """Read the published file, packed or not."""
    content = path.read_bytes()
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    return MacroTable(load_space(SPACE), json.loads(unpack(content)))


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
    """To what three trainings of a network can tell."""
    return {key: round(value, 4) + 0.0 for key, value in values.items()}


def search_regrets(table: MacroTable, setup: Setup, budget: Budget, seed: int, **changes: Any) -> Numbers:
    """(evaluations,) regrets of one search; changes are of `OptunaConfig`."""
    training = int(np.random.default_rng(seed).integers(TRAININGS))
    true = table.means
    seen = table.accuracies[:, training] if setup.noisy else true
    config = OptunaConfig(
        **{"sampler": setup.sampler, "objectives": setup.objectives, "max_evaluations": setup.evaluations, **changes}
    )

    def evaluate(architecture: Architecture) -> float:
        return float(seen[table.index[architecture]]) / 100

    result = search_architectures(table.space, [budget], evaluate, config=config, tables=table.tables, seed=seed)
    evaluated = distinct(result.evaluations)
    drawn_in_order = np.array([table.index[e.architecture] for e in evaluated])
    best = float(true[table.within(budget)].max())
    regrets = regrets_over(seen[drawn_in_order], true[drawn_in_order], best)
    return np.pad(regrets, (0, max(0, config.max_evaluations - len(regrets))), mode="edge")[: config.max_evaluations]


def distinct(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Without the repeated ones; all of them must keep the budgets."""
    assert all(e.feasible for e in evaluations)
    return [e for e in evaluations if e.same_as is None]


def noisy_uniform_regrets(table: MacroTable, budget: Budget) -> Numbers:
    """(DRAWS, EVALUATIONS) regrets of uniform random searches that see one training of each network."""
    rng, within = np.random.default_rng(0), table.within(budget)
    best = float(table.means[within].max())
    found = np.empty((DRAWS, EVALUATIONS))
    for row in found:
        order = rng.permutation(within)[:EVALUATIONS]
        row[:] = regrets_over(table.accuracies[order, rng.integers(TRAININGS)], table.means[order], best)
    return found


Job = tuple[Setup, Budget, int]
Curves = dict[tuple[Setup, Budget], Numbers]

_TABLE: list[MacroTable] = []


def _start(path: Path) -> None:
    torch.set_num_threads(1)
    _TABLE[:] = [load_table(path)]


def _work(job: Job) -> tuple[Job, Numbers, float]:
    started = time.process_time()
    return job, search_regrets(_TABLE[0], *job), time.process_time() - started


def plot(found: Curves, table: MacroTable) -> Figure:
    """Median regret and its quartiles over the evaluations: a row a budget, a column a sampler."""
    samplers = list(dict.fromkeys(setup.sampler for setup, _ in found if not setup.noisy))

    def line(axes: Axes, quartiles: Numbers, tone: str, label: str) -> None:
        low, middle, high = quartiles
        x = np.arange(1, len(middle) + 1)
        axes.fill_between(x, low, high, color=light(tone), alpha=0.16, linewidth=0)
        axes.plot(x, middle, color=light(tone), label=label)

    def make() -> Figure:
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        grid = figure.subplots(len(BUDGETS), len(samplers), sharex=True, sharey=True, squeeze=False)
        for row, budget in zip(grid, BUDGETS, strict=True):
            regrets, probabilities = uniform_distribution(table.means[table.within(budget)], EVALUATIONS)
            each = [weighted_summary(regrets, p) for p in probabilities]
            uniform = np.array([[values[key] for values in each] for key in ("q1", "median", "q3")])
            for axes, sampler in zip(row, samplers, strict=True):
                line(axes, uniform, "muted", "uniform random")
                for (setup, kept), got in found.items():
                    if setup.sampler == sampler and kept == budget and not setup.noisy:
                        tone, label = ("orange" if setup.objectives == BOTH else "blue", ", ".join(setup.objectives))
                        line(axes, np.quantile(got, (0.25, 0.5, 0.75), axis=0), tone, f"[{label}]")
                axes.set_xscale("log")
                axes.set_xlim(10, EVALUATIONS)
                axes.set_ylim(0, 0.8)
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.set_xticks([10, *MARKS])
                axes.xaxis.set_minor_locator(NullLocator())
                axes.yaxis.set_major_locator(MultipleLocator(0.2))
            row[0].set_ylabel(f"regret at {budget.limit / 1e6:g} MMACs (points)")
        for axes, sampler in zip(grid[0], samplers, strict=True):
            axes.set_title(sampler)
        for axes in grid[-1]:
            axes.set_xlabel("evaluations")
        lines = {
            text: handle for axes in grid[0] for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(lines.values(), lines.keys(), loc="outside upper right", ncols=len(lines))
        return figure

    return drawn(make)


def gathered(done: Sequence[tuple[Job, Numbers, float]]) -> tuple[Curves, dict[Setup, float]]:
    """(seeds, evaluations) regrets by kind and budget, and CPU seconds of one search by kind."""
    order = sorted(done, key=lambda entry: (SETUPS.index(entry[0][0]), entry[0][1].limit, entry[0][2]))
    curves: dict[tuple[Setup, Budget], list[Numbers]] = {}
    seconds: dict[Setup, list[float]] = {}
    for (setup, budget, _), regrets, took in order:
        curves.setdefault((setup, budget), []).append(regrets)
        seconds.setdefault(setup, []).append(took)
    means = {setup: float(np.mean(values)) for setup, values in seconds.items()}
    return {key: np.stack(values) for key, values in curves.items()}, means


def at_marks(curve: Numbers) -> dict[str, dict[str, float]]:
    """Summaries of (n, evaluations) regrets."""
    return {str(mark): summary(curve[:, mark - 1]) for mark in MARKS if mark <= curve.shape[1]}


def rows_of(curves: Curves, seconds: dict[Setup, float], noisy: bool) -> dict[str, dict[str, Any]]:
    """What is told of each kind of search, by its name."""
    return {
        setup.name: {
            "objectives": list(setup.objectives),
            "seeds": len(curves[setup, BUDGETS[0]]),
            "cpu_seconds_a_search": round(seconds[setup], 2),
            "regret": {str(budget): at_marks(curves[setup, budget]) for budget in BUDGETS},
            "regret_of_each_seed": {
                str(budget): {
                    str(mark): curves[setup, budget][:, mark - 1].round(4).tolist()
                    for mark in MARKS
                    if mark <= setup.evaluations
                }
                for budget in BUDGETS
            },
        }
        for setup in seconds
        if setup.noisy == noisy
    }


def uniform_row(table: MacroTable) -> dict[str, Any]:
    """The same of uniform random search, exactly."""
    regret = {}
    for budget in BUDGETS:
        regrets, probabilities = uniform_distribution(table.means[table.within(budget)], EVALUATIONS)
        regret[str(budget)] = {str(mark): weighted_summary(regrets, probabilities[mark - 1]) for mark in MARKS}
    return {"seeds": "exact", "regret": regret}


def noisy_uniform_row(table: MacroTable) -> dict[str, Any]:
    """The same of uniform random search that sees one training, from DRAWS searches."""
    regret = {str(budget): at_marks(noisy_uniform_regrets(table, budget)) for budget in BUDGETS}
    return {"seeds": DRAWS, "regret": regret}


def markdown(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Median (mean) regrets at the marks, a line a kind of search, a column a budget and mark."""
    columns = [f"{budget.limit / 1e6:g}M, {mark}" for budget in BUDGETS for mark in MARKS]
    lines = ["| sampler | seeds | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        found = [row["regret"][str(budget)].get(str(mark)) for budget in BUDGETS for mark in MARKS]
        cells = ["" if at is None else f"{at['median']:.2f} ({at['mean']:.2f})" for at in found]
        lines.append(f"| {name} | {row['seeds']} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Convert the table, or search it with every sampler; print tables for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the published file, or that packed as .xz or .gz")
    parser.add_argument("--write-table", type=Path, metavar="FILE", help="convert the table, and end")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write regrets.json and regrets.png there")
    parser.add_argument("--samplers", default=",".join(dict.fromkeys(s.sampler for s in SETUPS)), help="with commas")
    parser.add_argument("--seeds", type=int, default=20, help="at most so many searches of each kind")
    parser.add_argument("--processes", type=int, default=1, help="searches at a time")
    options = parser.parse_args()
    table = load_table(options.table)
    if options.write_table:
        write_atomic(options.write_table, table.json_lines())
        print(f"wrote {len(table.architectures)} networks to {options.write_table}")
        return
    environment = describe_environment().plain()  # of the code that is about to run, whatever is committed meanwhile
    setups = [setup for setup in SETUPS if setup.sampler in options.samplers.split(",")]
    jobs = [
        (setup, budget, seed)
        for setup in setups
        for budget in BUDGETS
        for seed in range(min(options.seeds, setup.seeds))
    ]
    with multiprocessing.get_context("spawn").Pool(options.processes, _start, (options.table,)) as pool:
        working = pool.imap_unordered(_work, jobs)
        done = list(track(working, "searches", len(jobs), console=Console(stderr=True)))
    curves, seconds = gathered(done)
    budgets = {
        str(b): {"networks": len(w := table.within(b)), "best_accuracy": round(float(table.means[w].max()), 4)}
        for b in BUDGETS
    }
    plain = {"uniform random": uniform_row(table), **rows_of(curves, seconds, noisy=False)}
    noisy = {"uniform random": noisy_uniform_row(table), **rows_of(curves, seconds, noisy=True)}
    print("Median (mean) regret in points; what a search sees is the mean of three trainings:\n")
    print("\n".join(markdown(plain)))
    print("\nThe same where it sees one training, judged by the mean of three:\n")
    print("\n".join(markdown(noisy)))
    holds = DEFAULT.name in plain and all(
        plain[DEFAULT.name]["regret"][str(b)][str(BARS["at"])]["median"]
        <= BARS["default_share_of_uniform"] * plain["uniform random"]["regret"][str(b)][str(BARS["at"])]["median"]
        for b in BUDGETS
    )
    outcome = {
        "benchmark": "nas_bench_macro",
        "environment": environment,
        "table_sha256": hashlib.sha256(table.json_lines().encode()).hexdigest(),
        "space": table.space.name,
        "budgets": budgets,
        "population": OptunaConfig().population,
        "tournament": OptunaConfig().tournament,
        "evaluations": EVALUATIONS,
        "searches": plain,
        "searches_seeing_one_training": noisy,
        "bars": BARS,
        "holds": holds,
    }
    if options.results:
        number_lists = re.compile(r"\[[\s\d.,e-]+\]")
        text = number_lists.sub(lambda match: " ".join(match[0].split()), json.dumps(outcome, indent=2))
        write_atomic(options.results / "regrets.json", text + "\n")
        write_atomic(options.results / "regrets.png", figure_png(plot(curves, table)))
    print(json.dumps({k: v for k, v in outcome.items() if not k.startswith("searches")}))


if __name__ == "__main__":
    try:
        main()
    except (SeNasError, OSError) as error:
        raise SystemExit(str(error)) from error
