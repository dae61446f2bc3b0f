"""Question: where does SE pay, is it additive over blocks, and is one ratio everywhere as good as any placement?

Reads a whole table of placements as benchmarks/se_table.py merges it: all networks have one seed or more in common, and
where it is one, some have several, which tell the noise. What a block's SE is worth is the mean over all settings of
the other blocks. Whether effects add up is told by an F test of an additive model's lack of fit against that noise
(Draper and Smith, Applied Regression Analysis, section 2.1); where they do not, the model has pairs of blocks too. What
that model leaves is pooled with the noise. What placing SE gains over one ratio everywhere at no more cost, and which
of these are on the front, is told by the model, since the difference of two networks of the table is mostly noise. The
best by a model that was fitted to the same trainings looks better than it is: most of this optimism is found and taken
off by a parametric bootstrap, which gives the interval too (Efron and Tibshirani, An Introduction to the Bootstrap,
chapters 10 and 17); it is widened by what networks differ from the model beyond the noise. Run: python
benchmarks/se_table_answers.py TABLE.json [--results FOLDER]. It takes seconds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ends import one_line_errors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import f as f_distribution

from se_nas.evidence.statistics import student_interval
from se_nas.records.files import write_atomic, write_json
from se_nas.records.models.network_table import NetworkTable
from se_nas.records.record import read_record
from se_nas.report.plots.figure import WIDTH, drawn, figure_png
from se_nas.report.theme.palette import light, rank_tone

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]
OFF = "none"
DRAWS = 4000
"""Of the bootstrap."""
LEVEL = 0.05
"""Below this p a model does not explain a table."""
TINY = 1e-9
"""Sums of squares below it are of rounding."""
SHOWN = {"params": "parameters (thousands)", "latency_ms.onnxruntime": "milliseconds in ONNX Runtime"}
"""Costs of the figure, where the table has them."""


class Placements:
    """A whole factorial table.

    Attributes:
        choices: names; options: of each choice, that without SE first.
        rows: (N, choices) numbers of the options of each network.
        accuracies: (N, seeds) in points, by the seeds that all networks have.
        every_training: of each network all that it has, in points.
        squares, freedom: sum of squares between trainings of one network, less what a seed does to all networks where
            all have several; and its degrees of freedom.
    """

    def __init__(self, table: NetworkTable) -> None:
        self.choices = list(table.networks[0].picks) if table.networks else []
        found: dict[str, dict[str, None]] = {name: {OFF: None} for name in self.choices}
        for network in table.networks:
            for name in self.choices:
                found[name][str(network.picks[name])] = None
        self.options = {name: list(options) for name, options in found.items()}
        whole = int(np.prod([len(options) for options in self.options.values()])) if self.choices else 0
        seeds = set.intersection(*(set(network.accuracies) for network in table.networks)) if table.networks else set()
        repeated = [100 * np.array(list(n.accuracies.values())) for n in table.networks if len(n.accuracies) > 1]
        if len(table.networks) < max(whole, 2) or not seeds or not repeated:
            raise SystemExit(
                "the table must have every placement with one seed that all have, and some with several, but it has "
                f"{len(table.networks)} of {whole}, {len(seeds)} seeds that all have, and {len(repeated)} with several"
            )
        self.rows = np.array(
            [
                [self.options[name].index(str(network.picks[name])) for name in self.choices]
                for network in table.networks
            ]
        )
        self.accuracies = 100 * np.array([[n.accuracies[seed] for seed in sorted(seeds)] for n in table.networks])
        if len(seeds) > 1:
            apart = self.accuracies - self.means[:, None] - self.accuracies.mean(axis=0) + self.accuracies.mean()
            self.squares, self.freedom = float((apart**2).sum()), (len(table.networks) - 1) * (len(seeds) - 1)
        else:
            self.squares = float(sum(((values - values.mean()) ** 2).sum() for values in repeated))
            self.freedom = sum(len(values) - 1 for values in repeated)
        self.every_training = [100 * np.array(list(n.accuracies.values())) for n in table.networks]
        self.costs = {
            metric: np.array([network.costs[metric] for network in table.networks], dtype=np.float64)
            for metric in table.networks[0].costs
        }

    @property
    def means(self) -> Numbers:
        """(N,) over the seeds."""
        return np.asarray(self.accuracies.mean(axis=1))

    @property
    def total(self) -> float:
        """Sum of squares of the means about theirs."""
        return float(((self.means - self.means.mean()) ** 2).sum())

    def everywhere(self, option: str) -> int:
        """The network with this option in every block."""
        wanted = [self.options[name].index(option) for name in self.choices]
        return int(np.flatnonzero((self.rows == wanted).all(axis=1))[0])

    def picks(self, network: int) -> dict[str, str]:
        """The option of each choice."""
        return {name: self.options[name][i] for name, i in zip(self.choices, self.rows[network].tolist(), strict=True)}


def effects(table: Placements, noise: Noise) -> dict[str, dict[str, dict[str, float]]]:
    """Points that each option of each block gains over none there, the other blocks as they may be, with 95 %."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for column, name in enumerate(table.choices):
        groups = [table.means[table.rows[:, column] == i] for i in range(len(table.options[name]))]
        for option, group in zip(table.options[name][1:], groups[1:], strict=True):
            gain = float(group.mean() - groups[0].mean())
            error = math.sqrt(noise.variance_of_mean * (1 / len(group) + 1 / len(groups[0])))
            found.setdefault(name, {})[option] = interval(gain, error, noise.freedom)
    return found


