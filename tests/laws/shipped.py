"""The search spaces that the repository ships."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from se_nas.space.scaling import scaled_space
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import OpTemplate, Scaling, options_of

_FOLDER = Path(__file__).parents[2] / "search_spaces"

SHIPPED = sorted(_FOLDER.glob("*.yaml"))

#: Published networks as spaces of one network.
BASELINES = sorted((_FOLDER / "baselines").glob("*.yaml"))


def reduced(space: SearchSpace) -> SearchSpace:
    """The space for images of 8x8 pixels, further resolutions 4 more each, a quarter as wide if made for large ones.

    Every choice stays; one of depth keeps two options.
    """
    share = 1 if max(space.resolutions) <= 32 else 4
    sides = tuple(range(8, 8 + 4 * len(space.resolutions), 4))
    small = scaled_space(space, Scaling("tiny", sides if len(sides) > 1 else 8, width=1 / share))
    stages = tuple(
        dataclasses.replace(
            stage,
            width=distinct(stage.width),
            depths=stage.depths[:2],
            ops=tuple(narrower(op, share) for op in stage.ops),
        )
        for stage in small.stages
    )
    hidden = options_of(small.head.hidden)
    few = tuple(min(width, 64 - i) for i, width in enumerate(hidden)) if len(hidden) > 1 else min(hidden[0], 64)
    head = dataclasses.replace(small.head, width=distinct(small.head.width), hidden=few)
    stem = dataclasses.replace(small.stem, width=distinct(small.stem.width))
    return dataclasses.replace(small, stages=stages, head=head, stem=stem)


def distinct(width: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """Widths that are one when they are scaled are one option."""
    found = tuple(dict.fromkeys(options_of(width)))
    return found if len(found) > 1 else found[0]


def narrower(op: OpTemplate, share: int) -> OpTemplate:
    branches = tuple(tuple(width // share for width in branch) for branch in op.form.branches)
    form = dataclasses.replace(op.form, branches=branches, pool_width=op.form.pool_width // share)
    return dataclasses.replace(op, form=form)
