"""What the evidence of a run is to be: checked before the run, read from where it was last said, kept in its folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from se_nas.cost.budget import Budget
from se_nas.data.sources import is_fixed
from se_nas.errors import ConfigError
from se_nas.evidence.pilot.power import claim_fault
from se_nas.records.files import read_json, write_atomic
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import parse_record, read_record
from se_nas.records.shipped import find_space
from se_nas.records.yaml_input import read_yaml, validation_problems
from se_nas.runs.run_file import SEEDS, EvidenceConfig, RunConfig
from se_nas.runs.run_folder import RunFolder
from se_nas.space.architecture_file import load_architecture
from se_nas.space.size import exact_size
from se_nas.space.yaml.file import load_space

FOLDER = "evidence"
#: What stand-alone trainings are called in that folder and in the ledger's file.
TRAININGS = "trainings"
_CONFIG = "config.yaml"
# what the evidence calls its own networks
_TAKEN = re.compile(r"answer|best_of_random|(answer_)?(no_se|se_r[\d.e+]+)|(random|of_size|search)_\d+")


@dataclass(frozen=True)
class Problem:
    """What a run must share with another one, so that their answers can be compared.

    Attributes:
        space_digest: with the classes and channels of the images.
        budgets: limits by metric.
        data: name of the data set.
    """

    space_digest: str
    budgets: Mapping[str, float]
    data: str

    @staticmethod
    def of(space_digest: str, budgets: Iterable[Budget], data: str) -> Problem:
        """That of a run which has no result yet."""
        return Problem(space_digest, {budget.metric: budget.limit for budget in budgets}, data)


def check_evidence(run_file: Path, config: RunConfig, problem: Problem) -> None:
    """Refuse evidence that could not be gathered for the run, before hours of search.

    Args:
        config: with paths that hold from the working folder.

    Raises:
        ConfigError: with the first fault found.
    """
    if config.evidence is None:
        return
    own = config.evidence
    fault = None
    if own.primary is not None:
        networks = getattr(own, own.primary.counted_by)
        if networks is not None:  # else the search's time says how many
            fault = claim_fault(own.primary, networks, own.seeds)
    if fault is not None:
        raise ConfigError(str(run_file), [f"evidence.{fault}"])
    places = {"published": Path(), "others": Path()}
    _complete(config.evidence, places, problem, config.seed, str(run_file), "evidence.")


def check_recipe(run_file: Path, config: RunConfig) -> None:
    """Raise ConfigError where evidence is asked for, but there is no recipe to train its controls by."""
    if config.evidence is not None and config.retrain is None:
        must = "must hold a recipe, by which the controls of `evidence` are trained, but it is null"
        raise ConfigError(str(run_file), [f"retrain: {must}"])


def check_unchanged(run: RunFolder, config: RunConfig) -> None:
    """Refuse another `evidence:` than the run began with; where the files that it names lie changes nothing.

    Raises:
        ConfigError: in one line, which says what changes it.
    """

    def names(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        whole = {**EvidenceConfig().model_dump(mode="json"), **value}
        if whole["primary"] is None and whole["seeds"] is None:
            whole["seeds"] = list(SEEDS)  # as runs of before there were plans have it
        return whole | {key: [Path(word).name for word in whole[key]] for key in ("published", "others")}

    asked = None if config.evidence is None else config.evidence.model_dump(mode="json")
    if names(run.config.get("evidence")) != names(asked):
        must = "must be as in the run that --resume continues, but it is another"
        change = f"`se-nas evidence {run.path} --set KEY=VALUE` changes it once the run is finished"
        raise ConfigError(str(run / _CONFIG), [f"evidence: {must}; {change}"])


@dataclass(frozen=True)
class Resolved:
    """The configuration of a run's evidence, and what is in the files that it names, by their names in its folder."""

    config: EvidenceConfig
    copies: Mapping[str, bytes]

    @property
    def trained_elsewhere(self) -> frozenset[str]:
        """Names of the files of trainings that other runs have."""
        return frozenset(Path(name).name for name in self.copies if Path(name).parent.name == TRAININGS)

    def keep(self, folder: Path) -> None:
        """Write it into the folder of the evidence, so that a part can be gathered again by its name."""
        for name, content in self.copies.items():
            write_atomic(folder / name, content)
        text = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        stored = folder / _CONFIG
        if not stored.exists() or stored.read_text() != text:
            write_atomic(stored, text)