def interval(points: float, error: float, freedom: int) -> dict[str, float]:
    """A difference with its 95 %."""
    low, high, _ = student_interval(points, error, freedom)
    return rounded({"points": points, "low": low, "high": high})


def trained_gain(table: Placements, network: int, over: int) -> dict[str, float]:
    """Points of one network over another by all trainings of both, with 95 % by the noise between seeds."""
    ours, theirs = table.every_training[network], table.every_training[over]
    error = math.sqrt(table.squares / table.freedom * (1 / len(ours) + 1 / len(theirs)))
    return interval(float(ours.mean() - theirs.mean()), error, table.freedom)


@dataclass(frozen=True)
class Model:
    """A linear model of the accuracies by the options of the blocks, fitted by least squares.

    Attributes:
        pairs: whether pairs of blocks have terms of their own.
        terms: (N, terms) indicators of the options, and of such pairs.
        coefficients: (terms,) in points; spread: (terms, terms) its square is the inverse of terms' product.
    """

    pairs: bool
    terms: Numbers
    coefficients: Numbers
    spread: Numbers

    @classmethod
    def of(cls, table: Placements, pairs: bool) -> Model:
        """Options alone, or pairs of blocks too."""
        columns = [(c, i) for c, name in enumerate(table.choices) for i in range(1, len(table.options[name]))]
        single = [(table.rows[:, column] == i).astype(float) for column, i in columns]
        terms = [np.ones(len(table.rows)), *single]
        if pairs:
            terms += [
                single[i] * single[j]
                for i in range(len(single))
                for j in range(i + 1, len(single))
                if columns[i][0] != columns[j][0]
            ]
        stacked = np.stack(terms, axis=1)
        coefficients = np.linalg.lstsq(stacked, table.means, rcond=None)[0]
        return cls(pairs, stacked, coefficients, np.linalg.cholesky(np.linalg.inv(stacked.T @ stacked)))

    @classmethod
    def chosen(cls, table: Placements) -> Model:
        """Options alone, if the noise may explain what these leave; else pairs too, whether it may or not."""
        additive = cls.of(table, pairs=False)
        return additive if additive.explains(table) else cls.of(table, pairs=True)

    @property
    def fitted(self) -> Numbers:
        """(N,) points."""
        return np.asarray(self.terms @ self.coefficients)

    def left(self, table: Placements) -> tuple[float, int]:
        """Sum of squares of the means that is not explained, and its degrees of freedom."""
        return float(((table.means - self.fitted) ** 2).sum()), len(self.terms) - self.terms.shape[1]

    def lack_of_fit(self, table: Placements) -> dict[str, float | None]:
        """How much of the variance between networks is explained, and whether more than noise is left.

        Where nothing is left there is no F; nor is there where something is, and trainings have no noise.
        """
        left, unexplained = self.left(table)
        total, between_seeds = table.total, Noise.between_seeds(table).variance_of_mean
        if left <= TINY or not between_seeds:
            return {"r2": round(1 - left / total, 4) if total else None, "f": None, "p": float(left <= TINY)}
        ratio = left / unexplained / between_seeds
        return {
            "r2": round(1 - left / total, 4),
            "r2_if_the_rest_is_noise": round(1 - between_seeds * unexplained / total, 4),
            "f": round(ratio, 3),
            "p": round(float(f_distribution.sf(ratio, unexplained, table.freedom)), 4),
        }

    def any_effect(self, table: Placements) -> dict[str, float | None]:
        """Whether the options that the model has change anything: an F test against what it leaves and the noise."""
        left, _ = self.left(table)
        explained, noise = table.total - left, Noise.pooled(table, self)
        if noise.variance_of_mean <= TINY:
            return {"f": None, "p": float(explained <= TINY)}
        effects = self.terms.shape[1] - 1
        ratio = explained / effects / noise.variance_of_mean
        return {"f": round(ratio, 3), "p": round(float(f_distribution.sf(ratio, effects, noise.freedom)), 4)}

    def explains(self, table: Placements) -> bool:
        """Whether the noise may explain what is left."""
        return (self.lack_of_fit(table)["p"] or 0.0) >= LEVEL

    def gain(self, noise: Noise, network: int, over: int) -> dict[str, float]:
        """Points of one network over another by the model alone, with 95 %."""
        terms = self.terms[network] - self.terms[over]
        error = math.sqrt(noise.variance_of_mean) * float(np.linalg.norm(terms @ self.spread))
        return interval(float(terms @ self.coefficients), error, noise.freedom)

    def best_of(self, table: Placements, noise: Noise, within: Places, network: int) -> dict[str, Any]:
        """Which placement of some is best, and by how many points it is better than a network, with 95 %.

        What is told is what it gains on average over trainings, that it was picked by these taken into account. Beyond
        the noise of the coefficients the interval has twice the variance by which a network differs from the model.
        """
        terms = self.terms[within] - self.terms[network]  # (placements, terms)
        rng = np.random.default_rng(0)
        scale = np.sqrt(noise.variance_of_mean * noise.freedom / rng.chisquare(noise.freedom, (DRAWS, 1)))
        drawn_noise = scale * (rng.standard_normal((DRAWS, terms.shape[1])) @ self.spread.T)
        seen = (self.coefficients + drawn_noise) @ terms.T  # (DRAWS, placements) gains, were it trained again
        picked = seen.argmax(axis=1)
        true = terms @ self.coefficients
        excess = seen[np.arange(DRAWS), picked] - true[picked]
        best = int(within[true.argmax()])
        gain = float(true.max() - excess.mean())
        left, unexplained = self.left(table)
        beyond = left / unexplained - Noise.between_seeds(table).variance_of_mean if unexplained else 0.0
        apart = 0.0 if best == network else 1.96**2 * 2 * max(beyond, 0.0)
        low, high = np.quantile(excess - excess.mean(), (0.025, 0.975))
        low, high = np.hypot(low, np.sqrt(apart)), np.hypot(high, np.sqrt(apart))
        return {
            "picks": table.picks(best),
            **rounded({"points": gain, "low": gain - float(high), "high": gain + float(low)}),
        }


