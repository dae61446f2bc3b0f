"""What typer's commands lack here: options that several commands share as one value, lists that are filled in for the
help alone, and values that must not be empty."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import typer
import typer.core

from se_nas.hardware.rank import Processes, check_processes
from se_nas.records.files import from_home

_LISTED = re.compile(r"\{([\w.]+):(\w+)\}")


class Command(typer.core.TyperCommand):
    """A command none of whose values may be empty: an empty path would be taken for the working folder.

    Where a help text says `{module:NAMES}` it lists those names, or what the function of that name gives; the module is
    imported for the help alone, so it must be one that imports nothing heavy.
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
        """As typer's, with the lists; square brackets are text."""
        self.fill_lists()
        for part, name in [*((param, "help") for param in self.params), (self, "help"), (self, "epilog")]:
            setattr(part, name, (getattr(part, name) or "").replace("[", r"\["))
        super().format_help(ctx, formatter)

    def fill_lists(self) -> None:
        """Put the names of registries where the help lists them."""
        param: Any
        for param in self.params:
            param.help = _LISTED.sub(_names, param.help or "")


def _names(listed: re.Match[str]) -> str:
    names = getattr(importlib.import_module(listed[1]), listed[2])
    return ", ".join(names() if callable(names) else names)


class Commands(typer.Typer):
    """Commands whose parameters may be groups of options: dataclasses of them."""

    def add(
        self,
        function: Callable[..., Any],
        example: str,
        name: str | None = None,
        panel: str | None = None,
        processes: Processes = "one",
    ) -> None:
        """Make a function a command; a parameter whose type is a dataclass stands for an option a field.

        Args:
            example: a command line that shows how it is used, for its help.
            name: the command's, where it is not the function's.
            panel: heading of the command in the list of all.
            processes: what it does where several processes of a job run it.
        """
        text = "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(function.__doc__ or "").split("\n\n"))
        settings: Any = {"help": text, "epilog": f"Example: {example}", "rich_help_panel": panel}
        self.command(name, cls=Command, **settings)(_with_groups_spread(function, processes))


def _with_groups_spread(function: Callable[..., Any], processes: Processes) -> Callable[..., Any]:
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}

    @functools.wraps(function)
    def call(**values: Any) -> Any:
        check_processes(function.__name__, processes)
        # a shell leaves the ~ of --out=~/x as it is
        paths = {name: value for name, value in values.items() if isinstance(value, Path)}
        values |= {name: from_home(path, f"--{name.replace('_', '-')}") for name, path in paths.items()}
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
