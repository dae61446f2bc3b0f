"""A published network as a control: fitted to small images and to the budgets of a search, its design kept.

Kinds, depths, kernels, expansion and SE ratios stay. Strides fall away from the images on, as small images need
(ResNet's networks for CIFAR, https://arxiv.org/abs/1512.03385, section 4.2), and one factor multiplies every width
(MobileNet's multiplier, https://arxiv.org/abs/1704.04861, section 3.3).
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.metrics import METRICS
from se_nas.errors import ConfigError
from se_nas.space.block_plan import channel_fault
from se_nas.space.channels import round_channels
from se_nas.space.scaling import scaled_space
from se_nas.space.search_space import SearchSpace
from se_nas.space.size import exact_size
from se_nas.space.specs import NetworkSpec
from se_nas.space.templates import Scaling
from se_nas.space.yaml.file import load_space

#: Width factors are multiples of 1 / WIDTH_STEPS.
WIDTH_STEPS = 256
#: How much smaller than the images the last map may be, by side.
REDUCTION = 8
#: The greatest width factor that is tried.
WIDEST = 4
#: How many networks are timed until one keeps a budget on latency.
TIMED = 6
#: Of the MACs at which a latency in proportion to them would keep its budget, the share that is tried next.
_MARGIN = 0.98


def fitted(
    space_file_path: str | os.PathLike[str],
    *,
    resolution: int,
    classes: int,
    channels: int,
    budgets: Sequence[Budget],
) -> NetworkSpec:
    """The network of a space file of one architecture, as wide as the budgets on what is counted allow.

    Strides become 1, and poolings of the stem none, from the first on until the last map has at least an eighth of the
    images' side. Then one factor, the greatest multiple of 1/256, multiplies the channels of stem, stages and head and
    the head's hidden layer, each rounded as the file says; it is 4 at most, and 1 without such a budget.
    Budgets on latency are left to the caller, who has the clock.

    Args:
        resolution: side of the square images, pixels.
        channels: of the images.

    Raises:
        ConfigError: the file is no space of one architecture, or no width keeps the budgets.
    """
    source = str(space_file_path)
    space = load_space(space_file_path)
    if space.choices:
        raise ConfigError(
            source,
            [f"a published network must be of one architecture, but this one has {exact_size(space.size)}"],
        )
    limits = {budget.metric: budget.limit for budget in budgets if METRICS[budget.metric].counted}
    base = _with_fewer_strides(replace(scaled_space(space, Scaling("control", resolution, classes)), channels=channels))

    if not limits:
        return _at_width(base, WIDTH_STEPS)

    @cache
    def buildable(steps: int) -> NetworkSpec | None:
        """The network, where its channels go with its groups and branches."""
        network = _at_width(base, steps)
        return network if all(channel_fault(block) is None for block in network.blocks) else None

    def greatest(steps: int) -> NetworkSpec | None:
        """The widest network of at most so many steps that can be built."""
        return next(filter(None, map(buildable, range(steps, 0, -1))), None)

    def exceeds(steps: int) -> bool:
        network = greatest(steps)
        return network is not None and any(METRICS[metric].of(network) > limit for metric, limit in limits.items())

    network = greatest(bisect_right(range(1, WIDEST * WIDTH_STEPS + 1), False, key=exceeds))
    if network is None:
        kept = " and ".join(str(budget) for budget in budgets if budget.metric in limits)
        least = next(filter(None, map(buildable, range(1, WIDTH_STEPS + 1))))
        counted = (f"{METRICS[m].of(least):,.0f} {METRICS[m].unit}" for m in dict.fromkeys(("macs", "params", *limits)))
        problem = (
            f"the network must keep {kept} at some width, but for images of {resolution}x{resolution} pixels the least "
            f"has {' and '.join(counted)}"
        )
        raise ConfigError(source, [problem])
    return network


def narrowed(
    fit: Callable[[Sequence[Budget]], NetworkSpec],
    budgets: Sequence[Budget],
    share: Callable[[NetworkSpec], float],
) -> Budget | None:
    """A limit on the MACs under which a fitted network keeps its budgets on latency too, by the clock.

    Args:
        fit: `fitted`, but for the budgets.
        budgets: on what is counted.
        share: the upper end of a network's measured latency as a share of its budget, of several latencies the
            greatest; at most 1 where they are kept.

    Returns:
        What takes the place of a budget on MACs; None where none of `TIMED` networks keeps the latencies,
        or there is none as narrow as it asks for.

    Raises:
        ConfigError: no width keeps `budgets`.
    """
    network = fit(budgets)
    for _ in range(TIMED):
        macs = network_counts(network).macs
        taken = share(network)
        if taken <= 1:
            return Budget("macs", macs)
        limit = Budget("macs", macs / taken * _MARGIN)
        try:
            network = fit([limit, *(budget for budget in budgets if budget.metric != "macs")])
        except ConfigError:
            return None
    return None


def _with_fewer_strides(space: SearchSpace) -> SearchSpace:
    """Strides and stem poolings taken away, from the images on, while the last map is too small."""

    def too_small(space: SearchSpace) -> bool:
        return space.head_spec.resolution * REDUCTION < max(space.resolutions)

    for i in range(len(space.stem.convs)):
        for change in ({"stride": 1}, {"pool": False}):
            if too_small(space):
                then = [replace(conv, **(change if j == i else {})) for j, conv in enumerate(space.stem.then, 1)]
                first = change if i == 0 else {}
                space = replace(space, stem=replace(space.stem, **first, then=tuple(then)))
    for s, stage in enumerate(space.stages):
        if too_small(space):
            stages = (*space.stages[:s], replace(stage, stride=1), *space.stages[s + 1 :])
            space = replace(space, stages=stages)
    return space


def _at_width(space: SearchSpace, steps: int) -> NetworkSpec:
    """The one network of a space with every width times `steps` / WIDTH_STEPS."""
    factor = steps / WIDTH_STEPS
    wider = scaled_space(space, Scaling("control", space.resolution, width=factor))
    if space.head.hidden and factor != 1:
        hidden = round_channels(space.head_spec.hidden * factor, space.channel_divisor)
        wider = replace(wider, head=replace(wider.head, hidden=hidden))
    return wider.resolve(wider.architecture({}))
