"""What of a run file may be shown, in a page that is passed on or in a file that others can read."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from se_nas.cost.metrics import METRICS, device_of
from se_nas.records.yaml_input import read_yaml
from se_nas.runs.run_file import model_with_strategies
from se_nas.search.strategies import STRATEGIES

#: What a retraining writes of its own typed parts, which have no free text: shown whole.
_TYPED = frozenset({"network", "recipe", "teacher"})
#: An account with its password before an @, as in user:password@host.
_ACCOUNT = re.compile(r"[^\s/:@]+:[^\s/@]+@")
#: Harmless names that no model of a run file has: parts, metrics, a retraining's images, and what NNI's training
#: services and machines are given. Not its commands, images and accounts: these may hold a secret.
_MORE = {
    *("weights", "choices", "validation", "train", "val", "digest", "normalised_as"),
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
    """A run file, or a part of one, in which each value that may be a secret is hidden: under a name that is not known,
    at any depth, or with an account and its password in it, as an address may have them. A device whose latency is
    measured may have any name: what stands under it has known ones."""
    known = _known(tuple(STRATEGIES), tuple(METRICS))

    def part(value: Any, typed: frozenset[str]) -> Any:
        if isinstance(value, dict):
            nothing: frozenset[str] = frozenset()
            return {
                name: item
                if name in typed
                else {device: part(conditions, nothing) for device, conditions in item.items()}
                if name == "latency" and _by_device(item)
                else part(item, nothing)
                if name in known or device_of(name) is not None
                else HIDDEN
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [part(item, frozenset()) for item in value]
        return HIDDEN if isinstance(value, str) and _ACCOUNT.search(value) else value

    # what a retraining writes stands at the top; of a run file nothing there has these names
    return part(value, _TYPED)


def _by_device(latency: Any) -> bool:
    return isinstance(latency, dict) and all(isinstance(item, dict) for item in latency.values())


def shown_configuration(path: Path) -> str:
    """What may be shown of the run file at `path`, as YAML; nothing where there is none.

    Raises:
        ConfigError: it is no YAML.
    """
    if not path.exists():
        return ""
    found = read_yaml(path)
    return yaml.safe_dump(shown(found) if isinstance(found, dict) else HIDDEN, sort_keys=False)
