"""What typer's commands lack here: options that several commands share as one value, lists that are filled in for the
help alone, and values that must not be empty."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import typer
import typer.core

_Function = TypeVar("_Function", bound=Callable[..., Any])
_LISTED = re.compile(r"\{([\w.]+):(\w+)\}")


class Command(typer.core.TyperCommand):
    """A command none of whose values may be empty: an empty path would be taken for the working folder.

    Where a help text says `{module:NAMES}` it lists those names; the module is imported for the help alone.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's; BadParameter for an empty value."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        param: Any
        for param in self.get_params(ctx):
            values = given.get(param.name)
            if "" in (values if isinstance(values, (list, tuple)) else [values]):
                raise typer.BadParameter("must not be empty", ctx=ctx, param=param)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As typer's, with the lists."""
        self.fill_lists()
        super().format_help(ctx, formatter)

    def fill_lists(self) -> None:
        """Put the names of registries where the help lists them."""
        param: Any
        for param in self.params:
            param.help = _LISTED.sub(_names, param.help or "")


def _names(listed: re.Match[str]) -> str:
    return ", ".join(getattr(importlib.import_module(listed[1]), listed[2]))


class Commands(typer.Typer):
    """Commands that are all a `Command`, and whose parameters may be groups of options: dataclasses of them."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[_Function], _Function]:
        """As typer's; a parameter whose type is a dataclass stands for an option a field."""

        def register(function: _Function) -> _Function:
            super(Commands, self).command(name, cls=Command, **settings)(_with_groups_spread(function))
            return function

        return register


def _with_groups_spread(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}

    @functools.wraps(function)
    def call(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        return function(**values)

    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        inner = inspect.signature(groups[name]).parameters.values() if name in groups else [parameter]
        known = get_type_hints(groups[name], include_extras=True) if name in groups else hints
        parameters += [p.replace(annotation=known[p.name], kind=p.KEYWORD_ONLY) for p in inner]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
