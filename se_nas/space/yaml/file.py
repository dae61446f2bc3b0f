"""Search spaces as YAML: read with every fault reported at once, each with its path in the file, and written back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import yaml
from pydantic import ValidationError

from se_nas.errors import ConfigError
from se_nas.plugins import load_plugins
from se_nas.records.shipped import find_space
from se_nas.records.yaml_input import read_yaml, validation_problems
from se_nas.space.blocks import BLOCKS
from se_nas.space.blocks.shape import FORM
from se_nas.space.search_space import SearchSpace
from se_nas.space.templates import (
    NO_SE,
    WITHOUT_SE,
    HeadTemplate,
    OpTemplate,
    Scaling,
    SETemplate,
    StemConv,
    plain_number,
)
from se_nas.space.yaml.checks import channel_problems, problems_between_fields
from se_nas.space.yaml.model import ScalingModel, SpaceModel, stage_template

#: What `se:` has beside its options.
_OF_SE = tuple(part.name for part in fields(SETemplate) if part.name != "options")


def parse_space(value: Any, source: str) -> SearchSpace:
    """Build a space from plain YAML data, its plugins imported first.

    Args:
        source: names it in errors; paths of plugins are relative to the folder that this, as a path, lies in.

    Raises:
        ConfigError: with every fault found, or with a plugin's.
    """
    load_plugins(value.get("plugins") if isinstance(value, dict) else None, source)
    try:
        model = SpaceModel.model_validate(value)
    except ValidationError as error:
        raise ConfigError(source, validation_problems(error, SpaceModel)) from error
    problems = list(problems_between_fields(model))
    if problems:
        raise ConfigError(source, problems)
    space = SearchSpace(
        name=model.name,
        stages=tuple(stage_template(stage) for stage in model.stages),
        stem=model.stem,
        head=model.head,
        resolution=model.resolution,
        channels=model.channels,
        classes=model.classes,
        channel_divisor=model.channel_divisor,
        width_multiplier=tuple(plain_number(by) for by in model.width_multiplier),
        scaling=tuple(scaling.scaling(data) for data, scaling in model.scaling.items()),
    )
    problems = list(channel_problems(space))
    if problems:
        raise ConfigError(source, problems)
    return space


def load_space(name_or_path: str | os.PathLike[str]) -> SearchSpace:
    """Read a search space from a YAML file, or the shipped one of that name, such as `mbconv_cifar`.

    Raises:
        ConfigError: with every fault found, each with the file and the path in it; or there is no such name.
    """
    path = find_space(name_or_path)
    return parse_space(read_yaml(path), str(path))


def dump_space(space: SearchSpace, plugins: Sequence[str] = ()) -> str:
    """The space as YAML that `parse_space` reads back to an equal space; `plugins` are those that it is to name."""

    def parts(op: OpTemplate) -> dict[str, object]:
        options = {"kernel": list(op.kernels), "expansion": list(op.expansions), "activation": _plain(op.activation)}
        options |= _values(op.form, FORM)
        options |= {"branches": list(map(list, op.form.branches)), "mixed_kernels": list(op.form.mixed_kernels)}
        given = {name: value for name, value in options.items() if name in BLOCKS[op.kind].options}
        given |= {name: _plain(value) for name, value in op.form.own}
        if op.se == WITHOUT_SE:
            return given
        units = [NO_SE if option is None else option for option in op.se.options]
        return {**given, "se": {"options": units, **_values(op.se, _OF_SE)}}

    stem, *then = (_values(conv, _names(StemConv)) for conv in space.stem.convs)
    stages = []
    for stage in space.stages:
        kinds = [(op, BLOCKS[op.kind]) for op in stage.ops]
        held = [op.activation for op, k in kinds if not k.passes_through and "activation" not in k.options]
        stages.append(
            {
                "width": _plain(stage.width),
                "stride": stage.stride,
                "depth": list(stage.depths),
                **({"activation": held[0]} if held else {}),
                "blocks": [{"kind": op.kind, "name": op.name, **parts(op)} for op in stage.ops],
                "share": list(stage.share),
            }
        )
    return yaml.safe_dump(
        {
            **({"plugins": list(plugins)} if plugins else {}),
            "name": space.name,
            "resolution": _plain(space.resolution),
            "channels": space.channels,
            "classes": space.classes,
            "channel_divisor": space.channel_divisor,
            "width_multiplier": list(space.width_multiplier),
            "stem": {**stem, **({"then": then} if then else {})},
            "stages": stages,
            "head": _values(space.head, _names(HeadTemplate)),
            **({"scaling": {scaling.data: _given(scaling) for scaling in space.scaling}} if space.scaling else {}),
        },
        sort_keys=False,
    )


def _names(template: type[Any]) -> tuple[str, ...]:
    return tuple(part.name for part in fields(template))


def _values(template: Any, names: tuple[str, ...]) -> dict[str, object]:
    return {name: _plain(getattr(template, name)) for name in names}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _given(scaling: Scaling) -> dict[str, object]:
    """What of a scaling is not left to the space."""
    values = {name: getattr(scaling, name) for name in ScalingModel.model_fields}
    return {name: _plain(value) for name, value in values.items() if value is not None}