def resolve_evidence(run: RunFolder, changes: Mapping[str, Any]) -> Resolved:
    """The configuration of a run's evidence: what it last was, else the run file's `evidence:`, else the defaults.

    Args:
        changes: values by key that replace the others; paths are relative to the working folder.

    Raises:
        ConfigError: with every fault found.
    """
    folder = run / FOLDER
    stored = folder / _CONFIG
    value = read_yaml(stored) if stored.exists() else run.config.get("evidence") or {}
    if not isinstance(value, dict):
        raise ConfigError(str(stored), [f"file: must be a mapping, but got {type(value).__name__}"])
    source = "--set" if changes else str(stored if stored.exists() else run / _CONFIG)
    try:
        now = EvidenceConfig.model_validate({**value, **changes})
    except ValidationError as error:
        raise ConfigError(source, validation_problems(error, EvidenceConfig)) from error
    places = {name: Path() if name in changes else folder for name in ("published", "others")}
    own = read_record(RunResult, run / "result.json")
    problem = Problem(run.space.digest, own.budgets, own.data.name)
    return Resolved(*_complete(now, places, problem, int(run.config["seed"]), source))


def _complete(
    config: EvidenceConfig, places: Mapping[str, Path], problem: Problem, seed: int, source: str, prefix: str = ""
) -> tuple[EvidenceConfig, dict[str, bytes]]:
    """The configuration with the names of the copies of its files, and what is in them; ConfigError for any fault.

    Args:
        places: where the paths of `published` and `others` begin.
        seed: of the run.
        prefix: of a key in the source.
    """
    if seed in config.searches:
        must = f"must be seeds other than {seed}, which is the run's own, but it is one"
        raise ConfigError(source, [f"{prefix}searches: {must}"])
    copies: dict[str, bytes] = {}
    published = tuple(_published(find_space(word, places["published"]), copies) for word in config.published)
    others = tuple(_other(problem, places["others"] / word, copies) for word in config.others)
    names = [Path(word).stem for word in published] + [Path(word).name for word in others]
    keys = f"{prefix}published, {prefix}others"
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(source, [f"{keys}: names must differ, but two networks are called {name}"])
        if _TAKEN.fullmatch(name):
            must = "names must not be those of the networks that are compared anyway, such as no_se or random_1"
            raise ConfigError(source, [f"{keys}: {must}, but one is called {name}"])
    return config.model_copy(update={"published": published, "others": others}), copies


def _published(path: Path, copies: dict[str, bytes]) -> str:
    """The name of a space file's copy in the folder of the evidence."""
    space = load_space(path)
    if space.choices:
        must = "must be a space of one architecture to be a published network"
        raise ConfigError(str(path), [f"{must}, but this one has {exact_size(space.size)}"])
    name = f"published/{path.name}"
    copies[name] = path.read_bytes()
    return name


def _other(problem: Problem, path: Path, copies: dict[str, bytes]) -> str:
    """The name of the copies of another run's answer, which must be of the same problem, and of its trainings.

    Of data sets whose name does not say which images they have, no training is copied.
    """
    whole = read_json(path / "result.json")
    if isinstance(whole, dict) and "budgets" not in whole:
        raise ConfigError(str(path), ["must be the folder of a finished search, but its result.json has no budgets"])
    result = parse_record(RunResult, whole, str(path / "result.json"))
    architecture = load_architecture(path / "architecture.json").architecture
    problems = []
    if architecture.space_digest != problem.space_digest:
        problems.append("must be a run of the same space, but it is of another")
    for key, got, wanted in (
        ("budgets", result.budgets, problem.budgets),
        ("data", result.data.name, problem.data),
    ):
        if got != wanted:
            problems.append(f"{key}: must be {json.dumps(wanted)}, as of the run itself, but got {json.dumps(got)}")
    if problems:
        raise ConfigError(str(path), problems)
    name = f"others/{path.resolve().name}"
    trained = sorted((path / FOLDER / TRAININGS).glob("*.json")) if is_fixed(problem.data) else []
    for file in (path / "architecture.json", path / "result.json", *trained):
        copies[f"{name}/{file.relative_to(path)}"] = file.read_bytes()
    return name
