"""What of a run file may be shown, in a page that is passed on or in a file that others can read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from se_nas.cost.metrics import METRICS
from se_nas.records.yaml_input import read_yaml
from se_nas.runs.run_file import model_with_strategies
from se_nas.search.strategies import STRATEGIES

#: What a retraining writes of its own typed parts, which have no free text: shown whole.
_TYPED = {"network", "recipe", "teacher"}
#: Harmless names that no model of a run file has: parts, metrics, a retraining's images, and what NNI's training
#: services and machines are given. Not its commands, images and accounts: these may hold a secret.
_MORE = {
    *("weights", "choices", "validation", "train", "val", "digest"),
    *("platform", "machine_list", "host", "port", "user", "ssh_key_file", "python_path", "nni_manager_ip"),
    *("use_active_gpu", "gpu_indices", "max_trial_number_per_gpu", "trial_gpu_number", "tuner_gpu_indices"),
    *("max_trial_number", "max_trial_duration", "max_experiment_duration", "reuse_mode", "debug", "log_level"),
}
#: Stands for a value that may be a secret.
HIDDEN = "(not shown)"


@cache
def _known(strategies: tuple[str, ...], metrics: tuple[str, ...]) -> frozenset[str]:
    """The names that are known to hold no secret: those of our models, of these strategies' too, and `_MORE`."""
    schema = model_with_strategies().model_json_schema()
    models = [schema, *schema["$defs"].values()]
    return frozenset(_MORE.union(metrics, *(model.get("properties", {}) for model in models)))


def shown(value: Any) -> Any:
    """A value of a run file, at any depth, in which each value under a name that is not known is hidden."""
    known = _known(tuple(STRATEGIES), tuple(METRICS))
    if isinstance(value, dict):
        return {
            name: item if name in _TYPED else shown(item) if name in known else HIDDEN for name, item in value.items()
        }
    return [shown(item) for item in value] if isinstance(value, list) else value


def shown_configuration(path: Path) -> str:
    """What may be shown of the run file at `path`, as YAML; nothing where there is none.

    Raises:
        ConfigError: it is no YAML.
    """
    if not path.exists():
        return ""
    found = read_yaml(path)
    return yaml.safe_dump(shown(found) if isinstance(found, dict) else HIDDEN, sort_keys=False)
