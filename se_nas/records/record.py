"""A record is a model of what one file holds: it has one writer, and damage is an error that names the path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from se_nas.errors import ConfigError
from se_nas.records.files import read_json, write_json
from se_nas.records.yaml_input import validation_problems

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """Base of the models of files.

    A record that is a whole file adds `format: Literal[...] = ...` and `version: Literal[1] = 1`: both are written, and
    a file that says another is refused. Numbers must be finite, and an unknown key is a fault like any other. What a
    record is not given stands in the file where its default is a value, and is left out where that is None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def model_post_init(self, context: object, /) -> None:
        """See the class."""
        fields = type(self).model_fields.items()
        self.__pydantic_fields_set__.update(name for name, field in fields if field.default is not None)

    def plain(self) -> dict[str, Any]:
        """Plain JSON values, as they stand in the file."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


def parse_record(model: type[R], value: object, source: str) -> R:
    """The record in plain values; `source` names where they come from.

    Raises:
        ConfigError: with every fault, each with its path in the file.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(source, validation_problems(error, model)) from error


def read_record(model: type[R], path: str | os.PathLike[str]) -> R:
    """The record in a JSON file.

    Raises:
        ConfigError: the file cannot be read, is no JSON, or is no such record.
    """
    return parse_record(model, read_json(path), str(path))


def read_value(kind: Any, path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds whose whole is no object, as a type such as `tuple[Epoch, ...]` says.

    Raises:
        ConfigError: the file cannot be read, is no JSON, or holds something else.
    """
    value = read_json(path)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(str(path), validation_problems(error, kind)) from error


def write_record(path: str | os.PathLike[str], record: Record) -> Path:
    """Write a record as JSON, atomically; see `write_atomic`."""
    return write_json(path, record.plain())
