"""ATTENTION, the registry of SE and of what may stand in its place.

To add a kind here: a file with its `AttentionKind` beside this one, named in the dict below, and the modules that it
names in layers/attention/, supernet/attention/ (where its options share weights) and export/. To add one from a module
of your own:

    register_attention(AttentionKind(name="mine", title="my gate", layer=lambda unit: MyGate(unit.channels)))

and `se: {options: ["none", mine]}` in a space; everything else has a default, see `AttentionKind`.
"""

from __future__ import annotations

import re

from se_nas.errors import ConfigError
from se_nas.records.registry import Registry
from se_nas.space.attention.cbam import CBAM
from se_nas.space.attention.eca import ECA
from se_nas.space.attention.ese import EFFECTIVE_SE
from se_nas.space.attention.kind import AttentionKind
from se_nas.space.attention.se import SE
from se_nas.space.attention.spatial import SPATIAL
from se_nas.space.registry import add_entry

_KINDS = (SE, ECA, EFFECTIVE_SE, CBAM, SPATIAL)
ATTENTION: Registry[AttentionKind] = Registry("attention", {kind.name: kind for kind in _KINDS})
"""Every kind of attention by its name."""

OF_BARE_RATIO = SE
"""The kind that an option means which is a number alone."""


def register_attention(kind: AttentionKind) -> AttentionKind:
    """Add a kind of attention.

    Raises:
        ConfigError: the name, or what its options begin with, is taken or is no name.
    """
    taken = next(
        (other for other in ATTENTION.values() if other.begins == kind.begins and other.name != kind.name), None
    )
    if taken is not None:
        raise ConfigError(
            f"attention {kind.name}", [f"short: must be new, but options of {taken.name} begin with {kind.begins}"]
        )
    return add_entry(ATTENTION, kind)


def kind_of_option(label: str) -> tuple[AttentionKind, float] | None:
    """The kind and the ratio (1 where it has none) that an option's name means; None for "none" and unknown names."""
    found = re.fullmatch(r"([a-z_]+)(\d+(?:\.\d+)?)?", label)
    if found is None:
        return None
    begins, ratio = found.groups()
    for kind in ATTENTION.values():
        if kind.begins == begins and kind.has_ratio == (ratio is not None):
            return kind, float(ratio or 1)
    return None
