"""Question: where does SE pay, is it additive over blocks, and is one ratio everywhere as good as any placement?

Reads a whole table of placements as benchmarks/se_table.py merges it; every network must have been trained with two
seeds or more. What a block's SE is worth is the mean over all settings of the other blocks. Whether effects add up is
told by an F test of an additive model's lack of fit against the noise between seeds (Draper and Smith, Applied
Regression Analysis, section 2.1). What a placement gains over one ratio everywhere at no more cost would be too good if
the best was picked and judged by the same trainings: it is picked by all seeds but one, and judged by that one. Run:
python benchmarks/se_table_answers.py TABLE.json. It takes a second. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from se_nas.records.models.network_table import NetworkTable
from se_nas.records.record import read_record

Numbers = NDArray[np.float64]
OFF = "none"


class Placements:
    """A whole factorial table.

    Attributes:
        choices: names; options: of each choice, that without SE first.
        rows: (N, choices) numbers of the options of each network.
        accuracies: (N, seeds) in points, by the seeds that all networks have.
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
        if len(table.networks) < max(whole, 2) or len(seeds) < 2:
            raise SystemExit(
                f"the table must have every placement with two seeds or more, but it has {len(table.networks)} of "
                f"{whole} and {len(seeds)} seeds that all have"
            )
        self.rows = np.array(
            [
                [self.options[name].index(str(network.picks[name])) for name in self.choices]
                for network in table.networks
            ]
        )
        self.accuracies = 100 * np.array([[n.accuracies[seed] for seed in sorted(seeds)] for n in table.networks])
        self.costs = {
            metric: np.array([network.costs[metric] for network in table.networks], dtype=np.float64)
            for metric in table.networks[0].costs
        }

    @property
    def means(self) -> Numbers:
        """(N,) over the seeds."""
        return np.asarray(self.accuracies.mean(axis=1))

    @property
    def noise(self) -> tuple[float, int]:
        """Variance of one training between seeds, and its degrees of freedom."""
        count, seeds = self.accuracies.shape
        freedom = count * (seeds - 1)
        return float(((self.accuracies - self.means[:, None]) ** 2).sum() / freedom), freedom

    def everywhere(self, option: str) -> int:
        """The network with this option in every block."""
        wanted = [self.options[name].index(option) for name in self.choices]
        return int(np.flatnonzero((self.rows == wanted).all(axis=1))[0])


def effects(table: Placements) -> dict[str, dict[str, dict[str, float]]]:
    """Points that each option of each block gains over none there, the other blocks as they may be, with 95 %."""
    variance, freedom = table.noise
    seeds = table.accuracies.shape[1]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for column, name in enumerate(table.choices):
        groups = [table.means[table.rows[:, column] == i] for i in range(len(table.options[name]))]
        for option, group in zip(table.options[name][1:], groups[1:], strict=True):
            gain = float(group.mean() - groups[0].mean())
            error = np.sqrt(variance / seeds * (1 / len(group) + 1 / len(groups[0])))
            half = float(t_distribution.ppf(0.975, freedom) * error)
            found.setdefault(name, {})[option] = rounded({"points": gain, "low": gain - half, "high": gain + half})
    return found


def design(table: Placements, pairs: bool) -> Numbers:
    """(N, terms) indicators of the options, and of pairs of them."""
    single = [
        (table.rows[:, column] == i).astype(float)
        for column, name in enumerate(table.choices)
        for i in range(1, len(table.options[name]))
    ]
    blocks = [column for column, name in enumerate(table.choices) for _ in table.options[name][1:]]
    terms = [np.ones(len(table.rows)), *single]
    if pairs:
        terms += [
            single[i] * single[j]
            for i in range(len(single))
            for j in range(i + 1, len(single))
            if blocks[i] != blocks[j]
        ]
    return np.stack(terms, axis=1)


