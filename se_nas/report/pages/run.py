"""A run as one page to look at: what was found, what it costs, how the search got there, and how to do it again.

`write_report` reads nothing but the run's folder and writes `report.html`, which loads nothing, beside `plots/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from se_nas.cost.latency.table import LatencyFile
from se_nas.cost.table import UNITS
from se_nas.errors import ConfigError
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.certificate import SearchCertificate
from se_nas.records.fields import Number, Share
from se_nas.records.files import read_json, write_atomic
from se_nas.records.record import parse_record, read_plain
from se_nas.records.run_result import RunResult
from se_nas.report.pages.evidence import EvidenceParts, evidence_sections
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
from se_nas.report.plots import figure as plots_figure
from se_nas.report.plots import probabilities
from se_nas.report.plots import search as plots
from se_nas.report.plots import study as study_plots
from se_nas.report.plots.architecture import draw_architecture_svg
from se_nas.report.theme.words import ABSENT, format_percent, format_seconds, format_size
from se_nas.search.black_box.evaluation import Evaluation, EvaluationsFile, evaluations_in
from se_nas.search.black_box.pareto import front_objectives, front_of
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, load_architecture
from se_nas.space.choice import Option, Place
from se_nas.space.search_space import SearchSpace
from se_nas.space.size import read_size
from se_nas.space.yaml_file import load_space

_FRONT_ROWS = 20
_SAMPLERS = {
    "nsga2": "NSGA-II",
    "nsga3": "NSGA-III",
    "tpe": "TPE",
    "gp": "a Gaussian process",
    "random": "chance",
    "evolution": "regularised evolution",
}


@dataclass(frozen=True)
class _Study:
    """What a black-box search wrote down, in the space that it searched."""

    space: SearchSpace
    sampler: str
    objectives: list[str]
    limits: Mapping[str, float]
    evaluations: list[Evaluation]
    importance: Mapping[str, float]
    chosen: Architecture

    @cached_property
    def hypervolume(self) -> np.ndarray | None:
        return study_plots.hypervolume_shares(self.evaluations, self.objectives, self.limits)

    @property
    def front(self) -> list[Evaluation]:
        """The front in the objectives; of a search for accuracy alone, in accuracy and the costs with budgets."""
        return front_of(self.evaluations, front_objectives(self.objectives, list(self.limits)))


@dataclass(frozen=True)
class _Run:
    """What a run's folder holds; what is missing is empty."""

    result: Mapping[str, Any]
    architecture: ArchitectureFile
    certificate: Mapping[str, Any]
    search: list[Mapping[str, Any]]
    retrain: list[Mapping[str, Any]]
    choices: Mapping[str, list[Any]]
    latency: Mapping[str, Any]
    study: _Study | None
    configuration: str
    excitation: str
    evidence: EvidenceParts


