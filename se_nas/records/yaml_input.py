"""YAML that a user wrote: parsed safely, with every fault as one line that names its path in the file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from se_nas.errors import MOST_PROBLEMS, MOST_SHOWN, ConfigError, cut, did_you_mean, in_line, short
from se_nas.records.files import MOST_DEPTH

# for faults whose message in pydantic names its own classes or speaks of its workings
_PLAIN_WORDS = {
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "dataclass_type"), "must be a mapping"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}


#: A file that a person writes is far smaller; what is larger would take minutes to read.
MOST_BYTES = 2**21
#: Values, each counted wherever a name (`*name`) stands for it: what walks, checks or writes them visits all.
MOST_VALUES = 100_000
#: Characters of a whole number.
MOST_DIGITS = 1000


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Parse a YAML file safely.

    Raises:
        ConfigError: it cannot be read, is no regular file, or see `parse_yaml`.
    """
    file = Path(path)
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(str(path), ["the file must be a regular file, but it is none"])
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise ConfigError(str(path), [f"the file must have at most {MOST_BYTES:,} bytes, but has {size:,}"])
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), [f"the file must be readable, but got: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"the file must be YAML, but got: {cut(in_line(error), MOST_SHOWN)}"]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str, path: str = "") -> Any:
    """The value of a YAML text.

    Args:
        source: names where it comes from, in errors.
        path: of the value in the source; "" where it is the whole file.

    Raises:
        ConfigError: it is no YAML, gives a key twice, is nested too deeply, or names values that contain themselves or
            multiply beyond all sense; in one line each.
    """
    must = f"{path}: the value must be YAML" if path else "the file must be YAML"
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            twice = _Measured(loader, root, path).twice
            if not twice:
                return loader.construct_document(root)
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(source, [f"{must}, but got: {_yaml_fault(error)}"]) from error
    raise ConfigError(source, twice)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but what a number or a date cannot be is a fault with its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:  # such as the 45th of a month
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{cut(in_line(error), MOST_SHOWN)}, which {cut(short(node.value), 60)} is not",
                node.start_mark,
            ) from error
        except (KeyError, AttributeError, TypeError) as error:  # where a tag such as !!bool or !!timestamp says so
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise yaml.constructor.ConstructorError(
                None, None, f"what is tagged {tag} must be one, but got {cut(short(node.value), 60)}", node.start_mark
            ) from error

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if len(text) > MOST_DIGITS:
            raise ValueError(f"a whole number must have at most {MOST_DIGITS:,} characters")
        value: int = super().construct_yaml_int(node)
        if ":" in text or re.fullmatch(r"[-+]?0[0-7_]+", text):
            raise ValueError(f"a whole number must be written in tens: YAML takes it for {value}")
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value: float = super().construct_yaml_float(node)
        if ":" in str(node.value):
            raise ValueError(f"a number must be written in tens: YAML takes it for {value}")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


class _Measured:
    """A parsed text before its values are made: its depth, how many values it stands for, the keys that it gives twice.

    Attributes:
        twice: a line for each such key.
    """

    def __init__(self, loader: _Loader, root: yaml.Node, path: str) -> None:
        self.twice: list[str] = []
        self._loader = loader
        self._found: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()
        depth, values = self._visit(root, path)
        if depth > MOST_DEPTH:
            raise RecursionError
        if values > MOST_VALUES:
            raise yaml.YAMLError(f"with what its names (*name) stand for it has over {MOST_VALUES:,} values")

    def _visit(self, node: yaml.Node, path: str) -> tuple[int, int]:
        """How many mappings and lists stand in each other here, and how many values there are."""
        if isinstance(node, yaml.ScalarNode):
            return 0, 1
        if id(node) in self._open:
            raise yaml.MarkedYAMLError(None, None, "a name (*name) must not stand in what it names", node.start_mark)
        if id(node) not in self._found:
            self._open.add(id(node))
            inside = [self._visit(part, at) for part, at in self._parts(node, path)]
            self._open.remove(id(node))
            self._found[id(node)] = (
                1 + max((depth for depth, _ in inside), default=0),
                1 + sum(values for _, values in inside),
            )
        return self._found[id(node)]

    def _parts(self, node: yaml.Node, path: str) -> Iterator[tuple[yaml.Node, str]]:
        if isinstance(node, yaml.SequenceNode):
            yield from ((part, f"{path}[{place}]") for place, part in enumerate(node.value))
            return
        lines: dict[Any, int] = {}
        for key_node, part in node.value:
            name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            at = f"{path}.{name}" if path else name
            if isinstance(key_node, yaml.ScalarNode):
                merges = key_node.tag == "tag:yaml.org,2002:merge"
                key = (merges, name if merges else self._loader.construct_object(key_node))
                line = key_node.start_mark.line + 1
                if key in lines:
                    both = f"line {line}" if line == lines[key] else f"lines {lines[key]} and {line}"
                    self.twice.append(f"{cut(at, MOST_SHOWN)}: must be given once, but stands twice, in {both}")
                lines[key] = line
            else:
                yield key_node, at
            yield part, at


