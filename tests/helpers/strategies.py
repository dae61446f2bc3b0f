"""Hypothesis strategies for search spaces, valid by construction, and for their architectures."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from se_nas.space.architecture import Architecture
from se_nas.space.attention import ATTENTION as KINDS
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import kind_and_ratio
from se_nas.space.vocabulary import Activation
from se_nas.space.yaml.file import parse_space

ACTIVATIONS = get_args(Activation)
ATTENTION = ("none", 1, 2, 2.5, 4, 8, 16, "eca", "ese", "spatial", "cbam/2", "cbam/4")


class _Picks:
    """How many ways of picking are left, so that a space with few can be drawn and never has to be thrown away."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def options(self, draw: st.DrawFn, values: Any, places: int, most: int = 3) -> list[Any]:
        """One or more distinct values, for a choice made at `places` places."""
        size = most
        while size > 1 and size**places > self.left:
            size -= 1
        drawn: list[Any] = draw(st.lists(st.sampled_from(values), min_size=1, max_size=size, unique=True))
        self.left //= len(drawn) ** places
        return drawn


@st.composite
def space_data(draw: st.DrawFn, most_picks: int = 10**6) -> dict[str, Any]:
    """YAML data of a space with at most `most_picks` combinations of options (canonical or not)."""
    picks = _Picks(most_picks)
    divisor = draw(st.sampled_from((1, 8)))
    values = range(2, 13) if divisor == 1 else (8, 16)
    # a choice of widths, or one of what all are multiplied by
    tied = draw(st.integers(0, 3)) == 0
    multipliers = picks.options(draw, (1, 1.5) if divisor == 1 else (1, 2), 1) if tied else [1]
    of_choice = 1 if tied or draw(st.booleans()) else 2

    def width(*more: int) -> list[int]:
        return picks.options(draw, (*values, *more), 1, most=of_choice)

    # of one space in four, as a step more of images is dear
    resolutions = picks.options(draw, range(8, 17), 1, most=2 if draw(st.integers(0, 3)) == 0 else 1)
    stem, count = width(), draw(st.integers(1, 3))
    stages = _stages(draw, picks, divisor, stem, [width() for _ in range(count)], multipliers != [1])
    hidden = _one(picks.options(draw, (7, 9), 1, most=of_choice)) if draw(st.booleans()) else 0
    then = draw(st.booleans())
    return {
        "name": "drawn",
        "resolution": _one(resolutions),
        "channels": draw(st.sampled_from((1, 3))),
        "classes": draw(st.integers(2, 5)),
        "channel_divisor": divisor,
        "width_multiplier": multipliers,
        "stem": {
            "width": width() if then else _one(stem),
            "kernel": draw(st.sampled_from((1, 3))),
            "stride": draw(st.sampled_from((1, 2))),
            "activation": draw(st.sampled_from(ACTIVATIONS)),
            "pool": draw(st.sampled_from((False, True, "ceil"))),
            "bias": draw(st.booleans()),
            "norm": draw(st.booleans()),
            "then": [{"width": stem[0], "activation": "silu"}] if then else [],
        },
        "stages": stages,
        "head": {
            "width": draw(st.sampled_from((0, _one(width(24))))),
            "hidden": hidden,
            "hidden_layers": draw(st.sampled_from((1, 2))) if hidden else 1,
            "activation": draw(st.sampled_from(ACTIVATIONS)),
            # other numbers of features would have other dropout at the same seed
            "dropout": draw(st.sampled_from((0.0, 0.25))) if of_choice == len(multipliers) == 1 else 0.0,
            "norm": draw(st.booleans()),
            "max_pool": draw(st.booleans()),
            "flatten": draw(st.booleans()) if len(resolutions) == 1 else False,
            "hidden_bias": draw(st.booleans()) if hidden else True,
            "classifier_bias": draw(st.booleans()),
        },
    }


def _one(options: list[Any]) -> Any:
    """The options as a file has them; one of them without its list."""
    return options if len(options) > 1 else options[0]


