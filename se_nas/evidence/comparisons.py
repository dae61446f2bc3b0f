"""The answer against each control: paired differences over seeds, and what they amount to together.

Each comparison stands for itself with its 95 % interval; as there are several, Holm's adjusted p-values stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from se_nas.evidence.controls import Control, ControlKind
from se_nas.evidence.statistics import Estimate, crossed_difference, holm, paired_difference
from se_nas.records.models.evidence import ComparisonEntry
from se_nas.records.models.plan import Rival

#: Kinds of networks that are compared with by their mean, and what they are called, one or several.
GROUPS: Mapping[ControlKind, str] = {"random": "{}", "of_size": "{} of its size"}

#: Accuracies, from 0 to 1, by network's name and seed; a training that is not done or diverged is absent.
Accuracies = Mapping[str, Mapping[int, float]]


def compare(
    controls: Sequence[Control],
    accuracies: Accuracies,
    seeds: Sequence[int],
    test_images: int,
    claim: Rival | None = None,
) -> list[ComparisonEntry]:
    """The comparisons of the first control, the answer, with every other one, as `controls.json` has them.

    The random networks are compared with in two ways, and before the others: as a sample of what the budgets allow
    (see `crossed_difference`), and, where two of them have two seeds, by the best of them (see `_best_by_training`).
    Those of the answer's size are a sample too. All take the networks and seeds of `_full_table`, and name under
    "left_out" the networks that are not in it. A comparison with one network takes the seeds that both have.

    Args:
        controls: the answer first.
        seeds: that were asked for.
        test_images: that every accuracy is a share of.
        claim: the comparison that was planned, which is tested alone; Holm's correction is of the others.
    """
    answer, *others = controls
    entries: list[tuple[dict[str, object], Estimate, dict[str, float]]] = []
    for kind, what in GROUPS.items():
        drawn = [control.name for control in others if control.kind == kind]
        if not drawn:
            continue
        names, shared = _full_table(answer.name, drawn, accuracies, seeds)
        sides = {"theirs": names, "networks": len(names), "left_out": [name for name in drawn if name not in names]}
        mine = _table([answer.name], shared, accuracies)[0]
        rows = _table(names, shared, accuracies)
        one, several = f"one {what.format('random network')}", what.format(f"{len(names)} random networks")
        label = one if len(names) == 1 else f"the mean of {several}"
        estimate = difference(answer.name, names, accuracies, shared, test_images)
        about = {"label": label, **sides, **_claimed(claim, f"{kind}_mean")}
        entries.append((about, estimate, _by_seed(shared, mine - rows.mean(axis=0))))
        if kind == "random" and len(names) > 1 and len(shared) > 1:
            best = _best_by_training(rows)
            estimate = paired_difference(mine, best, resolution=1 / test_images)
            estimate = replace(estimate, method=f"{estimate.method}; the best chosen by the mean of the other seeds")
            about = {"label": f"the best of {several} by training", **sides, "selected": True}
            entries.append((about | _claimed(claim, "random_best"), estimate, _by_seed(shared, mine - best)))
    for control in others:
        if control.kind not in GROUPS:
            shared = _shared([answer.name, control.name], accuracies, seeds)
            mine, theirs = _table([answer.name, control.name], shared, accuracies)
            about = {"label": control.label, "theirs": [control.name], "networks": 1}
            estimate = difference(answer.name, [control.name], accuracies, shared, test_images)
            entries.append((about, estimate, _by_seed(shared, mine - theirs)))
    adjusted = holm([None if about.get("primary") else estimate.p for about, estimate, _ in entries])
    return [
        estimate.entry_of(ComparisonEntry, ours=answer.name, **about, by_seed=by_seed, p_holm=p)
        for (about, estimate, by_seed), p in zip(entries, adjusted, strict=True)
    ]


def _claimed(claim: Rival | None, this: str) -> dict[str, object]:
    return {"primary": True} if claim == this else {}


def difference(
    ours: str, theirs: Sequence[str], accuracies: Accuracies, seeds: Sequence[int], test_images: int
) -> Estimate:
    """Our accuracy less theirs, or the mean of theirs if they are several, over the seeds that all of them have.

    Args:
        ours, theirs: names of networks.
        seeds: that were asked for.
        test_images: that every accuracy is a share of.
    """
    shared = _shared([ours, *theirs], accuracies, seeds)
    mine, *rows = _table([ours, *theirs], shared, accuracies)
    if len(theirs) == 1:
        return paired_difference(mine, rows[0], resolution=1 / test_images)
    return crossed_difference(mine, np.array(rows))


def _full_table(
    ours: str, theirs: Sequence[str], accuracies: Accuracies, seeds: Sequence[int]
) -> tuple[list[str], list[int]]:
    """The networks and seeds of the largest table without a gap, all of whose seeds we have too.

    A training that diverged thus costs its network or its seed, whichever leaves more; which is decided by what is
    missing alone, never by an accuracy. Nothing in common: all networks, and no seed.
    """
    best: tuple[list[str], list[int]] = (list(theirs), [])
    for name in theirs:
        shared = _shared([ours, name], accuracies, seeds)
        complete = [other for other in theirs if len(_shared([ours, other], accuracies, shared)) == len(shared)]
        if len(complete) * len(shared) > len(best[0]) * len(best[1]):
            best = (complete, shared)
    return best


def _best_by_training(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What random search by training hands back: (n,) accuracies of the best of k networks, chosen without looking.

    For each seed the best is that with the highest mean over the other seeds, so that the luck of a training that
    made a network the best does not count in its favour; the mean is thus not biased upwards. The choices share seeds,
    so that an interval of the difference is a little too narrow where several networks are about as good (a nominal
    95 % covers 90 to 93 %), and which networks were drawn is not in it.

    Args:
        rows: (k, n) accuracies, one row for each network, one column for each of at least two seeds.
    """
    others = rows.sum(axis=1, keepdims=True) - rows
    chosen: npt.NDArray[np.float64] = rows[others.argmax(axis=0), np.arange(rows.shape[1])]
    return chosen


def _shared(names: Sequence[str], accuracies: Accuracies, seeds: Sequence[int]) -> list[int]:
    return [seed for seed in seeds if all(seed in accuracies.get(name, {}) for name in names)]


def _table(names: Sequence[str], seeds: Sequence[int], accuracies: Accuracies) -> npt.NDArray[np.float64]:
    """(names, seeds) accuracies."""
    rows = [[accuracies[name][seed] for seed in seeds] for name in names] if seeds else []
    return np.array(rows, dtype=np.float64).reshape(len(names), len(seeds))


def _by_seed(seeds: Sequence[int], differences: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(map(str, seeds), differences.tolist(), strict=True))
