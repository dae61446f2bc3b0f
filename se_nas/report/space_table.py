"""One table of search spaces and published networks: their blocks, how many networks, and their exact counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from se_nas.cost.metrics import METRICS
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError
from se_nas.search.budgets.decode import greatest_cost, least_cost
from se_nas.space.blocks import BLOCKS
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import OpTemplate, SEOption, se_label
from se_nas.space.yaml.file import load_space

#: Numbers of networks with more digits are printed to three.
_MOST_DIGITS = 15


def space_table(folder: str | os.PathLike[str]) -> str:
    """A Markdown table of the spaces in a folder and of those in folders inside it, by their first kind of block.

    Every metric that is counted and not aside has a column, from the network of the least to the network of the most.

    Raises:
        ConfigError: a file is no space, or there is none.
    """
    root = Path(folder)
    spaces = {str(path.relative_to(root)): load_space(path) for path in root.rglob("*.yaml")}
    if not spaces:
        got = "has none" if root.is_dir() else "is a file" if root.exists() else "does not exist"
        raise ConfigError(str(folder), [f"must be a folder with search spaces (*.yaml), but {got}"])
    counted = [
        name for name, metric in METRICS.items() if metric.counted and not metric.aside
    ]  # with those of the spaces' plugins
    titles = [METRICS[name].title for name in counted]
    header = ("blocks", "space", "images", "networks", *titles, "attention")
    rows = [_row(name, space, counted) for name, space in sorted(spaces.items(), key=_family_first)]
    lines = (header, ("---",) * len(header), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _family_first(entry: tuple[str, SearchSpace]) -> tuple[object, ...]:
    name, space = entry
    return (list(BLOCKS).index(_ops(space)[0].kind), name.count(os.sep), name)


def _ops(space: SearchSpace) -> list[OpTemplate]:
    """Every block that a stage offers; identities only where there is nothing else."""
    ops = [op for stage in space.stages for op in stage.ops]
    return [op for op in ops if not BLOCKS[op.kind].passes_through] or ops


def _row(name: str, space: SearchSpace, metrics: Sequence[str]) -> tuple[str, ...]:
    ops = _ops(space)
    attention = sorted({option for op in ops for option in op.se.options}, key=_none_then_ratios)
    return (
        ", ".join(_distinct(map(_family, ops))),
        f"`{Path(name).with_suffix('').as_posix()}`",
        ", ".join(f"{side}x{side}" for side in space.resolutions),
        _number(space.size),
        *(_span(space, metric) for metric in metrics),
        " ".join(map(se_label, attention)),
    )


def _none_then_ratios(option: SEOption) -> tuple[bool, bool, SEOption]:
    return (option is not None, isinstance(option, str), option)


def _family(op: OpTemplate) -> str:
    before = "pre-activation " if op.form.preactivation else ""
    return f"{before}{'grouped ' if op.form.group_width else ''}{BLOCKS[op.kind].title}"


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _number(count: int) -> str:
    if count < 10**_MOST_DIGITS:
        return f"{count:,}"
    mantissa, exponent = f"{Decimal(count):.2e}".split("e+")  # a float would overflow
    return f"{mantissa} x 10^{exponent}"


def _span(space: SearchSpace, metric: str) -> str:
    tables = dict(count_tables(space))
    ends = _distinct(f"{find(space, tables, metric).costs[metric]:,.0f}" for find in (least_cost, greatest_cost))
    return " to ".join(ends)
