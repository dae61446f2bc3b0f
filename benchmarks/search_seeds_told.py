"""What test accuracies of the answers of several searches, each with several seeds, and of random networks tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import linregress

from se_nas.evidence.statistics import holm, student_interval

Numbers = NDArray[np.float64]
AS_MANY = (2, 4, 6, 10)
"""Random networks that are trained once each, to take the best."""


@dataclass(frozen=True)
class Networks:
    """Of one search, or random ones: what they are worth and how large they are.

    Attributes:
        accuracies: (networks, seeds); parameters: (networks,).
    """

    accuracies: Numbers
    parameters: Numbers

    @classmethod
    def of(cls, several: Iterable[Networks]) -> Networks:
        """All of several."""
        found = list(several)
        return cls(np.concatenate([one.accuracies for one in found]), np.concatenate([one.parameters for one in found]))

    @property
    def worth(self) -> Numbers:
        """(networks,) the mean over the seeds."""
        return np.asarray(self.accuracies.mean(axis=1))

    @property
    def noise(self) -> tuple[float, int]:
        """Variance of one training, and its degrees of freedom."""
        freedom = self.accuracies.size - len(self.accuracies)
        return float(((self.accuracies - self.worth[:, None]) ** 2).sum()) / freedom, freedom


@dataclass(frozen=True)
class Between:
    """The variance between answers of one search, in what each is worth, pooled over the searches."""

    variance: float
    freedom: int

    @classmethod
    def of(cls, searches: Mapping[str, Networks]) -> Between:
        """At least what the noise of trainings makes of it, since answers may be the same network."""
        freedom = sum(len(answers.worth) - 1 for answers in searches.values())
        squares = sum(float(((answers.worth - answers.worth.mean()) ** 2).sum()) for answers in searches.values())
        noise, _ = answers_noise(searches)
        seeds = next(iter(searches.values())).accuracies.shape[1]
        return cls(max(squares / freedom, noise / seeds), freedom)

    def over(self, answers: Networks, expected: float, variance: float, freedom: int) -> dict[str, float]:
        """The answers' mean over what is expected of random networks, which has a variance too."""
        ours = self.variance / len(answers.worth)
        total = ours + variance
        together = total**2 / (ours**2 / self.freedom + variance**2 / freedom)
        return estimate(float(answers.worth.mean()) - expected, math.sqrt(total), together)


class Line:
    """Accuracy by the logarithm of the parameters, by least squares over random networks."""

    def __init__(self, random: Networks) -> None:
        self.x, y = np.log2(random.parameters), random.worth
        self.fit, self.freedom = linregress(self.x, y), len(y) - 2
        self.left = float(((y - self.fit.intercept - self.fit.slope * self.x) ** 2).sum()) / self.freedom

    def at(self, doublings: float) -> tuple[float, float]:
        """What is expected of log2 of the parameters, and its variance."""
        apart = (doublings - self.x.mean()) ** 2 / float(((self.x - self.x.mean()) ** 2).sum())
        return self.fit.intercept + self.fit.slope * doublings, self.left * (1 / len(self.x) + apart)

    def left_of(self, some: Networks) -> Networks:
        """Some networks with what is expected of their size taken off."""
        expected = np.array([self.at(size)[0] for size in np.log2(some.parameters)])
        return Networks(some.accuracies - expected[:, None], some.parameters)

    def told(self) -> dict[str, Any]:
        """Of a doubling of the parameters."""
        slope = estimate(float(self.fit.slope), float(self.fit.stderr), self.freedom)
        return {"networks": len(self.x), "of_a_doubling": slope, "r2": float(self.fit.rvalue) ** 2}


def best_of_by_one_training(random: Networks, k: int) -> float:
    """What the best of k random networks by one training is worth over their mean, by its other trainings.

    The mean over the seeds of that training, and over all ways to draw k of the networks: the i-th best of n is the
    best of those drawn with chance C(n - i, k - 1) / C(n, k).
    """
    n, seeds = random.accuracies.shape
    chances = np.array([math.comb(n - i, k - 1) / math.comb(n, k) for i in range(1, n + 1)])
    gains = []
    for seed in range(seeds):
        others = np.delete(random.accuracies, seed, axis=1).mean(axis=1)
        order = np.argsort(-random.accuracies[:, seed], kind="stable")
        gains.append(float(chances @ others[order] - others.mean()))
    return float(np.mean(gains))