def _stages(
    draw: st.DrawFn, picks: _Picks, divisor: int, stem: list[int], widths: list[list[int]], tied: bool
) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = []
    for index, (before, width) in enumerate(zip((stem, *widths), widths, strict=False)):
        stride = draw(st.sampled_from((1, 2)))
        # where no border shows between two stages, only the first may vary in depth
        depths = 1 if index and stride == 1 and set(width) & set(before) else 3
        stages.append(_stage(draw, picks, divisor, before, width, stride, depths, tied))
    return stages


def _stage(
    draw: st.DrawFn,
    picks: _Picks,
    divisor: int,
    before: list[int],
    width: list[int],
    stride: int,
    depths: int,
    tied: bool,
) -> dict[str, Any]:
    depth = picks.options(draw, (1, 2, 3), 1, most=depths)
    share = draw(st.lists(st.sampled_from(("kernel", "expansion", "activation", "se", "block")), unique=True))

    def places(part: str) -> int:
        return 1 if part in share else max(depth)

    def activation() -> dict[str, Any]:
        return {"activation": _one(picks.options(draw, ACTIVATIONS, places("activation"), most=2))}

    def options(expansions: tuple[float, ...] | None) -> dict[str, Any]:
        return {
            "kernel": picks.options(draw, (1, 3, 5), places("kernel")),
            **({"expansion": picks.options(draw, expansions, places("expansion"))} if expansions else {}),
            **({"se": _se(draw, picks, places("se"))} if draw(st.booleans()) else {}),
        }

    stage: dict[str, Any] = {
        "width": _one(width),
        "stride": stride,
        "depth": depth,
        "share": share,
    }
    # no expansion is in two of these, so that no two blocks of a stage can be the same
    few = (1, 2, 3) if divisor == 8 else (1, 1.5, 2, 3)
    keeps_shape = stride == 1 and bool(set(before) & set(width))
    grows, varies = max(before) <= min(width), tied or len(before) + len(width) > 2
    sums = keeps_shape or max(depth) > 1
    if draw(st.booleans()):
        block = _placed({"kind": "mbconv", **options(few)}, sums)
        return {**stage, **activation(), **{name: value for name, value in block.items() if name != "kind"}}
    middle = (1, 2, 3) if divisor == 8 else (0.5, 1, 2)
    expansions = {
        "narrow": few,
        "wide": (4, 6),
        "bottleneck": middle,
        "basic": middle,
        "fused_mbconv": few,
        "residual_conv": None,
        "conv": None,
        "separable": None,
    }
    names = [*expansions, "identity"]
    # where the pooled input is a branch, it is of another width in a stage's other blocks
    passes = before[0] < width[0] and max(depth) == 1
    if not varies:  # a part of such a block is none
        names += ["shuffle"] if keeps_shape or before < width else []
        names += ["inception"] if passes or width[0] > 3 else []
    blocks = []
    for name in picks.options(draw, names, places("block")):
        block = {"kind": "mbconv" if name in ("narrow", "wide") else name, "name": name}
        if name == "shuffle":
            block |= _shuffle(draw, before[0], width[0], keeps_shape) | options(None)
        elif name in expansions:
            block |= options(expansions[name])
        elif name == "inception":
            block |= _inception(draw, width[0] - before[0] if passes else width[0], passes) | options(None)
        if name in ("narrow", "wide", "fused_mbconv", "residual_conv"):
            block |= {"skip": draw(st.booleans())}
        if name in ("narrow", "wide"):
            block |= {"always_expands": draw(st.booleans())}
            if not varies and len(block["expansion"]) == len(block["kernel"]) == 1:
                block = _in_parts(draw, block)
        if name in ("bottleneck", "basic"):
            block |= _residual(draw, grows)
        if name == "bottleneck":
            width_of_groups = draw(st.sampled_from((0, 1) if divisor == 1 else (0, 2, 4, 8)))
            block |= {
                "group_width": width_of_groups,
                "entry": 1.0 if width_of_groups == 1 else draw(st.sampled_from((0.5, 1.0))),
                "stride_at": draw(st.sampled_from(("kxk", "1x1"))),
            }
        if name != "identity" and draw(st.booleans()):
            block |= activation()
        blocks.append(_placed(block, sums))
    if any("activation" not in block for block in blocks if block["kind"] != "identity"):
        stage["activation"] = draw(st.sampled_from(ACTIVATIONS))
    return {**stage, "blocks": blocks}


