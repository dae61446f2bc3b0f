"""How much each choice matters for the accuracies that a study has seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.study import StudyDirection

from se_nas.search.black_box.architecture_sampler import distributions
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.space.search_space import SearchSpace


def importances(evaluations: Sequence[Evaluation], space: SearchSpace, seed: int) -> dict[str, float]:
    """Share of the accuracy's variance that each choice explains, by fANOVA (Hutter et al. 2014); they sum to 1.

    Empty where fewer than 4 distinct architectures were evaluated to the end, or all have the same accuracy.
    """
    done = [e for e in evaluations if e.complete and e.same_as is None]
    if len(done) < 4 or len({e.accuracy for e in done}) < 2:
        return {}
    study = optuna.create_study(direction=StudyDirection.MAXIMIZE)
    axes = distributions(space)
    for e in done:
        study.add_trial(optuna.create_trial(params=e.architecture.as_dict(), distributions=axes, value=e.accuracy))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return {k: float(v) for k, v in optuna.importance.get_param_importances(study, evaluator=evaluator).items()}