def answers_noise(searches: Mapping[str, Networks]) -> tuple[float, int]:
    """Variance of one training of an answer, and its degrees of freedom."""
    found = [answers.noise for answers in searches.values()]
    freedom = sum(of for _, of in found)
    return sum(variance * of for variance, of in found) / freedom, freedom


def estimate(value: float, error: float, freedom: float) -> dict[str, float]:
    """A difference with its 95 % interval."""
    low, high, p = student_interval(value, error, freedom)
    return {"value": value, "low": low, "high": high, "degrees_of_freedom": round(freedom, 1), "p": p}


def with_holm(estimates: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The same with the p that counts how many they are."""
    adjusted = holm([one["p"] for one in estimates.values()])
    return {name: one | {"p_holm": p or 0.0} for (name, one), p in zip(estimates.items(), adjusted, strict=True)}


def told_apart(searches: Mapping[str, Networks], random: Mapping[str, Networks]) -> dict[str, Any]:
    """Everything, in the unit of the accuracies.

    Args:
        searches: by name, the answers of one run each.
        random: by what they are, random networks.
    """
    noise, noise_freedom = answers_noise(searches)
    found: dict[str, Any] = {
        "noise_of_answers": {"sd": math.sqrt(noise), "degrees_of_freedom": noise_freedom},
        "random": {
            name: {
                "networks": len(some.worth),
                "mean": float(some.worth.mean()),
                "sd_of_means": float(some.worth.std(ddof=1)),
                "noise": math.sqrt(some.noise[0]),
                "best_by_one_training_over_their_mean": {
                    k: best_of_by_one_training(some, k) for k in AS_MANY if k <= len(some.worth)
                },
            }
            for name, some in random.items()
        },
    }
    line = Line(Networks.of(random.values()))
    found["by_size"] = line.told()
    if all(len(answers.worth) < 2 for answers in searches.values()):
        return found
    between = Between.of(searches)
    seeds = next(iter(searches.values())).accuracies.shape[1]
    found["between_runs"] = {
        "sd": math.sqrt(between.variance - noise / seeds),
        "sd_of_means": math.sqrt(between.variance),
        "degrees_of_freedom": between.freedom,
        "p": float(f_distribution.sf(between.variance * seeds / noise, between.freedom, noise_freedom)),
    }
    if len(searches) > 1:
        whole = np.concatenate([answers.worth for answers in searches.values()])
        explained = sum(len(one.worth) * (one.worth.mean() - whole.mean()) ** 2 for one in searches.values())
        ratio = float(explained) / (len(searches) - 1) / between.variance
        p = float(f_distribution.sf(ratio, len(searches) - 1, between.freedom))
        found["any_difference"] = {"f": ratio, "p": p}
    found["pairs"] = with_holm(
        {
            f"{ours} over {theirs}": estimate(
                float(searches[ours].worth.mean() - searches[theirs].worth.mean()),
                math.sqrt(between.variance * sum(1 / len(searches[name].worth) for name in (ours, theirs))),
                between.freedom,
            )
            for ours, theirs in combinations(searches, 2)
        }
    )
    for name, some in random.items():
        variance, freedom = float(some.worth.var(ddof=1)) / len(some.worth), len(some.worth) - 1
        found["random"][name]["answers_over_their_mean"] = with_holm(
            {of: between.over(one, float(some.worth.mean()), variance, freedom) for of, one in searches.items()}
        )
    left = {name: line.left_of(answers) for name, answers in searches.items()}
    between = Between.of(left)
    found["by_size"]["answers_over_it"] = with_holm(
        {
            name: between.over(left[name], 0.0, line.at(float(np.log2(answers.parameters).mean()))[1], line.freedom)
            for name, answers in searches.items()
        }
    )
    return found
