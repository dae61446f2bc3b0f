"""A retraining on ImageNet as one page: how accurate the network is, what it costs, how it was trained, and by what.

`write_retrain_report` reads nothing but the retraining's folder and writes `report.html`, which loads nothing, beside
`plots/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from se_nas.errors import ConfigError
from se_nas.records.files import read_json, write_atomic
from se_nas.records.models.certificate import Certificate
from se_nas.records.models.run_result import ImageNetResult, RetrainResult
from se_nas.records.record import parse_record, read_record
from se_nas.records.yaml_input import read_yaml
from se_nas.report.pages.class_accuracy import class_table
from se_nas.report.pages.int8.section import int8_section
from se_nas.report.pages.reading import read_history, read_if_there, read_learned
from se_nas.report.pages.render import render
from se_nas.report.pages.retraining_recipe import recipe_section
from se_nas.report.pages.retraining_sections import FinishedRetraining, RetrainingConfig, retraining_sections
from se_nas.report.pages.what_next import Command, Next, command_line, files_in
from se_nas.report.plots import figure
from se_nas.report.plots import search as plots
from se_nas.report.plots.architecture import draw_architecture_svg
from se_nas.space.architecture_file import load_architecture
from se_nas.training.recipe_files import stored_recipe
from se_nas.training.trained_network import WEIGHTS

#: What a retraining leaves beside its page.
_FILES: Mapping[str, str] = {
    "architecture.json": "the architecture",
    "certificate.json": "what it costs, and how that is known",
    "result.json": "every result of the retraining",
    "config.yaml": "the recipe and the data",
    "history.json": "every epoch",
    WEIGHTS: "the trained weights",
    "damaged.json": "images that were left out",
    "export": "exported networks",
    "excitation/excitation.html": "what SE learned",
    "plots": "every plot as a picture",
}


def is_retraining(folder: Path) -> bool:
    """Whether a folder holds a finished retraining on ImageNet, not a search.

    Raises:
        ConfigError: it has no readable `result.json`, or that of a retraining on images in memory.
    """
    found = read_json(Path(folder) / "result.json")
    if isinstance(found, dict) and found.keys() == RetrainResult.model_fields.keys():
        must = "must be the folder of a run, or of a retraining on images that stay on disk"
        raise ConfigError(str(folder), [f"{must}, but is of a retraining on images in memory, which has no page"])
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
        raise ConfigError(
            str(folder / "result.json"), ["must be of a retraining on images that stay on disk, but has no `ledger`"]
        )
    config = parse_record(RetrainingConfig, read_yaml(folder / "config.yaml"), str(folder / "config.yaml"))
    history = read_history(folder / "history.json")
    run = FinishedRetraining(
        result=read_record(ImageNetResult, folder / "result.json"),
        architecture=load_architecture(folder / "architecture.json"),
        certificate=read_record(Certificate, folder / "certificate.json"),
        history=history,
        classes=class_table(history, folder),
        data=config.data,
        recipe=stored_recipe(folder / "config.yaml", config.recipe),
        teacher=config.teacher,
        damaged=read_if_there(dict[str, str], folder / "damaged.json", {}),
    )
    learned = read_learned(folder)
    figures: dict[str, Markup] = {}
    if run.history:
        curves = plots.retraining_curves(run.history)
        write_atomic(folder / "plots" / "learning_curves.png", figure.figure_png(curves))
        figures["learning_curves"] = figure.figure_svg(curves, "learning-curves")
    drawing = draw_architecture_svg(run.architecture.network)
    write_atomic(folder / "plots" / "architecture.svg", drawing)
    page = render(
        "retraining.html",
        title=f"{run.architecture.space_name} on {run.data.name}",
        run=retraining_sections(run),
        recipe=recipe_section(run),
        next=_next(folder),
        learned=learned,
        int8=int8_section(folder),
        figures=figures,
        drawing=drawing,
    )
    return write_atomic(folder / "report.html", page)


def _next(folder: Path) -> Next:
    """What can be done with the trained network; nothing but the page where its weights are gone."""
    commands = []
    if (folder / WEIGHTS).exists():
        commands = [
            Command("hand it on: ONNX, torch.export, plain PyTorch, timm", command_line(folder, "export")),
            Command("evaluate it again, at another size too", command_line(folder, "evaluate", more="--data-dir DIR")),
            Command("see what its SE learned", command_line(folder, "excitation", more="--data-dir DIR")),
        ]
    commands.append(Command("write this page again", command_line(folder, "report")))
    return Next(commands, files_in(folder, _FILES))
