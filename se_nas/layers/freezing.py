"""Parts of a network that a training leaves as they are: their weights, and the statistics of their norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from torch import nn

from se_nas.errors import ConfigError, short
from se_nas.layers.network import Network, numbered
from se_nas.space.specs import NetworkSpec

STEM, HEAD = "stem", "head"
#: Stands for every part but the classifier.
ALL = "all"
_CLASSIFIER = "classifier"


def _words(value: object) -> object:
    """Names with commas between them, or a list of names and numbers, as words."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)):
        return value
    return [str(part).strip() if isinstance(part, (str, int)) else part for part in value]


def _known(parts: tuple[str, ...]) -> tuple[str, ...]:
    for part in parts:
        if part == _CLASSIFIER:
            raise ValueError(f"must leave the {_CLASSIFIER} free, which a training changes at least")
        if part not in (STEM, HEAD, ALL) and not (part.isdecimal() and part.isascii()):
            raise ValueError(f"must be {STEM}, numbers of stages, {HEAD}, or {ALL} of these")
    return parts


FrozenParts = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_known)]
"""Names of parts, in a file as a list such as [stem, 1, 2] or as words such as "stem,1,2"."""


def parts_of(spec: NetworkSpec) -> dict[str, tuple[str, ...]]:
    """What of a network can be frozen: the names of its modules by the name of the part."""
    parts: dict[str, tuple[str, ...]] = {STEM: (STEM,)}
    first = 0
    for number, stage in enumerate(spec.stages, 1):
        parts[str(number)] = tuple(f"blocks.{index}" for index in range(first, first + len(stage)))
        first += len(stage)
    head = spec.head
    named = [("norm", head.norm), ("conv", head.width > 0)]
    named += [(numbered("hidden", number), True) for number in range(1, len(head.linears) + 1)]
    if modules := tuple(f"{HEAD}.{name}" for name, there in named if there):
        parts[HEAD] = modules
    return parts


def frozen_parts(spec: NetworkSpec, freeze: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Of `parts_of` those that a recipe's `freeze` names, in their order in the network.

    Raises:
        ConfigError: the network has no such part.
    """
    there = parts_of(spec)
    if missing := [part for part in freeze if part != ALL and part not in there]:
        stages = len(spec.stages)
        has = f"{STEM}, 1 to {stages}{f', {HEAD}' if HEAD in there else ''} or {ALL}"
        but = f", whose {HEAD} is its classifier alone" if missing[0] == HEAD else ""
        must = f"must be parts of the network, {has}, but got {short(missing[0])}{but}"
        raise ConfigError("recipe", [f"freeze: {must}"])
    return {part: modules for part, modules in there.items() if ALL in freeze or part in freeze}


def freeze(network: Network, parts: Sequence[str]) -> list[nn.Module]:
    """Take the weights of parts out of training; what is returned must be put into evaluation mode in each step."""
    names = [name for modules in frozen_parts(network.spec, parts).values() for name in modules]
    return [network.get_submodule(name).requires_grad_(False) for name in names]
