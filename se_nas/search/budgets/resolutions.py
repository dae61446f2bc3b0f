"""Decodes at each resolution by itself, for scores that say nothing of resolutions.

Scores add up over choices, so that one program decodes over all resolutions where each has a score. The logits of a
differentiable search have none (see `ChoiceLogits`), and which resolution's best is better has to be looked at: at the
least resolution the budgets leave most room, so that the sum of the logits is greatest there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from se_nas.search.budgets.decode import Decoded, Decoder, Scores
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace


def decoded_at_each(decoder: Decoder, scores: Scores) -> dict[Option, Decoded]:
    """The best at every resolution at which something keeps the budgets; of a space of one resolution there is one."""
    axis = decoder.space.side.axis
    found = {}
    for option in axis.options:
        only = {} if axis.choice is None else {axis.choice: [0.0 if o == option else -math.inf for o in axis.options]}
        if (best := decoder.decoded({**scores, **only})) is not None:
            found[option] = best
    return found


def resolutions_within(decoder: Decoder) -> tuple[Option, ...]:
    """Those at which some architecture keeps the budgets."""
    return tuple(decoded_at_each(decoder, {c.name: [0.0] * len(c.options) for c in decoder.space.choices}))


def with_resolutions(
    space: SearchSpace, scores: Mapping[str, Sequence[float]], worth: Mapping[Option, float]
) -> dict[str, list[float]]:
    """Scores by which a decode takes the resolution of the greatest worth at which something keeps the budgets.

    A step of rank weighs more than all other choices together. Of equals the least resolution is taken, and one whose
    worth is not known only where no other can be.
    """
    plain = {name: list(values) for name, values in scores.items()}
    axis = space.side.axis
    if axis.choice is None:
        return plain
    step = 1.0 + sum(float(np.ptp(values)) for name, values in plain.items() if name != axis.choice)
    order = sorted(axis.options, key=lambda option: (worth.get(option, -math.inf), -float(option)))
    return {**plain, axis.choice: [step * order.index(option) for option in axis.options]}
