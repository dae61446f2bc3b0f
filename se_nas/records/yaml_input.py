"""YAML that a user wrote: parsed safely, with every fault as one line that names its path in the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from se_nas.errors import MOST_SHOWN, ConfigError, cut, short
from se_nas.records.files import is_deep

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


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Parse a YAML file safely; ConfigError when it cannot be read or parsed."""
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if is_deep(value):
            raise RecursionError
        return value
    except OSError as error:
        raise ConfigError(str(path), [f"the file must be readable, but got: {error.strerror}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, a date or a number like none
        raise ConfigError(str(path), [f"the file must be YAML, but got: {yaml_fault(error)}"]) from error


def yaml_fault(error: Exception) -> str:
    """What is wrong with a text that `yaml.safe_load` refuses, in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{cut(error.problem or '', MOST_SHOWN)} at line {mark.line + 1}, column {mark.column + 1}"
    return cut(" ".join(str(error).split()), MOST_SHOWN)


def unknown_keys(error: ValidationError) -> list[str]:
    """Of pydantic's faults those that tell of a key which the model does not have."""
    problems = validation_problems(error)
    return [line for line, fault in zip(problems, error.errors(), strict=True) if fault["type"] == "extra_forbidden"]


def validation_problems(error: ValidationError) -> list[str]:
    """Pydantic's faults as one line each: `stages[2].se.options[1]: what must hold, but got ...`."""
    problems = []
    for fault in error.errors():
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
        path = cut(path, MOST_SHOWN)
        message = _PLAIN_WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "must be")
        if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            problems.append(f"{path}: unknown key")
        elif fault["type"] == "missing":
            problems.append(f"{path}: must be given")
        else:
            got = f"{short(fault['input'])}{fault.get('ctx', {}).get('hint', '')}"
            problems.append(f"{path or 'file'}: {message[:1].lower() + message[1:]}, but got {got}")
    return problems
