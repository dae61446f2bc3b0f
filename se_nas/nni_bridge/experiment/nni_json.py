"""What NNI says in JSON, of its manager or in its database: checked, so that damage is one clear error."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from se_nas.errors import ConfigError, LaunchError
from se_nas.records.files import parse_json
from se_nas.records.yaml_input import validation_problems

T = TypeVar("T")


class NniAnswer(BaseModel):
    """Base of the models of what NNI says: strict, though NNI says more than is read here."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class StateAnswer(NniAnswer):
    """Of `check-status`."""

    status: str
    errors: list[str]


class MetricAnswer(NniAnswer):
    """Of `metric-data`."""

    trialJobId: str
    type: str
    sequence: int
    data: str


class FinalMetric(NniAnswer):
    """The final result of a job."""

    data: str


class JobAnswer(NniAnswer):
    """Of `trial-jobs`."""

    trialJobId: str
    status: str
    hyperParameters: list[str] | None = None
    finalMetricData: list[FinalMetric] | None = None


class JobCount(NniAnswer):
    """Of `job-statistics`."""

    trialJobStatus: str
    trialJobNumber: int


class ShownParameters(NniAnswer):
    """What the page shows as the parameters of a job."""

    parameters: dict[str, object] | None = None
    parameter_id: int | None = None


class ServiceConfig(NniAnswer):
    """One training service of NNI's canonical configuration."""

    platform: str
    nniManagerIp: str | None = None


class StoredConfig(NniAnswer):
    """NNI's canonical configuration."""

    trainingService: ServiceConfig | list[ServiceConfig]
    nniManagerIp: str | None = None


def checked(model: type[T], value: object, source: str) -> T:
    """A value of NNI's JSON as a model.

    Raises:
        LaunchError: it is none; the first fault is told.
    """
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        raise LaunchError(
            f"{source}: must be as NNI writes it, but {validation_problems(error, model)[0]:.300}"
        ) from error


def parsed(text: str, source: str) -> Any:
    """The value of a JSON text of NNI, where a trial may have reported NaN.

    Raises:
        LaunchError: it is none.
    """
    try:
        return parse_json(text, source, with_nan=True)
    except ConfigError as error:
        raise LaunchError(str(error)) from error


def number(value: object) -> float | None:
    """A finite number that a trial reported; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer over every float
        return None
