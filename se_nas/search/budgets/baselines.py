"""Baselines: what is built without a search, SE nowhere or everywhere at one ratio, as large as the budgets allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from se_nas.cost.budget import Budget
from se_nas.cost.table import CostTable
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.search.budgets.decode import decode, greatest_cost
from se_nas.space.architecture import Architecture
from se_nas.space.attention import OF_BARE_RATIO
from se_nas.space.choice import SE_PARTS, Option
from se_nas.space.search_space import SearchSpace
from se_nas.space.slots.slot import SlotOp
from se_nas.space.templates import NO_SE, se_label

WITHOUT_SE = "no_se"

#: Share of its MACs by which a baseline may fall short of the greatest network; closing it can take minutes.
GAP = 1e-3


def known_baselines(space: SearchSpace) -> tuple[str, ...]:
    """Names of the baselines of a space: `no_se` where SE can be left out, `se_r16` for each ratio that it offers."""
    choices = _se_choices(space)
    without = any(NO_SE in space.choice_by_name[name].options for name in choices)
    return (*([WITHOUT_SE] if without else []), *(f"se_{se_label(ratio)}" for ratio in _ratios(choices)))


def baseline(
    name: str,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    held: Mapping[str, Option] | None = None,
) -> Architecture:
    """The network of the most MACs, to within 0.1 %, that keeps the budgets with SE placed as the name says.

    `no_se`: SE only in blocks that cannot be without. `se_rN`: SE in every block that offers a choice of SE, with the
    hidden width nearest to that of ratio N, summed over the sizes that the block may have; a choice between other
    attention alone is `none`, where it can be. Its position, squeeze, activation and gate are those listed first.

    Args:
        tables: by metric, that of MACs among them.
        held: picks that it has besides.

    Raises:
        ConfigError: the space has no baseline of this name.
        InfeasibleBudgetError: no network with SE so placed keeps the budgets.
    """
    first = {c.name: c.options[0] for c in space.choices if c.place.part in SE_PARTS[1:]}
    only = first | _pinned(name, space) | dict(held or {})
    try:
        return greatest_cost(space, tables, "macs", budgets, only, GAP).architecture
    except InfeasibleBudgetError as error:
        raise InfeasibleBudgetError(f"baseline {name}: {error}") from error


def repinned(
    name: str,
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    budgets: Sequence[Budget],
    architecture: Architecture,
) -> Architecture:
    """An architecture with SE placed as a baseline's name says and as few other picks changed as the budgets need.

    Raises:
        ConfigError, InfeasibleBudgetError: as `baseline` does.
    """
    only, picks = _pinned(name, space), architecture.as_dict()
    scores = {
        choice.name: [
            -math.inf if only.get(choice.name, option) != option else float(option == picks[choice.name]) - 1.0
            for option in choice.options
        ]
        for choice in space.choices
    }
    try:
        return decode(space, tables, budgets, scores).architecture
    except InfeasibleBudgetError as error:
        raise InfeasibleBudgetError(f"baseline {name}: {error}") from error


def _pinned(name: str, space: SearchSpace) -> dict[str, Option]:
    """What a baseline picks for each choice of SE; ConfigError where the space has none of this name."""
    known = known_baselines(space)
    if name not in known:
        which = (
            f"must be one of {', '.join(known)}" if known else "must not be asked for, as the space leaves SE no choice"
        )
        raise ConfigError(f"space {space.name}", [f"a baseline {which}, but got {name!r}"])
    choices = _se_choices(space)
    if name == WITHOUT_SE:
        return {choice: NO_SE for choice in choices if NO_SE in space.choice_by_name[choice].options}
    ratio = next(ratio for ratio in _ratios(choices) if name == f"se_{se_label(ratio)}")
    return {choice: label for choice, ops in choices.items() if (label := _nearest(ops, ratio)) is not None}


def _se_choices(space: SearchSpace) -> dict[str, list[SlotOp]]:
    """Each choice of SE with the blocks that it decides on."""
    found: dict[str, list[SlotOp]] = {}
    for slot in space.slots:
        for op in slot.ops:
            if (choice := op.axis("se").choice) is not None:
                found.setdefault(choice, []).append(op)
    return found


def _ratios(choices: Mapping[str, Sequence[SlotOp]]) -> list[float]:
    offered = {option for ops in choices.values() for op in ops for option in op.template.se.options}
    return sorted(option for option in offered if isinstance(option, (int, float)))


def _nearest(ops: Sequence[SlotOp], ratio: float) -> Option | None:
    """The option whose hidden widths differ least from a ratio's, whose own option may be one of equal widths.

    Without any ratio it is "none", and None where that is no option either.
    """

    def difference(option: Option) -> int:
        total = 0
        for op in ops:
            for sizes in op.sizes:
                block = op.block(**sizes, se=option)
                wanted = op.template.se.spec(ratio)
                assert wanted is not None
                total += abs(block.se_hidden - wanted.hidden(block.in_channels, block.expanded, block.out_channels))
        return total

    labels = ops[0].axis("se").options
    offered = [label for label in labels if (unit := ops[0].se_spec(label)) and unit.kind == OF_BARE_RATIO.name]
    if not offered:
        return NO_SE if NO_SE in labels else None
    return min(offered, key=difference)
