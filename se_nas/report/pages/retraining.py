"""A retraining on ImageNet as one page: how accurate the network is, what it costs, how it was trained, and by what.

`write_retrain_report` reads nothing but the retraining's folder and writes `report.html`, which loads nothing, beside
`plots/`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from se_nas.errors import ConfigError
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.certificate import Certificate
from se_nas.records.files import read_json, write_atomic
from se_nas.records.record import read_plain
from se_nas.records.run_result import ImageNetResult
from se_nas.records.yaml_input import read_yaml
from se_nas.report.pages.parts import (
    architecture_words,
    cost,
    cost_checks,
    cost_table,
    environment_rows,
    excitation_section,
    flat,
    pairs,
    plain,
    plot_section,
    read_history,
    read_if_there,
    section,
    text,
    whole_page,
)
from se_nas.report.plots import figure
from se_nas.report.plots import search as plots
from se_nas.report.plots.architecture import draw_architecture_svg
from se_nas.report.theme.words import ABSENT, TIMES, format_percent, format_seconds
from se_nas.space.architecture_file import ArchitectureFile, load_architecture
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import RECIPES, load_recipe, stored_recipe

_DAMAGED_ROWS = 50


@dataclass(frozen=True)
class _Retraining:
    """What a retraining's folder holds."""

    found: Mapping[str, Any]
    ledger: Mapping[str, Any]
    environment: Mapping[str, Any]
    architecture: ArchitectureFile
    certificate: Mapping[str, Any]
    history: list[Mapping[str, Any]]
    data: Mapping[str, Any]
    recipe: Recipe
    teacher: dict[str, Any] | None
    damaged: Mapping[str, str]
    excitation: str

    @property
    def certified(self) -> Mapping[str, Any]:
        """The certificate's part on the network that was trained."""
        part: Mapping[str, Any] = self.certificate.get("retrained") or {}
        return part

    @property
    def images(self) -> int:
        return int(self.found["held_out_images"])

    @property
    def tested_at(self) -> str:
        """The size of the held-out images."""
        return _side_by_side(self.recipe.eval_transform(self.architecture.network.resolution).resolution)


def is_retraining(folder: Path) -> bool:
    """Whether a folder holds a finished retraining on ImageNet, not a search.

    Raises:
        ConfigError: it has no readable `result.json`.
    """
    found = read_json(Path(folder) / "result.json")
    return isinstance(found, dict) and "ledger" in found


def write_retrain_report(folder: Path) -> Path:
    """Write `report.html` and `plots/` into the folder of a finished retraining on ImageNet from the files there.

    Args:
        folder: holds `result.json`, `architecture.json`, `certificate.json` and `config.yaml`; `history.json` and
            `damaged.json` add their parts where they are there.

    Returns:
        The page's path.

    Raises:
        ConfigError: a file that must be there is not, or one is not what a retraining writes.
        ArchitectureError: `architecture.json` cannot be read.
        OutputError: the folder cannot be written to.
    """
    folder = Path(folder)
    if not is_retraining(folder):
        raise ConfigError(str(folder / "result.json"), ["must be of a retraining on imagenet, but has no `ledger`"])
    result, config = read_plain(ImageNetResult, folder / "result.json"), read_yaml(folder / "config.yaml")
    if not (isinstance(config, dict) and isinstance(config.get("data"), dict)):
        raise ConfigError(str(folder / "config.yaml"), ["must be what a retraining wrote, but its parts are others"])
    run = _Retraining(
        found=result["retrain"],
        ledger=result["ledger"],
        environment=result.get("environment") or {},
        architecture=load_architecture(folder / "architecture.json"),
        certificate=read_plain(Certificate, folder / "certificate.json"),
        history=read_history(folder / "history.json"),
        data=config["data"],
        recipe=stored_recipe(folder / "config.yaml", config.get("recipe")),
        teacher=config.get("teacher"),
        damaged=read_if_there(dict[str, str], folder / "damaged.json", {}),
        excitation=excitation_section(folder),
    )
    figures: dict[str, str] = {}
    if run.history:
        curves = plots.retraining_curves(run.history)
        write_atomic(folder / "plots" / "learning_curves.png", figure.figure_png(curves))
        figures["learning_curves"] = figure.figure_svg(curves, "learning-curves")
    drawing = draw_architecture_svg(run.architecture.network)
    write_atomic(folder / "plots" / "architecture.svg", drawing)
    return write_atomic(folder / "report.html", _page(run, figures, drawing))