def _placed(block: dict[str, Any], sums: bool) -> dict[str, Any]:
    """The block, with no SE on a shortcut that it never has; `sums` says whether one of the stage keeps its shape."""
    inverted = block["kind"] in ("mbconv", "fused_mbconv", "residual_conv")
    shortcut = block["kind"] in ("bottleneck", "basic", "shuffle") or (sums and inverted and block.get("skip", True))
    if shortcut or "se" not in block:
        return block
    positions = [p for p in block["se"]["position"] if p != "identity"]
    return {**block, "se": {**block["se"], "position": positions or "standard"}}


def _residual(draw: st.DrawFn, grows: bool) -> dict[str, Any]:
    shortcuts = ("projection", "conv3x3", "pooled", *(["pad"] if grows else []))
    return {"preactivation": draw(st.booleans()), "shortcut": draw(st.sampled_from(shortcuts))}


def _in_parts(draw: st.DrawFn, block: dict[str, Any]) -> dict[str, Any]:
    """An MBConv of one size whose convolutions may be several side by side, each of at least one channel."""
    one = {"expand_parts": draw(st.sampled_from((1, 2))), "project_parts": draw(st.sampled_from((1, 2)))}
    kernels = draw(st.sampled_from(([], [3, 5], [5, 1])))
    return {**block, **one, **({"mixed_kernels": kernels, "kernel": max(kernels)} if kernels else {})}


def _shuffle(draw: st.DrawFn, before: int, width: int, keeps_shape: bool) -> dict[str, Any]:
    """A ShuffleNet unit whose channels can be grouped wherever it stands in its stage."""
    channels = (before, width, width if keeps_shape else width - before)
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if not any(count % g for count in channels)]))
    return {"groups": groups, "dense_reduction": draw(st.booleans())}


def _inception(draw: st.DrawFn, width: int, passes: bool) -> dict[str, Any]:
    """Branches of `width` channels in all, beside the pooled input if it `passes`."""
    part = 0 if passes else width // 3
    last = width - part
    split = [[2, last]] if last < 2 else [[3, last // 2], [2, 3, last - last // 2]]
    return {"branches": split, "pool": draw(st.sampled_from(("mean", "max"))), "pool_width": part}


def _se(draw: st.DrawFn, picks: _Picks, places: int) -> dict[str, Any]:
    options = picks.options(draw, ATTENTION, places, most=4)
    kinds = [KINDS[kind_and_ratio(option)[0]] for option in options if option != "none"]
    # a list that no option reads is refused
    any_unit, squeezed = len(kinds) > 0, any(kind.reads_squeeze for kind in kinds)
    hidden = any(kind.has_ratio for kind in kinds)
    positions = ("inside", "standard", "pre", "post", "identity")
    return {
        "options": options,
        "ratio_of": draw(st.sampled_from(("block_input", "expanded", "block_output"))),
        "divisor": draw(st.sampled_from((1, 2, 8))),
        "position": picks.options(draw, positions, places, most=3 if any_unit else 1),
        "squeeze": picks.options(draw, ("mean", "max", "none"), places, most=2 if squeezed else 1),
        "activation": picks.options(draw, ACTIVATIONS, places, most=2 if hidden else 1),
        "gate": picks.options(draw, ("sigmoid", "hard_sigmoid", "tanh", "relu"), places, most=2 if any_unit else 1),
    }


def spaces(most_picks: int = 10**6) -> st.SearchStrategy[SearchSpace]:
    """Search spaces with at most `most_picks` combinations of options (canonical or not)."""
    return space_data(most_picks).map(lambda data: parse_space(data, "drawn"))


def architectures(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    """Canonical architectures of a space; every combination of options may be drawn."""
    picks = st.fixed_dictionaries({choice.name: st.sampled_from(choice.options) for choice in space.choices})
    return picks.map(space.architecture)


def spaces_with_architectures(most_picks: int = 10**6) -> st.SearchStrategy[tuple[SearchSpace, Architecture]]:
    """A space and one of its architectures."""
    return spaces(most_picks).flatmap(lambda space: st.tuples(st.just(space), architectures(space)))
