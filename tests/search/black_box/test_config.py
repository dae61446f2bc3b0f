"""What a run file may say of an Optuna-driven search, and what goes together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from se_nas.search.black_box.config import OptunaConfig


@pytest.mark.parametrize(
    ("objectives", "sampler"), [(["accuracy"], "evolution"), (["accuracy", "macs"], "nsga2")], ids=["one", "two"]
)
def test_the_default_sampler_follows_from_the_objectives(objectives: list[str], sampler: str) -> None:
    assert OptunaConfig.model_validate({"objectives": objectives}).chosen_sampler == sampler
    assert OptunaConfig.model_validate({"objectives": objectives, "sampler": "tpe"}).chosen_sampler == "tpe"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objectives": []}, "objectives must be distinct, accuracy first"),
        ({"objectives": ["macs"]}, "objectives must be distinct, accuracy first"),
        ({"objectives": ["accuracy", "macs", "macs"]}, "objectives must be distinct, accuracy first"),
        ({"objectives": ["accuracy", "macs"], "sampler": "evolution"}, "nsga2 takes several"),
        ({"pruner": "hyperband"}, "a pruner needs an evaluator that reports epochs"),
        ({"pruner": "hyperband", "evaluator": "stand_alone", "objectives": ["accuracy", "macs"]}, "a pruner needs"),
        ({"evaluator": "table"}, "table must be given with evaluator table"),
        ({"table": "known.jsonl"}, "table must be given with evaluator table"),
        ({"population": 1}, "greater than or equal to 2"),
        ({"epochs": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OptunaConfig.model_validate(fields)


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_short_trainings_take_every_pruner(pruner: str) -> None:
    assert OptunaConfig.model_validate({"evaluator": "stand_alone", "pruner": pruner}).pruner == pruner


def test_a_configuration_survives_its_yaml() -> None:
    config = OptunaConfig.model_validate({"enqueue": ["no_se"], "objectives": ["accuracy", "params"], "sampler": "gp"})
    assert OptunaConfig.model_validate(config.model_dump(mode="json")) == config
