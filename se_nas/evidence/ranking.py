"""How well a supernet ranks networks that were trained on their own, beside what their cost alone would say.

Costs rank networks too, without any training (White et al., "A Deeper Look at Zero-Cost Proxies", ICLR blog 2022),
and trainings are noisy: two trainings of the same networks do not agree on their order either, though a perfect score
would agree with one training more than another training does. So a rank correlation is read beside these two, and the
part of it that costs do not explain is told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from se_nas.cost.metrics import METRICS, is_latency
from se_nas.evidence.statistics import (
    kendall,
    kendall_gain,
    partial_kendall,
    random_top_k_regret,
    seed_ceiling,
    spearman,
    top_k_regret,
)
from se_nas.records.models.evidence import CorrelationPair, NetworkCosts, RankedEntry, RankingSet, RegretEntry

#: How many of the best-scored are looked at for the regret.
TOP = (1, 3, 5)
#: What ranks the networks, and latency too where every network has one; fewer than so many are no ranking.
SCORES = ("supernet", "uncalibrated", "macs", "params")
FEWEST = 3


@dataclass(frozen=True)
class Ranked:
    """A network of a ranking.

    Attributes:
        supernet, uncalibrated: accuracy with the supernet's weights, with batch norms of its own and with the
            supernet's running statistics.
        accuracies: by seed, after training on its own.
    """

    name: str
    costs: NetworkCosts
    supernet: float
    uncalibrated: float
    accuracies: dict[int, float]


def rank(name: str, networks: Sequence[Ranked], seeds: Sequence[int]) -> RankingSet:
    """The ranking of one set of networks, as `ranking.json` has it; without correlations where they are too few.

    The truth of a network is its mean accuracy over the seeds that all of them have, as a seed may be lucky for all.

    Args:
        networks: those that have not been trained with the first seed are left out.
        seeds: of the trainings, the first of which all networks should have.
    """
    done = [network for network in networks if seeds[0] in network.accuracies]
    shared = [seed for seed in seeds if all(seed in network.accuracies for network in done)]
    entries = tuple(
        RankedEntry(
            name=network.name,
            supernet=network.supernet,
            uncalibrated=network.uncalibrated,
            accuracies={str(seed): value for seed, value in network.accuracies.items()},
            **network.costs.plain(),
        )
        for network in done
    )
    if len(done) < FEWEST:
        return RankingSet(name=name, networks=entries)
    truth = np.array([np.mean([network.accuracies[seed] for seed in shared]) for network in done])
    latencies = [m for m in METRICS.listed(entries[0].plain()) if is_latency(m)] if entries else []
    timed = [metric for metric in latencies if all(entry.of(metric) is not None for entry in entries)]
    ranking = (*SCORES, *timed)
    scores = {key: np.array([getattr(entry, key) for entry in entries], dtype=np.float64) for key in ranking}
    table = np.array([[network.accuracies.get(seed, np.nan) for seed in seeds] for network in done])
    twice = (np.isfinite(table).sum(axis=1) >= 2).sum() >= FEWEST
    return RankingSet(
        name=name,
        truth_seeds=tuple(shared),
        networks=entries,
        correlations={
            key: CorrelationPair(kendall=kendall(score, truth).entry, spearman=spearman(score, truth).entry)
            for key, score in scores.items()
        },
        partial_kendall=partial_kendall(scores["supernet"], truth, scores["macs"]).entry,
        gain_over_macs=kendall_gain(scores["supernet"], scores["macs"], truth).entry,
        gain_of_recalibration=kendall_gain(scores["supernet"], scores["uncalibrated"], truth).entry,
        seed_ceiling=seed_ceiling(table).entry if twice else None,
        regret=tuple(
            RegretEntry(
                k=k,
                random=random_top_k_regret(truth, k),
                **{key: top_k_regret(score, truth, k) for key, score in scores.items()},
            )
            for k in TOP
            if k <= len(done)
        ),
    )