def write_report(run_folder: Path, configuration: str = "") -> Path:
    """Write `report.html` and `plots/` into a run's folder from the files there.

    Args:
        run_folder: holds `result.json`, `architecture.json` and `certificate.json`; the histories, `choices.json`,
            `latency.json`, `evidence/*.json` and, beside `space.yaml`, `search/evaluations.json` and
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
    result = read_plain(RunResult, folder / "result.json")
    architecture = load_architecture(folder / "architecture.json")
    search = read_history(folder / "search" / "history.json")
    choices = _choices(folder, architecture.architecture, search)
    run = _Run(
        result=result,
        architecture=architecture,
        certificate=read_plain(SearchCertificate, folder / "certificate.json"),
        search=search,
        retrain=read_history(folder / "retrain" / "history.json"),
        choices=choices,
        latency=read_if_there(LatencyFile, folder / "latency.json", {}),
        study=_study(folder, architecture.architecture),
        configuration=configuration,
        excitation=excitation_section(folder),
        evidence=evidence_sections(folder, folder.resolve().name),
    )
    figures = {**_figures(run), **run.evidence.figures}
    for name, figure in figures.items():
        write_atomic(folder / "plots" / f"{name}.png", plots_figure.figure_png(figure))
    drawing = draw_architecture_svg(run.architecture.network)
    write_atomic(folder / "plots" / "architecture.svg", drawing)
    inline = {name: plots_figure.figure_svg(figure, name.replace("_", "-")) for name, figure in figures.items()}
    return write_atomic(folder / "report.html", _page(run, inline, drawing))


def _choices(folder: Path, chosen: Architecture, search: Iterable[Mapping[str, Any]]) -> dict[str, list[Option]]:
    """The options of every choice, as the picks and the probabilities of the other files need them."""
    path = folder / "choices.json"
    found: dict[str, list[Option]] = read_if_there(dict[str, list[int | Number | str]], path, {})
    if found and (folder / "space.yaml").exists():
        space = load_space(folder / "space.yaml")
        if found != {choice.name: list(choice.options) for choice in space.choices}:
            raise ConfigError(str(path), [f"file: must hold the choices of {folder / 'space.yaml'}, but holds others"])
    picks = chosen.as_dict()
    for name, options in found.items():
        if picks.get(name) not in options:
            must = f"{name}: must have the option of architecture.json, {picks.get(name)!r:.40}, but has not"
            raise ConfigError(str(path), [must])
    for row in search:
        for name, shares in (row.get("probabilities") or {}).items():
            if name in found and len(shares) != len(found[name]):
                got = f"{len(shares)} and {len(found[name])}"
                raise ConfigError(str(path), [f"{name}: options must be as many as probabilities, but are {got}"])
    return found


def _study(folder: Path, chosen: Architecture) -> _Study | None:
    """The black-box search of a run, if it had one."""
    path = folder / "search" / "evaluations.json"
    if not path.exists():
        return None
    space = load_space(folder / "space.yaml")
    space.check(chosen)
    chosen = space.architecture(chosen.as_dict())  # its picks are options of the space
    value = parse_record(EvaluationsFile, read_json(path), str(path))
    return _Study(
        space,
        sampler=value.sampler,
        objectives=list(value.objectives),
        limits={str(metric): limit for metric, limit in value.budgets.items()},
        evaluations=evaluations_in(value, space, str(path)),
        importance=read_if_there(dict[str, Share], folder / "search" / "importance.json", {}),
        chosen=chosen,
    )


def _figures(run: _Run) -> dict[str, Figure]:
    """Every plot that the run has the numbers for, by the name of its file."""
    picks = run.architecture.architecture.as_dict()
    recorded = {name for row in run.search for name in (row.get("probabilities") or {})}
    choices = {name: options for name, options in run.choices.items() if name in recorded}
    figures: dict[str, Figure] = {} if run.study is None else _study_figures(run.study)
    parts = {Place.named(name).part for name in choices}
    if "se" in parts:
        figures["se_probabilities"] = probabilities.se_probabilities(run.search, choices, picks)
    if parts - {"se"}:
        figures["other_probabilities"] = probabilities.other_probabilities(run.search, choices, picks)
    if any(row.get("expected") for row in run.search):
        limits = {entry["metric"]: float(entry["limit"]) for entry in run.certificate.get("budgets", [])}
        costs = run.certificate.get("costs", [])
        costs = sorted(costs, key=lambda entry: entry.get("how") == "predicted")  # the search reckons by predictions
        final = {entry["metric"]: float(entry["value"]) for entry in costs}
        figures["expected_cost"] = plots.expected_cost(run.search, limits, final)
    if run.search or run.retrain:
        figures["learning_curves"] = plots.learning_curves(run.search, run.retrain)
    if any(row.get("entropy") is not None or row.get("temperature") is not None for row in run.search):
        figures["decisiveness"] = probabilities.decisiveness(run.search)
    held_out = run.latency.get("held_out") or []
    if held_out:
        predicted, measured = ([float(entry[name]) for entry in held_out] for name in ("predicted_ms", "ms"))
        figures["latency"] = plots.latency_agreement(predicted, measured)
    return figures


def _study_figures(study: _Study) -> dict[str, Figure]:
    evaluations = study_plots.evaluated(study.evaluations)
    figures: dict[str, Figure] = {}
    if any(entry.complete for entry in evaluations):
        if study_plots.panel_metrics(study.objectives, study.limits):
            figures["pareto_fronts"] = study_plots.pareto_fronts(
                evaluations, study.objectives, study.limits, study.chosen
            )
        figures["progress"] = study_plots.progress(evaluations, study.hypervolume)
    if study.importance:
        figures["importance"] = study_plots.importance(study.importance)
    if any(entry.curve for entry in evaluations):
        figures["intermediate_accuracy"] = study_plots.intermediate_accuracy(evaluations, study.chosen)
    return figures


# ---- the page


def _page(run: _Run, figures: Mapping[str, str], drawing: str) -> str:
    body = [
        _headline(run),
        section("The architecture", architecture_words(run.architecture.network), f'<div class="wide">{drawing}</div>'),
        run.evidence.html(figures),
        _front(run.study, figures),
        plot_section(
            figures,
            "progress",
            "How the search got on",
            "What the evaluations found, in their order."
            if run.study is None or run.study.hypervolume is None
            else "What the evaluations found, in their order; the hypervolume is what the front within the budgets "
            "dominates of the box from the best value of each objective to its budget or, where it has none, to the "
            "worst value.",
        ),
        plot_section(
            figures,
            "importance",
            "Which choices mattered",
            "Share of the differences in accuracy that each choice explains, by Optuna's estimate over the complete "
            "evaluations.",
        ),
        plot_section(
            figures,
            "intermediate_accuracy",
            "Training each architecture",
            "Accuracy by epoch of the short trainings; a cross ends those that fell behind the others.",
        ),
        plot_section(
            figures,
            "se_probabilities",
            "How each block chose its SE",
            "Probability of each option over the epochs, blocks in order of depth. The bold label and the bar at the "
            "right edge mark the option of the final network. The decode picks the best network inside every budget, "
            "so this need not be the likeliest option.",
        ),
        plot_section(
            figures,
            "other_probabilities",
            "The other choices",
            "The same for the rest: a column a block, the stronger the larger; the picked option below each cell.",
        ),
        plot_section(
            figures,
            "expected_cost",
            "Expected cost against the budgets",
            "Mean cost of the networks that the search would draw at each epoch, latency as the table predicts it. The "
            "point is the final network, by the same reckoning.",
        ),
        plot_section(figures, "learning_curves", "Learning curves", ""),
        plot_section(
            figures,
            "decisiveness",
            "How decided the search was",
            "Entropy averaged over the choices, each relative to its uniform distribution.",
        ),
        run.excitation,
        _latency(run, figures),
        _certificate(run),
        _warnings(run),
        _provenance(run),
    ]
    return whole_page(str(run.result.get("name", "run")), body)


def _accuracy(run: _Run) -> tuple[str, str]:
    """The page's one big number, and what it is."""
    result, retrain = run.result, run.result.get("retrain") or {}
    parts = result.get("data", {}).get("parts", {})
    if retrain.get("test_accuracy") is not None:
        value, images = float(retrain["test_accuracy"]), int(retrain.get("test_images") or parts.get("test") or 0)
        words = "test accuracy after retraining from scratch"
        if images:
            words += (
                f", on {images:,} images; 95 % interval {accuracy_interval(value, images)} "
                "(Wilson; from the draw of these images alone, for this one training)"
            )
        return f"{100 * value:.2f}<small> %</small>", words
    measured = _validation_accuracy(run)
    if measured is None:
        return ABSENT, "no accuracy was measured in this run"
    value, images = measured, int(parts.get("validation") or 0)
    words = f"validation accuracy {_weights(run)}; not retrained, not tested"
    if images and not _tabular(run):
        words += f"; {images:,} images, 95 % interval {accuracy_interval(value, images)} (Wilson)"
        judged = run.study.evaluations if run.study else (run.result.get("search") or {}).get("validation_accuracies")
        if judged and len(judged) > 1:
            words += "; picked by this very accuracy, so it reads somewhat high"
    return f"{100 * value:.2f}<small> %</small>", words


