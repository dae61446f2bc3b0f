"""What NNI's page shows of our trials: the axes of its charts, their parameters, intermediate and final results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from se_nas.nni_bridge.experiment.nni_json import number
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.search_space import SearchSpace

#: Among a trial's parameters and its final result, the number of the proposal in the Optuna study. NNI's own ids of
#: parameters restart after a resume, so that nothing is looked up by them across processes.
PROPOSAL = "proposal"


#: Among the intermediate results of a trial, what those that are of the supernet's training have.
OF_SUPERNET = "supernet_loss"


class Axis(TypedDict):
    """An axis of the page's charts, as NNI's search space has it."""

    _type: Literal["choice"]
    _value: list[Option]


def axis(options: Iterable[Option]) -> Axis:
    """An axis with some options, each once."""
    return {"_type": "choice", "_value": list(dict.fromkeys(options))}


def nni_search_space(space: SearchSpace) -> dict[str, Axis]:
    """NNI's search space with every choice as an axis; our tuner does not read it, the page does."""
    return {choice.name: axis(choice.options) for choice in space.choices}


def trial_parameters(number: int, architecture: Architecture) -> dict[str, Option]:
    """The readable picks of an architecture, and the number of the proposal."""
    return {**architecture.as_dict(), PROPOSAL: number}


def final_metrics(
    accuracy: float,
    costs: Mapping[str, float],
    excess: Mapping[str, float],
    seconds: float,
    proposal: int | None = None,
) -> dict[str, float]:
    """A trial's final result: accuracy as `default`, costs by metric, and `excess.METRIC` of each budget.

    Args:
        proposal: of a black-box search; a result that carries it is told to the right one whatever NNI mixes up.
    """
    found = {"default": accuracy, **costs, **{f"excess.{metric}": value for metric, value in excess.items()}}
    return found | {"seconds": seconds} | ({} if proposal is None else {PROPOSAL: proposal})


def supernet_metrics(entry: Mapping[str, Any]) -> dict[str, float]:
    """An epoch of the supernet's training, as an intermediate result of a trial that waits for it.

    The accuracy (`default`), unlike that of the trial itself, is on the images that are learnt from, of the networks
    whose turn it was; an epoch without a validation has none of the others.
    """
    numbers = {
        "default": "accuracy",
        OF_SUPERNET: "loss",
        "supernet_largest": "largest_accuracy",
        "supernet_smallest": "smallest_accuracy",
    }
    found = {name: number(entry.get(key)) for name, key in numbers.items()}
    return {name: math.nan if value is None else value for name, value in found.items()}


class EpochMetrics:
    """Turns each epoch's history entry of a differentiable search into an intermediate result.

    NNI's page offers for its chart only what is a number in the first result, and draws nothing for one that is NaN.
    So every epoch has every key, and the accuracy (`default`) and temperature of pretraining are NaN. An epoch without
    a validation repeats the last accuracy of its search, which restarts follow with a pretraining of their own.
    """

    def __init__(self) -> None:
        self._accuracy = math.nan

    def __call__(self, entry: Mapping[str, Any]) -> dict[str, float]:
        """The intermediate result of an epoch."""
        temperature = entry["temperature"]
        if temperature is None:
            self._accuracy = math.nan
        elif entry["validation_accuracy"] is not None:
            self._accuracy = float(entry["validation_accuracy"])
        return {
            "default": self._accuracy,
            **{f"expected_{metric}": float(value) for metric, value in entry["expected"].items()},
            "entropy": float(entry["entropy"]),
            "temperature": math.nan if temperature is None else float(temperature),
        }
