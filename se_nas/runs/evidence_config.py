"""What the evidence of a run is to be: read from where it was last said, checked, and complete in the run's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from se_nas.errors import ConfigError
from se_nas.files import write_atomic
from se_nas.runs.config import EvidenceConfig
from se_nas.runs.folder import RunFolder
from se_nas.space.architecture import load_architecture
from se_nas.space.files import load_space, read_yaml, validation_problems

FOLDER = "evidence"
_CONFIG = "config.yaml"
# what the other networks of a comparison are called
_TAKEN = re.compile(r"answer|best_of_random|no_se|se_r.*|random_\d+")


def resolve_evidence(run: RunFolder, changes: Mapping[str, Any]) -> EvidenceConfig:
    """The configuration of a run's evidence: what it last was, else the run file's `evidence:`, else the defaults.

    It is kept in the folder with copies of the files that it names, so that a part can be gathered again by its name.

    Args:
        changes: values by key that replace the others; paths are relative to the working folder.

    Raises:
        ConfigError: with every fault found; nothing has been written then.
    """
    folder = run / FOLDER
    stored = folder / _CONFIG
    value: dict[str, Any] = dict(read_yaml(stored) if stored.exists() else run.config.get("evidence") or {})
    source = "--set" if changes else str(stored if stored.exists() else run / _CONFIG)
    try:
        before, now = EvidenceConfig.model_validate(value), EvidenceConfig.model_validate({**value, **changes})
    except ValidationError as error:
        raise ConfigError(source, validation_problems(error)) from error
    if (seed := int(run.config["seed"])) in now.searches:
        raise ConfigError(source, [f"searches: must be seeds other than {seed}, which is the run's own, but it is one"])
    copies: dict[str, bytes] = {}
    places = {name: Path() if name in changes else folder for name in ("published", "others")}
    published = tuple(_published(places["published"] / word, copies) for word in now.published)
    others = tuple(_other(run, places["others"] / word, copies) for word in now.others)
    names = [Path(word).stem for word in published] + [Path(word).name for word in others]
    for name in names:
        if names.count(name) > 1 or _TAKEN.fullmatch(name):
            raise ConfigError(source, [f"published, others: names must differ, but two networks are called {name}"])
    config = now.model_copy(update={"published": published, "others": others})
    for name, content in copies.items():
        write_atomic(folder / name, content)
    if config != before or not stored.exists():
        write_atomic(stored, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return config


def _published(path: Path, copies: dict[str, bytes]) -> str:
    """The name of a space file's copy in the folder of the evidence."""
    space = load_space(path)
    if space.choices:
        must = "must be a space of one architecture to be a published network"
        raise ConfigError(str(path), [f"{must}, but this one has {space.size}"])
    name = f"published/{path.name}"
    copies[name] = path.read_bytes()
    return name


def _other(run: RunFolder, path: Path, copies: dict[str, bytes]) -> str:
    """The name of the copy of another run's answer, which must be of the same problem."""
    other = RunFolder(path)
    result, own = other.read("result.json"), run.read("result.json")
    if "budgets" not in result:
        raise ConfigError(str(path), ["must be the folder of a finished search, but its result.json has no budgets"])
    architecture = load_architecture(path / "architecture.json").architecture
    problems = []
    if architecture.space_digest != run.space.digest:
        problems.append("must be a run of the same space, but it is of another")
    for key, got, wanted in (
        ("budgets", result["budgets"], own["budgets"]),
        ("data", result["data"]["name"], own["data"]["name"]),
    ):
        if got != wanted:
            problems.append(f"{key}: must be {json.dumps(wanted)}, as of the run itself, but got {json.dumps(got)}")
    if problems:
        raise ConfigError(str(path), problems)
    name = f"others/{result['name']}"
    for file in ("architecture.json", "result.json"):
        copies[f"{name}/{file}"] = (path / file).read_bytes()
    return name