def _validation_accuracy(run: _Run) -> float | None:
    """Of the chosen network, before any retraining."""
    measured = (run.result.get("search") or {}).get("validation_accuracy")
    if measured is None and run.study is not None:
        found = [entry for entry in run.study.evaluations if entry.complete and entry.architecture == run.study.chosen]
        measured = found[0].accuracy if found else None
    return None if measured is None else float(measured)


def _tabular(run: _Run) -> bool:
    return (run.result.get("search") or {}).get("evaluator") == "table"


def _weights(run: _Run) -> str:
    """Where the validation accuracy of a search came from."""
    if _tabular(run):
        return "in the table of known architectures"
    supernet = (run.result.get("search") or {}).get("evaluator") in (None, "supernet")
    return "with the supernet's weights" if supernet else "after a short training"


def _headline(run: _Run) -> str:
    result, search, retrain = run.result, run.result.get("search") or {}, run.result.get("retrain") or {}
    data, space = result.get("data", {}), result.get("space", {})
    number, words = _accuracy(run)
    budgets = "".join(_budget(entry) for entry in run.certificate.get("budgets", []))
    blocks = run.architecture.network.blocks
    facts = [
        ("blocks with SE", f"{sum(block.se is not None for block in blocks)} of {len(blocks)}"),
        *(
            (str(entry.get("how", "cost")), cost(entry["metric"], entry["value"]))
            for entry in run.certificate.get("costs", [])
            if entry["metric"] not in {budget["metric"] for budget in run.certificate.get("budgets", [])}
        ),
    ]
    if "size" in space:
        facts.append(("networks in the space", format_size(read_size(space["size"]))))
    if search.get("seconds") is not None:
        facts.append((f"{search.get('strategy', '')} search".strip(), format_seconds(float(search["seconds"]))))
    if retrain.get("seconds") is not None:
        facts.append(("retraining", format_seconds(float(retrain["seconds"]))))
    if retrain.get("ema_test_accuracy") is not None:
        facts.append(("with averaged weights", format_percent(float(retrain["ema_test_accuracy"]), 2)))
    validation = _validation_accuracy(run)
    if retrain and validation is not None:
        facts.append((f"validation, {_weights(run)}", format_percent(validation, 2)))
    shown = "".join(f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>" for key, value in facts)
    return (
        f'<header><div class="eyebrow">se_nas · {text(data.get("name", "unnamed data"))} · space '
        f"{text(space.get('name', run.architecture.space_name))} · seed {text(result.get('seed', ABSENT))}</div>"
        f"<h1>{text(result.get('name', 'run'))}</h1>"
        f'<div class="headline"><div><div class="figure">{number}</div><p class="quiet">{words}</p></div>'
        f"<div>{budgets or '<p class=quiet>No budget was set.</p>'}</div></div>"
        f'<dl class="facts">{shown}</dl></header>\n'
    )


def _budget(entry: Mapping[str, Any]) -> str:
    metric, limit, value = entry["metric"], float(entry["limit"]), float(entry["value"])
    share, holds = value / limit, bool(entry.get("holds"))
    mark = '<span class="mark" title="kept">✓</span>' if holds else '<span class="mark" title="broken">✗</span>'
    return (
        f'<div class="budget{"" if holds else " broken"}">{mark}'
        f"<span><b>{text(cost(metric, value))}</b> <span class=quiet>of {text(cost(metric, limit))}, "
        f"{text(entry.get('how', ''))}</span></span><span>{format_percent(share)}</span>"
        f'<div class="bar"><i style="width:{100 * min(share, 1):.1f}%"></i></div></div>'
    )


def _front(study: _Study | None, figures: Mapping[str, str]) -> str:
    if study is None:
        return ""
    front = study.front
    shown = _spread(front, study.chosen)
    metrics = study_plots.panel_metrics(study.objectives, study.limits)
    heads = "".join(f'<th class="n">{text(plots_figure.metric_title(metric))}</th>' for metric in metrics)
    rows = ""
    for entry in shown:
        blocks = study.space.resolve(entry.architecture).blocks
        cells = [
            format_percent(float(entry.accuracy or 0.0), 2),
            *(cost(metric, entry.costs[metric]).removesuffix(f" {UNITS[metric]}") for metric in metrics),
            f"{sum(block.se is not None for block in blocks)} of {len(blocks)}",
            str(entry.number),
        ]
        row = "".join(f'<td class="n">{text(cell)}</td>' for cell in cells)
        chosen = entry.architecture == study.chosen
        rows += f'<tr class="chosen">{row}<td>chosen</td></tr>' if chosen else f"<tr>{row}<td></td></tr>"
    note = f" ({len(shown)} of {len(front)}, spread evenly)" if len(shown) < len(front) else ""
    table = (
        f"<h3>The front{' within the budgets' if study.limits else ''}{note}</h3>"
        f'<table><tr><th class="n">accuracy</th>{heads}<th class="n">blocks with SE</th>'
        f'<th class="n">number</th><th></th></tr>{rows}</table>'
    )
    if not front:
        table = "<p>No complete evaluation is of an architecture that keeps every budget.</p>"
    return section(
        "The Pareto front",
        _study_words(study),
        f'<div class="wide">{figures.get("pareto_fronts", "")}</div><div class="wide">{table}</div>',
    )


def _spread(front: list[Evaluation], chosen: Architecture) -> list[Evaluation]:
    """At most `_FRONT_ROWS` of a front, spread evenly over it, the chosen one among them."""
    if len(front) <= _FRONT_ROWS:
        return front
    places = [round(row * (len(front) - 1) / (_FRONT_ROWS - 1)) for row in range(_FRONT_ROWS)]
    for wanted in (place for place, entry in enumerate(front) if entry.architecture == chosen):
        nearest = min(range(_FRONT_ROWS), key=lambda row: abs(places[row] - wanted))
        places[nearest] = wanted
    return [front[place] for place in places]


def _study_words(study: _Study) -> str:
    """How many architectures were evaluated, proposed by what, and what became of them."""
    entries = study_plots.evaluated(study.evaluations)
    repeated = sum(entry.same_as is not None for entry in study.evaluations)
    outcomes = [
        (sum(entry.complete and not entry.feasible for entry in entries), "outside a budget"),
        (sum(entry.state == "pruned" for entry in entries), "ended early"),
        (sum(entry.state == "failed" for entry in entries), "failed"),
        (repeated, "further proposals of known ones"),
    ]
    told = ", ".join(f"{count:,} {words}" for count, words in outcomes if count)
    plural = "architecture was" if len(entries) == 1 else "architectures were"
    return (
        f"{len(entries):,} {plural} evaluated, proposed by {text(_SAMPLERS.get(study.sampler, study.sampler))}"
        f"{': ' if told else ''}{told}."
    )


def _latency(run: _Run, figures: Mapping[str, str]) -> str:
    report = run.latency.get("report") or {}
    held_out = report.get("held_out") or {}
    rows: list[tuple[str, str]] = []
    for key, words in (("mape", "mean absolute error"), ("within_5", "within 5 %"), ("within_10", "within 10 %")):
        if held_out.get(key) is not None:
            rows.append((words, format_percent(float(held_out[key]))))
    if held_out.get("spearman") is not None:
        rows.append(("Spearman rank correlation", f"{float(held_out['spearman']):.3f}"))
    for key, words in (("n", "held-out networks"), ("calibrated_on", "calibrated on networks")):
        value = held_out.get(key, report.get(key))
        if value is not None:
            rows.append((words, str(value)))
    rows += [(key.replace("_", " "), str(value)) for key, value in (run.latency.get("key") or {}).items()]
    if not rows and "latency" not in figures:
        return ""
    lead = "The table that the search used, against networks that its calibration has not seen."
    content = f"{figures['latency']}{pairs(rows)}" if "latency" in figures else pairs(rows)
    return section("Predicted and measured latency", lead, f'<div class="side wide">{content}</div>')


def _certificate(run: _Run) -> str:
    certificate = run.certificate
    decodes = (run.result.get("search") or {}).get("decodes") or []
    way = _decodes(decodes) if len(decodes) > 1 else ""
    return section(
        "Certificate",
        "Each budget and cost of the network that was built, and how each is known. A measured "
        "budget is kept where the upper end of its interval is within the limit.",
        f'<div class="wide">{cost_table({"budgets": [], **certificate})}</div>{cost_checks(certificate)}{way}',
    )


def _decodes(decodes: Iterable[Mapping[str, Any]]) -> str:
    rows = ""
    for decode in decodes:
        limits, costs = (
            ", ".join(cost(metric, value) for metric, value in (decode.get(key) or {}).items()) or "none"
            for key in ("limits", "costs")
        )
        score, measured = decode.get("score"), decode.get("measured_ms")
        rows += (
            f"<tr><td>{text(limits)}</td><td>{text(costs)}</td>"
            f'<td class="n">{ABSENT if measured is None else text(cost("latency_ms", measured))}</td>'
            f'<td class="n">{ABSENT if score is None else f"{float(score):.4g}"}</td></tr>'
        )
    return (
        "<h3>Decodes: the predicted latency is tightened until the measured one is kept</h3>"
        '<table><tr><th>limits</th><th>counted and predicted</th><th class="n">measured</th>'
        '<th class="n">score</th></tr>'
        f"{rows}</table>"
    )


def _warnings(run: _Run) -> str:
    if not any("warnings" in row for row in run.search):
        return ""
    seen: dict[str, list[int]] = {}
    for row in run.search:
        for warning in row.get("warnings") or []:
            seen.setdefault(str(warning), []).append(int(row["epoch"]))
    if not seen:
        lead = f"The watchdog raised no warning in {len(run.search)} epochs."
        return section("What was seen", lead, "")
    rows = "".join(f"<tr><td>{_epochs(epochs)}</td><td>{text(words)}</td></tr>" for words, epochs in seen.items())
    return section(
        "What was seen", "Warnings of the watchdog.", f"<table><tr><th>epochs</th><th>warning</th></tr>{rows}</table>"
    )


def _epochs(epochs: list[int]) -> str:
    """Epochs with runs shortened: 3, 7 to 9."""
    spans = []
    for _, group in groupby(enumerate(epochs), key=lambda pair: pair[1] - pair[0]):
        span = [epoch for _, epoch in group]
        spans.append(f"{span[0]}" if len(span) == 1 else f"{span[0]} to {span[-1]}")
    return ", ".join(spans)


def _provenance(run: _Run) -> str:
    result, environment = run.result, run.result.get("environment") or run.certificate.get("environment") or {}
    command = "se-nas search FOLDER/config.yaml --out NEW    # FOLDER: where this page lies"
    where = [("seed", result.get("seed", ABSENT)), *environment_rows(environment)]
    setting = [
        (f"{part} {key}".replace("data parts ", "images for "), plain(value))
        for part in ("data", "space", "search", "retrain")
        for key, value in flat({k: v for k, v in (result.get(part) or {}).items() if k != "decodes"})
        if not (part == "space" and key == "size")
    ]
    ledger = result.get("cost_ledger") or []
    rows = "".join(
        f'<tr><td>{text(entry["part"])}</td><td class="n">{format_seconds(float(entry["seconds"]))}</td></tr>'
        for entry in ledger
    )
    total = format_seconds(sum(float(entry["seconds"]) for entry in ledger))
    money = (
        f"<h3>Where the time went</h3><table>{rows}"
        f'<tr><td><b>total</b></td><td class="n"><b>{total}</b></td></tr></table>'
        if ledger
        else ""
    )
    recipe = f"<h3>The run file with every value</h3><pre>{text(run.configuration)}</pre>" if run.configuration else ""
    note = "Values that were set on the command line are in the run file at the end of this page." if recipe else ""
    return section(
        "Provenance",
        "",
        f'<h3>To make this again</h3><pre>{text(command)}</pre><p class="quiet">{note}</p>'
        f'<div class="columns"><div><h3>Run</h3>{pairs(setting)}</div>'
        f"<div><h3>Machine and versions</h3>{pairs(where)}{money}</div></div>{recipe}",
    )