@dataclass(frozen=True)
class Noise:
    """Variance of a network's mean over the seeds that all have, in points, and its degrees of freedom."""

    variance_of_mean: float
    freedom: int

    @classmethod
    def between_seeds(cls, table: Placements) -> Noise:
        """Told by networks with several seeds alone."""
        return cls(table.squares / table.freedom / table.accuracies.shape[1], table.freedom)

    @classmethod
    def pooled(cls, table: Placements, model: Model) -> Noise:
        """Told by what an adequate model leaves too."""
        (left, unexplained), seeds = model.left(table), table.accuracies.shape[1]
        freedom = table.freedom + unexplained
        return cls((table.squares / seeds + left) / freedom, freedom)

    def points(self, seeds: int) -> float:
        """Standard deviation of one training."""
        return round(float(np.sqrt(self.variance_of_mean * seeds)), 3)


def front(costs: Numbers, accuracies: Numbers) -> NDArray[np.bool_]:
    """(N,) which networks no other one beats in one of both and is no worse in the other."""
    cheaper, better = costs[None, :] <= costs[:, None], accuracies[None, :] >= accuracies[:, None]
    strictly = (costs[None, :] < costs[:, None]) | (accuracies[None, :] > accuracies[:, None])
    return ~(cheaper & better & strictly).any(axis=1)