def lack_of_fit(table: Placements, pairs: bool) -> dict[str, float]:
    """How much of the variance between networks a model explains, and whether more than noise is left."""
    terms = design(table, pairs)
    left = table.means - terms @ np.linalg.lstsq(terms, table.means, rcond=None)[0]
    total = float(((table.means - table.means.mean()) ** 2).sum())
    variance, freedom = table.noise
    unexplained = len(left) - terms.shape[1]
    ratio = float((left**2).sum()) * table.accuracies.shape[1] / unexplained / variance if variance else float("inf")
    return {
        "r2": round(1 - float((left**2).sum()) / total, 4),
        "r2_if_the_rest_is_noise": round(1 - variance / table.accuracies.shape[1] * unexplained / total, 4),
        "f": round(ratio, 3),
        "p": round(float(f_distribution.sf(ratio, unexplained, freedom)), 4),
    }


def front(costs: Numbers, accuracies: Numbers) -> NDArray[np.bool_]:
    """(N,) which networks no other one beats in one of both and equals in the other."""
    cheaper, better = costs[None, :] <= costs[:, None], accuracies[None, :] >= accuracies[:, None]
    strictly = (costs[None, :] < costs[:, None]) | (accuracies[None, :] > accuracies[:, None])
    return ~(cheaper & better & strictly).any(axis=1)


def gain_at_no_more_cost(table: Placements, costs: Numbers, network: int) -> float:
    """Points by which the best within a network's cost is better than it, picked and judged by different seeds."""
    within = np.flatnonzero(costs <= costs[network])
    gains = []
    for judge in range(table.accuracies.shape[1]):
        seen = np.delete(table.accuracies, judge, axis=1).mean(axis=1)
        picked = within[int(np.argmax(seen[within]))]
        gains.append(table.accuracies[picked, judge] - table.accuracies[network, judge])
    return float(np.mean(gains))


def of_costs(table: Placements, uniform: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each cost whether one option everywhere is on its front, and what placing SE gains over it."""
    found = {}
    for metric, costs in table.costs.items():
        on = front(costs, table.means)
        found[metric] = {
            "networks_on_the_front": int(on.sum()),
            **{
                f"{option} everywhere": {
                    "on_the_front": bool(on[table.everywhere(option)]),
                    "accuracy": round(float(table.means[table.everywhere(option)]), 3),
                    "gain_of_placing": round(gain_at_no_more_cost(table, costs, table.everywhere(option)), 3),
                }
                for option in uniform
            },
        }
    return found


def rounded(values: dict[str, float]) -> dict[str, float]:
    """To what the trainings can tell."""
    return {key: round(value, 3) + 0.0 for key, value in values.items()}


def answers(table: Placements) -> dict[str, Any]:
    """All that is told."""
    uniform = table.options[table.choices[0]]
    best = int(np.argmax(table.means))
    variance, _ = table.noise
    return {
        "networks": len(table.rows),
        "seeds": table.accuracies.shape[1],
        "sd_between_seeds": round(float(np.sqrt(variance)), 3),
        "sd_between_networks": round(float(table.means.std(ddof=1)), 3),
        "effects": effects(table),
        "additive": lack_of_fit(table, pairs=False),
        "with_pairs": lack_of_fit(table, pairs=True),
        "best": {
            "picks": {
                name: table.options[name][i] for name, i in zip(table.choices, table.rows[best].tolist(), strict=True)
            },
            "accuracy": round(float(table.means[best]), 3),
        },
        "costs": of_costs(table, uniform),
    }


def main() -> None:
    """Print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    found = answers(Placements(read_record(NetworkTable, parser.parse_args().table)))
    shown = Table("block", "SE", "points over none", "95 %")
    for block, options in found["effects"].items():
        for option, gain in options.items():
            shown.add_row(block, option, f"{gain['points']:+.2f}", f"{gain['low']:+.2f} to {gain['high']:+.2f}")
    Console(width=120).print(shown)
    print(json.dumps({"benchmark": "se_table_answers", **found}))


if __name__ == "__main__":
    main()
