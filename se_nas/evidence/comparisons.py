"""The answer against each control: paired differences over seeds, and what they amount to together.

Each comparison stands for itself with its 95 % interval; as there are several, Holm's adjusted p-values stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from se_nas.evidence.controls import Control
from se_nas.evidence.statistics import Estimate, crossed_difference, holm, paired_difference

#: Accuracies, from 0 to 1, by network's name and seed; a training that is not done or diverged is absent.
Accuracies = Mapping[str, Mapping[int, float]]


def compare(controls: Sequence[Control], accuracies: Accuracies, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The comparisons of the first control, the answer, with every other one, as `controls.json` has them.

    The random networks are one comparison, as a sample of what the budgets allow; see `crossed_difference`. Only seeds
    that both sides have count, of the random networks those that all of them have.

    Args:
        controls: the answer first.
        seeds: that were asked for.
    """
    answer, *others = controls
    drawn = [control for control in others if control.kind == "random"]
    groups = [[control] for control in others if control.kind != "random"]
    if drawn:
        groups.insert(0, drawn)
    estimates = [_difference(answer.name, [c.name for c in group], accuracies, seeds) for group in groups]
    adjusted = holm([estimate.p for estimate in estimates])
    return [
        {
            "ours": answer.name,
            "theirs": [control.name for control in group],
            "label": f"the mean of {len(group)} random networks" if group[0].kind == "random" else group[0].label,
            "networks": len(group),
            **estimate.as_dict(),
            "p_holm": p,
        }
        for group, estimate, p in zip(groups, estimates, adjusted, strict=True)
    ]


def _difference(ours: str, theirs: Sequence[str], accuracies: Accuracies, seeds: Sequence[int]) -> Estimate:
    shared = [seed for seed in seeds if all(seed in accuracies.get(name, {}) for name in (ours, *theirs))]
    mine = np.array([accuracies[ours][seed] for seed in shared])
    rows = np.array([[accuracies[name][seed] for seed in shared] for name in theirs]).reshape(len(theirs), len(shared))
    return paired_difference(mine, rows[0]) if len(theirs) == 1 else crossed_difference(mine, rows)