def of_costs(table: Placements, model: Model, noise: Noise, uniform: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By the model, whether one option everywhere is on the front of each cost, and what placing gains at no more."""
    found = {}
    for metric, costs in table.costs.items():
        on = front(costs, model.fitted.round(9))  # sums of the same effects in another order are the same
        found[metric] = {
            "networks_on_the_front": int(on.sum()),
            **{
                f"{option} everywhere": {
                    "on_the_front": bool(on[place]),
                    "cost": float(costs[place]),
                    "placing_at_no_more": model.best_of(table, noise, np.flatnonzero(costs <= costs[place]), place),
                }
                for option in uniform
                for place in [table.everywhere(option)]
            },
        }
    return found


def rounded(values: dict[str, float]) -> dict[str, float]:
    """To what the trainings can tell."""
    return {key: round(value, 3) + 0.0 for key, value in values.items()}


def answers(table: Placements) -> dict[str, Any]:
    """All that is told."""
    uniform = table.options[table.choices[0]]
    model, every = Model.chosen(table), np.arange(len(table.rows))
    between, noise = Noise.between_seeds(table), Noise.pooled(table, model)
    seeds, bare = table.accuracies.shape[1], table.everywhere(OFF)
    return {
        "networks": len(table.rows),
        "seeds": seeds,
        "sd_between_seeds": {"points": between.points(seeds), "degrees_of_freedom": between.freedom},
        "sd_pooled": {"points": noise.points(seeds), "degrees_of_freedom": noise.freedom},
        "sd_between_networks": round(float(table.means.std(ddof=1)), 3),
        "sd_by_the_model": round(float(model.fitted.std(ddof=1)), 3),
        "effects": effects(table, noise),
        "any_effect": model.any_effect(table),
        "additive": Model.of(table, pairs=False).lack_of_fit(table),
        "with_pairs": Model.of(table, pairs=True).lack_of_fit(table),
        "model": {"name": "with_pairs" if model.pairs else "additive", "explains": model.explains(table)},
        "everywhere": {
            option: {
                "accuracy": round(float(table.means[place]), 3),
                "by_the_model": round(float(model.fitted[place]), 3),
                "best_over_it": model.best_of(table, noise, every, place),
                **(
                    {}
                    if place == bare
                    else {
                        "over_none": model.gain(noise, place, bare),
                        "over_none_by_its_trainings": trained_gain(table, place, bare),
                    }
                ),
            }
            for option in uniform
            for place in [table.everywhere(option)]
        },
        "costs": of_costs(table, model, noise, uniform[1:]),
    }


@drawn
def plot(table: Placements, found: dict[str, Any]) -> Figure:
    """What SE is worth in each block, and the networks by what they cost."""
    uniform = table.options[table.choices[0]]
    tones = {option: light(tone) for option, tone in zip(uniform[1:], ("orange", "blue", "green"), strict=False)}
    count = (table.rows > 0).sum(axis=1)

    def worth(axes: Axes) -> None:
        for shift, option in enumerate(uniform[1:]):
            for place, name in enumerate(table.choices):
                gain = found["effects"][name][option]
                y = place + 0.24 * (shift - (len(uniform) - 2) / 2)
                axes.plot([gain["low"], gain["high"]], [y, y], color=tones[option])
                axes.plot([gain["points"]], [y], "o", color=tones[option], markersize=4)
        axes.axvline(0, color=light("muted"), linewidth=0.8)
        axes.set_yticks(range(len(table.choices)), [name.removesuffix(".se") for name in table.choices])
        axes.invert_yaxis()
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.set_title("what SE is worth in a block")
        axes.set_xlabel("points over none there (95 %)")
        marks = [Line2D([], [], color=tone, marker="o", markersize=4, label=option) for option, tone in tones.items()]
        axes.legend(handles=marks, loc="best")

    def networks(axes: Axes, metric: str, label: str, title: str) -> None:
        costs = table.costs[metric] / (1e3 if metric == "params" else 1)
        for blocks in range(len(table.choices) + 1):
            of = count == blocks
            tone = light(rank_tone(blocks, len(table.choices) + 1))
            axes.scatter(costs[of], table.means[of], color=tone, s=9, linewidths=0)
        for option in uniform:
            place = table.everywhere(option)
            axes.plot([costs[place]], [table.means[place]], "D", color=light("red"), markersize=5)
            axes.annotate(option, (costs[place], table.means[place]), (4, 4), textcoords="offset points")
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("test accuracy (%)")
        axes.grid(True, axis="both")

    shown = {metric: label for metric, label in SHOWN.items() if metric in table.costs}
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    worth(first)
    titles = ("darker: SE in more blocks", "red: the same everywhere")
    for axes, (metric, label), title in zip(others, shown.items(), titles, strict=False):
        networks(axes, metric, label, title)
    return figure


@one_line_errors()
def main() -> None:
    """Print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="what se_table.py merged")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write answers.json and placements.png there")
    options = parser.parse_args()
    table = Placements(read_record(NetworkTable, options.table))
    found = answers(table)
    shown = Table("block", "SE", "points over none", "95 %")
    for block, gains in found["effects"].items():
        for option, gain in gains.items():
            shown.add_row(block, option, f"{gain['points']:+.2f}", f"{gain['low']:+.2f} to {gain['high']:+.2f}")
    Console(width=120).print(shown)
    if options.results:
        write_json(options.results / "answers.json", found)
        write_atomic(options.results / "placements.png", figure_png(plot(table, found)))
    print(json.dumps({"benchmark": "se_table_answers", **found}))


if __name__ == "__main__":
    main()