def _page(run: _Retraining, figures: Mapping[str, str], drawing: str) -> str:
    body = [
        _headline(run),
        section(
            "The architecture",
            architecture_words(run.architecture.network),
            f'<div class="wide">{drawing}</div>',
        ),
        plot_section(figures, "learning_curves", "Learning curves", _curve_words(run)),
        run.excitation,
        _certificate(run),
        _ledger(run),
        _recipe_values(run),
        _damaged(run),
        _provenance(run),
    ]
    return whole_page(f"{run.architecture.space_name} on {run.data['name']}", body)


def _side_by_side(side: int) -> str:
    return f"{side} {TIMES} {side}"


# ---- what came of it


def _headline(run: _Retraining) -> str:
    found, ledger, recipe = run.found, run.ledger, run.recipe
    network = run.architecture.network
    averaged = found.get("ema_top1") is not None
    top1 = float(found["ema_top1"] if averaged else found["top1"])
    whose = "of the averaged weights" if averaged else "of the network"
    words = (
        f"top-1 accuracy {whose} after the last epoch, on {run.images:,} held-out images at {run.tested_at}; "
        f"95 % interval {accuracy_interval(top1, run.images)} (Wilson; from the draw of these images alone, for this "
        "one training)"
    )
    facts = [
        *((str(entry["how"]), cost(entry["metric"], entry["value"])) for entry in run.certified.get("costs", [])),
        ("blocks with SE", f"{sum(block.se is not None for block in network.blocks)} of {len(network.blocks)}"),
        ("trained at", _side_by_side(recipe.train_transform(network.resolution).resolution)),
        ("epochs", f"{recipe.epochs:,}"),
        ("device-hours", f"{float(ledger['device_hours']):.3g}"),
    ]
    shown = "".join(f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>" for key, value in facts)
    return (
        f'<header><div class="eyebrow">se_nas · retrained on {text(run.data["name"])}, {found["classes"]:,} classes · '
        f"recipe {text(found['recipe'])} · seed {text(found['seed'])}</div>"
        f"<h1>{text(run.architecture.space_name)}</h1>"
        f'<div class="headline"><div><div class="figure">{100 * top1:.2f}<small> %</small></div>'
        f'<p class="quiet">{words}</p></div><div>{_accuracies(run)}</div></div>'
        f'<dl class="facts">{shown}</dl></header>\n'
    )


def _accuracies(run: _Retraining) -> str:
    """Top-1 and top-5 of the last weights, of their average, and of the best epoch, as a table."""
    found, best = run.found, run.found["best"]
    rows = [("network, last epoch", found["top1"], found["top5"])]
    if found.get("ema_top1") is not None:
        rows.append(("averaged weights, last epoch", found["ema_top1"], found["ema_top5"]))
    if best["epoch"] is not None:
        epoch, prefix = int(best["epoch"]) + 1, "ema_val" if best["weights"] == "average" else "val"
        row = next((row for row in run.history if row["epoch"] == epoch), {})
        weights = "averaged weights" if best["weights"] == "average" else "network"
        rows.append((f"best: {weights}, epoch {epoch}", best["top1"], row.get(f"{prefix}_top5")))
    cells = "".join(
        f"<tr><td>{words}</td>{_accuracy_cell(top1, run.images)}{_accuracy_cell(top5, run.images)}</tr>"
        for words, top1, top5 in rows
    )
    note = (
        "Below each accuracy its 95 % interval. The best epoch was picked by these very images, so it reads "
        "somewhat high."
    )
    if found.get("ema_top1") is not None:
        note += " Exports and evaluations take the averaged weights of the last epoch, unless told otherwise."
    return (
        f'<table><tr><th>weights</th><th class="n">top-1</th><th class="n">top-5</th></tr>{cells}</table>'
        f'<div class="wide"><p class="quiet">{note}</p></div>'
    )


def _accuracy_cell(share: float | None, images: int) -> str:
    if share is None:
        return f'<td class="n">{ABSENT}</td>'
    low_high = accuracy_interval(share, images)
    return f'<td class="n"><b>{format_percent(share, 2)}</b><br><span class="quiet">{low_high}</span></td>'


def _certificate(run: _Retraining) -> str:
    part = run.certified
    content = f'<div class="wide">{cost_table(part)}</div>{cost_checks(part)}'
    if "budgets" in run.certificate:
        content += (
            '<h3>What its search certified</h3><p class="quiet">Of the network at the size that the search was for; '
            f"these budgets say nothing of the network above.{_conditions(run.certificate)}</p>"
            f'<div class="wide">{cost_table(run.certificate)}</div>'
        )
    side = run.architecture.network.resolution
    lead = (
        f"Each cost of the network that was built and trained, for {_side_by_side(side)} images and "
        f"{run.architecture.network.head.classes:,} classes, and how it is known."
    )
    return section("Certificate", lead, content)


def _conditions(certificate: Mapping[str, Any]) -> str:
    """Those of a latency, as a sentence."""
    conditions = flat(certificate["latency_conditions"])
    told = ", ".join(f"{name.replace('_', ' ')} {plain(value)}" for name, value in conditions)
    return f" Latency: {text(told)}."


def _curve_words(run: _Retraining) -> str:
    every = run.recipe.evaluate_every
    words = f"Held-out images at {run.tested_at}, {'every epoch' if every == 1 else f'every {every} epochs'}. "
    if any(row.get("accuracy") is not None for row in run.history):
        words += "Training accuracy is that of augmented images while the weights change."
        return f"{words} Epochs with mixed images have none." if run.recipe.mixes else words
    return f"{words}Images were mixed in training, so it has no accuracy of its own."


def _ledger(run: _Retraining) -> str:
    ledger = run.ledger
    ranks, rate = int(ledger["ranks"]), float(ledger["images_per_second"])
    rows = [
        ("wall time", format_seconds(float(ledger["seconds"]))),
        ("device", run.environment.get("gpu") if ledger["device"] == "cuda" else run.environment.get("cpu")),
        ("ranks", f"{ranks:,}"),
        ("device-hours", f"{float(ledger['device_hours']):.4g}"),
        ("training images seen", f"{int(ledger['images']):,}"),
        ("images/s", f"{rate:,.4g}" if rate < 1000 else f"{rate:,.0f}"),
        *([("images/s of each rank", f"{rate / ranks:,.4g}")] if ranks > 1 else []),
    ]
    shown = [(key, ledger["device"] if value is None else value) for key, value in rows]
    lead = "The whole training, its evaluations and checkpoints among it, over all processes that it was resumed in."
    return section("What it took", lead, pairs(shown))


# ---- how it was trained


def _values(recipe: Recipe) -> dict[str, Any]:
    """Every value of a recipe but its source, by the dotted path that `--set` takes."""
    named = flat(recipe.model_dump(mode="json", exclude={"source"}))
    return {path.replace(" ", "."): value for path, value in named}


def _shipped(run: _Retraining) -> dict[str, Any] | None:
    """The values of the shipped recipe that was named; None where it was a file."""
    return _values(load_recipe(run.found["recipe"])) if run.found["recipe"] in RECIPES else None


def _changes(run: _Retraining) -> dict[str, Any]:
    """What was set to other values than those of the shipped recipe."""
    shipped = _shipped(run)
    missing = object()
    return {
        path: value
        for path, value in _values(run.recipe).items()
        if shipped is not None and shipped.get(path, missing) != value
    }


def _recipe_values(run: _Retraining) -> str:
    name, recipe, shipped, changes = run.found["recipe"], run.recipe, _shipped(run) or {}, _changes(run)
    idle = set() if recipe.mixes else {"mixup_probability", "mixup_switch_probability"}
    idle |= set() if recipe.random_erasing else {"random_erasing_mode"}
    rows, unused = [("peak learning rate", plain(recipe.peak_learning_rate))], []
    for path, value in _values(recipe).items():
        if path in changes:
            rows.append((path, f"{plain(value)} ({name}: {plain(shipped.get(path))})"))
        elif value and path not in idle:
            rows.append((path, plain(value)))
        else:
            unused.append(path)
    if run.teacher is not None:
        rows.append(("teacher", run.teacher["source"]))
    half = -(-len(rows) // 2)
    lead = f"{text(name)}, after {text(recipe.source)}"
    lead += f"; {len(changes)} of its values set to others, its own in brackets." if changes else "."
    off = f'<p class="quiet">Off, or left to the network or the optimiser: {text(", ".join(unused))}.</p>'
    columns = f"<div>{pairs(rows[:half])}</div><div>{pairs(rows[half:])}</div>"
    return section("Recipe", lead, f'<div class="columns">{columns}</div><div class="wide">{off}</div>')


def _damaged(run: _Retraining) -> str:
    if not run.damaged:
        return ""
    shown = list(run.damaged.items())[:_DAMAGED_ROWS]
    left = len(run.damaged) - len(shown)
    more = f'<p class="quiet">and {left:,} more, in damaged.json</p>' if left else ""
    plural = "image" if len(run.damaged) == 1 else "images"
    lead = f"{len(run.damaged):,} {plural} could not be decoded and were left out."
    return section("Damaged images", lead, f'<div class="wide">{pairs(shown)}</div>{more}')


def _provenance(run: _Retraining) -> str:
    part_of = {"train": "training images", "val": "held-out images"}
    rows = [(part_of[key], plain(run.data[key])) for key in part_of if key in run.data]
    rows += [("classes", plain(run.found["classes"])), ("seed", plain(run.found["seed"]))]
    notes = ["FOLDER: where this page lies; DIR: the images."]
    recipe = ""
    if _shipped(run) is None:
        notes.append("The recipe's file is at the end of this page.")
        values = yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
        recipe = f"<h3>recipe.yaml: the recipe with every value</h3><pre>{text(values)}</pre>"
    if run.teacher is not None and run.teacher["checkpoint"]:
        notes.append("TEACHER: the teacher's weights.")
    return section(
        "Provenance",
        "",
        f"<h3>To make this again</h3><pre>{text(_command(run))}</pre>"
        f'<p class="quiet">{" ".join(notes)}</p>'
        f'<div class="columns"><div><h3>Data</h3>{pairs(rows)}</div>'
        f"<div><h3>Machine and versions</h3>{pairs(environment_rows(run.environment))}</div></div>{recipe}",
    )


def _command(run: _Retraining) -> str:
    ranks = int(run.ledger["ranks"])
    recipe = "recipe.yaml" if _shipped(run) is None else run.found["recipe"]
    words = [
        "se-nas" if ranks == 1 else f"torchrun --standalone --nproc-per-node {ranks} -m se_nas",
        f"retrain FOLDER/architecture.json --data {run.data['name']} --data-dir DIR --recipe {recipe}",
        *(f"--set {shlex.quote(f'{path}={_in_yaml(value)}')}" for path, value in _changes(run).items()),
        *_teacher(run.teacher),
        f"--seed {run.found['seed']} --out NEW",
    ]
    return " ".join(words)


def _teacher(teacher: dict[str, Any] | None) -> list[str]:
    if teacher is None:
        return []
    checkpoint = ["--teacher-checkpoint TEACHER"] if teacher["checkpoint"] else []
    return [f"--teacher {shlex.quote(teacher['source'])}", *checkpoint]


def _in_yaml(value: Any) -> str:
    """A value on one line, as `--set` reads it."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()[1:-1]
