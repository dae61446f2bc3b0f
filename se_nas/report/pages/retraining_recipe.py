"""By which recipe a network was retrained, and the command that retrains it so again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from se_nas.errors import counted
from se_nas.report.pages.retraining_sections import FinishedRetraining, TeacherEntry
from se_nas.report.pages.rows import Rows, flat, plain
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import RECIPES, load_recipe


@dataclass(frozen=True)
class RecipeSection:
    """A recipe and its command.

    Attributes:
        columns: its values in two halves.
        unused: names of what is off, or left to the network or the optimiser.
        file: the whole recipe as YAML where it is none that ships; empty where it is.
    """

    lead: str
    columns: Sequence[Rows]
    unused: Sequence[str]
    command: str
    notes: Sequence[str]
    file: str


def recipe_section(run: FinishedRetraining) -> RecipeSection:
    """The recipe of a retraining, what was changed in it, and how to do it again."""
    name, shipped = run.result.retrain.recipe, _shipped(run.result.retrain.recipe)
    values = _values(run.recipe)
    missing = object()
    changes = {path: value for path, value in values.items() if shipped and shipped.get(path, missing) != value}
    rows, unused = _rows(run, values, changes, shipped or {})
    half = -(-len(rows) // 2)
    lead = f"{name}, after {run.recipe.source}"
    notes = ["FOLDER is where this page lies, and DIR is where the images are."]
    notes += ["The recipe's file is at the end of this page."] if shipped is None else []
    if (started := run.result.retrain.started_from) is not None:
        notes += [f"WEIGHTS is {started.weights.source}, of SHA-256 {started.weights.digest}."]
    notes += ["TEACHER is the file of the teacher's weights."] if run.teacher and run.teacher.checkpoint else []
    return RecipeSection(
        lead=f"{lead}, with {counted(len(changes), 'value')} changed; the recipe's own stand in brackets."
        if changes
        else f"{lead}.",
        columns=[rows[:half], rows[half:]],
        unused=unused,
        command=_command(run, changes, named=shipped is not None),
        notes=notes,
        file=_file(run.recipe) if shipped is None else "",
    )


def _values(recipe: Recipe) -> dict[str, object]:
    """Every value of a recipe but its source, by the dotted path that `--set` takes."""
    named = flat(recipe.model_dump(mode="json", exclude={"source"}))
    return {path.replace(" ", "."): value for path, value in named}


def _shipped(name: str) -> dict[str, object] | None:
    """The values of the shipped recipe that was named; None where it was a file."""
    return _values(load_recipe(name)) if name in RECIPES else None


def _rows(
    run: FinishedRetraining, values: Mapping[str, object], changes: Mapping[str, object], shipped: Mapping[str, object]
) -> tuple[Rows, list[str]]:
    """What the recipe sets, with the shipped value where it was changed; and the names of what it does not."""
    recipe, name = run.recipe, run.result.retrain.recipe
    idle = set() if recipe.random_erasing else {"random_erasing_mode"}
    rows, unused = [("peak learning rate", plain(recipe.peak_learning_rate))], []
    for path, value in values.items():
        if path in changes:
            rows.append((path, f"{plain(value)} ({name}: {plain(shipped.get(path))})"))
        elif value and path not in idle:
            rows.append((path, plain(value)))
        else:
            unused.append(path)
    if run.teacher is not None:
        rows.append(("teacher", run.teacher.source))
    return rows, unused


def _file(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, default_flow_style=None)


def _command(run: FinishedRetraining, changes: Mapping[str, object], named: bool) -> str:
    ranks, found = run.result.ledger.ranks, run.result.retrain
    begun = "" if found.started_from is None else " --weights WEIGHTS"
    words = [
        "se-nas" if ranks == 1 else f"torchrun --standalone --nproc-per-node {ranks} -m se_nas",
        f"retrain FOLDER/architecture.json{begun} --data {run.data.name} --data-dir DIR",
        f"--recipe {found.recipe if named else 'recipe.yaml'}",
        *(f"--set {shlex.quote(f'{path}={_in_yaml(value)}')}" for path, value in changes.items()),
        *_teacher(run.teacher),
        f"--seed {found.seed} --out NEW",
    ]
    return " ".join(words)


def _teacher(teacher: TeacherEntry | None) -> list[str]:
    if teacher is None:
        return []
    checkpoint = ["--teacher-checkpoint TEACHER"] if teacher.checkpoint else []
    return [f"--teacher {shlex.quote(teacher.source)}", *checkpoint]


def _in_yaml(value: object) -> str:
    """A value on one line, as `--set` reads it."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()[1:-1]
