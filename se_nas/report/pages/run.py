"""A run as one page to look at: what was found, what it costs, how the search got there, and how to do it again.

`write_report` reads nothing but the run's folder and writes `report.html`, which loads nothing, beside `plots/`.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from se_nas.records.files import write_atomic
from se_nas.report.pages.accuracies.known import of_run
from se_nas.report.pages.evidence.first_screen import first_screen
from se_nas.report.pages.evidence.sections import evidence_sections
from se_nas.report.pages.int8.section import int8_section
from se_nas.report.pages.render import render
from se_nas.report.pages.run_headline import headline
from se_nas.report.pages.run_next import run_next
from se_nas.report.pages.run_reading import RunFiles, Study, read_run
from se_nas.report.pages.run_sections import latency_figure, run_sections
from se_nas.report.pages.what_next import named
from se_nas.report.plots import figure as plots_figure
from se_nas.report.plots import probabilities
from se_nas.report.plots import search as plots
from se_nas.report.plots import study as study_plots
from se_nas.report.plots.architecture import draw_architecture_svg
from se_nas.report.plots.figure import Plot
from se_nas.space.choice import Place


def write_report(run_folder: Path, configuration: str = "") -> Path:
    """Write `report.html` and `plots/` into a run's folder from the files there.

    Args:
        run_folder: holds `result.json`, `architecture.json` and `certificate.json`; the histories, `choices.json`,
            the latency tables, `evidence/*.json` and, beside `space.yaml`, `search/evaluations.json` and
            `search/importance.json` add their parts where they are there.
        configuration: what of the run file may be shown, a secret not among it.

    Returns:
        The page's path.

    Raises:
        ConfigError: a file that must be there is not, or one is no JSON.
        ArchitectureError: `architecture.json` cannot be read.
        OutputError: the folder cannot be written to.
    """
    folder = Path(run_folder)
    run = read_run(folder, configuration)
    evidence = evidence_sections(folder, named(folder))
    figures = {**_figures(run), **evidence.figures}
    for name, figure in figures.items():
        write_atomic(folder / "plots" / f"{name}.png", plots_figure.figure_png(figure))
    drawing = draw_architecture_svg(run.architecture.network)
    write_atomic(folder / "plots" / "architecture.svg", drawing)
    inline = {name: plots_figure.figure_svg(figure, name.replace("_", "-")) for name, figure in figures.items()}
    page = render(
        "run.html",
        title=run.result.name,
        headline=headline(run, evidence.compared),
        first=first_screen(
            folder,
            evidence.controls,
            evidence.searches,
            run.architecture.network,
            run.finalists,
            run.result.search.seconds,
            retrained=run.result.retrain is not None,
        ),
        next=run_next(folder, run),
        run=run_sections(run),
        accuracies=of_run(folder),
        learned=run.learned,
        int8=int8_section(folder / "retrain"),
        evidence=evidence,
        figures=inline,
        drawing=drawing,
    )
    return write_atomic(folder / "report.html", page)


def _figures(run: RunFiles) -> dict[str, Figure | Plot]:
    """Every plot that the run has the numbers for, by the name of its file."""
    picks = run.architecture.architecture.as_dict()
    recorded = {name for row in run.search for name in row.probabilities or {}}
    choices = {name: options for name, options in run.choices.items() if name in recorded}
    figures: dict[str, Figure | Plot] = {} if run.study is None else _study_figures(run.study)
    parts = {Place.named(name).part for name in choices}
    if "se" in parts:
        figures["se_probabilities"] = probabilities.se_probabilities(run.search, choices, picks)
    if parts - {"se"}:
        figures["other_probabilities"] = probabilities.other_probabilities(run.search, choices, picks)
    if any(row.expected for row in run.search):
        limits: dict[str, float] = {entry.metric: entry.limit for entry in run.certificate.budgets}
        costs = sorted(run.certificate.costs, key=lambda entry: entry.how == "predicted")  # as the search reckons
        final: dict[str, float] = {entry.metric: float(entry.value) for entry in costs}
        figures["expected_cost"] = plots.expected_cost(run.search, limits, final)
    if run.search or run.retrain:
        figures["learning_curves"] = plots.learning_curves(run.search, run.retrain)
    if any(row.entropy is not None or row.temperature is not None for row in run.search):
        figures["decisiveness"] = probabilities.decisiveness(run.search)
    for metric, table in run.latencies.items():
        if table.held_out:
            predicted = [entry.predicted_ms for entry in table.held_out]
            figures[latency_figure(metric)] = plots.latency_agreement(predicted, [e.ms for e in table.held_out])
    return figures


def _study_figures(study: Study) -> dict[str, Figure | Plot]:
    evaluations = study_plots.evaluated(study.evaluations)
    figures: dict[str, Figure | Plot] = {}
    if any(entry.complete for entry in evaluations):
        if study_plots.panel_metrics(study.objectives, study.limits):
            figures["pareto_fronts"] = study_plots.pareto_fronts(
                evaluations, study.objectives, study.limits, study.chosen, study.measure
            )
        figures["progress"] = study_plots.progress(evaluations, study.hypervolume, study.measure)
    if study.importance:
        figures["importance"] = study_plots.importance(study.importance)
    if any(entry.curve for entry in evaluations):
        figures["intermediate_accuracy"] = study_plots.intermediate_accuracy(evaluations, study.chosen, study.measure)
    return figures