def _yaml_fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{cut(error.problem or '', MOST_SHOWN)} at line {mark.line + 1}, column {mark.column + 1}"
    return cut(in_line(error), MOST_SHOWN)


def unknown_keys(error: ValidationError, kind: Any) -> list[str]:
    """Of pydantic's faults those that tell of a key which the model does not have; see `validation_problems`."""
    problems = validation_problems(error, kind)
    return [line for line, fault in zip(problems, error.errors(), strict=True) if fault["type"] == "extra_forbidden"]


def validation_problems(error: ValidationError, kind: Any) -> list[str]:
    """Pydantic's faults as one line each: `stages[2].se.options[1]: what must hold, but got ...`.

    Args:
        kind: the model, or the type, that the value was to be of; for an unknown key, what was probably meant.
    """
    problems: list[str] = []
    for fault in error.errors():
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
        path = cut(path, MOST_SHOWN)
        message = _PLAIN_WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "must be")
        if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            told = len(problems) < MOST_PROBLEMS  # a hint takes its time, and the others are only counted
            hint = did_you_mean(str(fault["loc"][-1])[:100], _keys_at(kind, fault["loc"])) if told else ""
            problems.append(f"{path}: unknown key{hint}")
        elif fault["type"] == "missing":
            problems.append(f"{path}: must be given")
        else:
            # a validator of a whole mapping says itself which of its values it got
            got = "" if ", but got " in message else _got(kind, fault, message)
            hint = fault.get("ctx", {}).get("hint", "")
            problems.append(f"{path or 'file'}: {message[:1].lower() + message[1:]}{got}{hint}")
    return problems


def _got(kind: Any, fault: ErrorDetails, message: str) -> str:
    """What was got; of a whole mapping the values that its fault speaks of alone."""
    got = fault["input"]
    if fault["type"] == "value_error" and isinstance(got, dict) and (models := _models_at(kind, fault["loc"])):
        names = dict.fromkeys(name for model in models for name in _fields(model) if name in got)
        got = {name: got[name] for name in names if re.search(rf"\b{name}\b", message)}
        if not got:
            return ""
    return f", but got {short(got)}"


def _keys_at(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """The keys that models of this kind have where a key of theirs stands."""
    return list(dict.fromkeys(name for model in _models_at(kind, place[:-1]) for name in _fields(model)))


def _models_at(kind: Any, place: tuple[int | str, ...]) -> list[Any]:
    """The models of this kind that may stand at a place in it."""
    models = _models_in(kind)
    for part in place:
        fields = [hints[str(part)] for hints in map(_fields, models) if str(part) in hints]
        if fields:  # else it is a place in a list, or a key of a plain mapping
            models = [model for field in fields for model in _models_in(field)]
    return models


def _models_in(kind: Any) -> list[Any]:
    """The models and dataclasses that a type speaks of, with those that are made from them for a choice of kinds."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind, *(below for direct in kind.__subclasses__() for below in _models_in(direct))]
    if isinstance(kind, type) and is_dataclass(kind):
        return [kind]
    return [model for part in get_args(kind) for model in _models_in(part)]


def _fields(model: Any) -> dict[str, Any]:
    if is_dataclass(model):
        return get_type_hints(model, include_extras=True)
    return {name: field.annotation for name, field in model.model_fields.items()}
