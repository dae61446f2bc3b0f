"""What the sections of a run's page say, in words and tables of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyFile
from se_nas.cost.metrics import ENERGY, METRICS, device_of
from se_nas.errors import counted, format_seconds
from se_nas.evidence.se_by_runtime import CLEAR, SEInBlock
from se_nas.records.fields import Metric
from se_nas.records.measure import Measure
from se_nas.records.models.certificate import DecodeTry
from se_nas.records.models.finalists import Finalist, FinalistsFile, Origin
from se_nas.report.pages.class_accuracy import ClassTable
from se_nas.report.pages.costs import CostRows, architecture_words, cost, cost_checks, cost_table, named_cost
from se_nas.report.pages.rows import Rows, environment_rows, record_rows, spaced
from se_nas.report.pages.run_reading import RunFiles, Study
from se_nas.report.plots import figure as plots_figure
from se_nas.report.plots import study as study_plots
from se_nas.report.theme.words import ABSENT, format_percent
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.space.architecture import Architecture

_FRONT_ROWS = 20
_BLOCKS_IN_WORDS = 3


@dataclass(frozen=True)
class FrontRow:
    """An architecture of the front: its numbers under the heads of the table, its picks, and whether it was chosen."""

    cells: Sequence[str]
    picks: str
    chosen: bool


@dataclass(frozen=True)
class Front:
    """The Pareto front of a black-box search.

    Attributes:
        words: how many architectures were evaluated, proposed by what, and what became of them.
        limited: whether there were budgets that it is within.
        thinned: how many of how many rows are shown, where some are left out.
        measure: the head of the column of what was measured; metrics: those of costs.
        measured: whether the hypervolume was measured on the way.
    """

    words: str
    limited: bool
    thinned: str
    measure: str
    metrics: Sequence[str]
    rows: Sequence[FrontRow]
    measured: bool


@dataclass(frozen=True)
class FinalistRow:
    """A network among which the answer was chosen: its cells, and whether it is the answer."""

    cells: Sequence[str]
    chosen: bool


@dataclass(frozen=True)
class Finalists:
    """The networks among which the answer was chosen by trainings.

    Attributes:
        words: how many there are, and what the trainings were.
        rounds: the head of the column of each round.
    """

    words: str
    rounds: Sequence[str]
    rows: Sequence[FinalistRow]


@dataclass(frozen=True)
class Decode:
    """A decode of the search's answer in words."""

    limits: str
    costs: str
    measured: str
    score: str


@dataclass(frozen=True)
class PredictedLatency:
    """How well the latency table of a device predicts, and what it was timed with.

    Attributes:
        figure: the name of its figure; device: what the run calls it, where it has several.
    """

    figure: str
    device: str
    rows: Rows


@dataclass(frozen=True)
class Watchdog:
    """What a search's watchdog saw: its warnings, each after the epochs that had it."""

    epochs: int
    warnings: Rows


@dataclass(frozen=True)
class Provenance:
    """What the run was set to, what it ran on, and what its parts took."""

    setting: Rows
    where: Rows
    took: Rows
    total: str
    configuration: str


@dataclass(frozen=True)
class RunSections:
    """The sections of the page; None of what the run has not."""

    architecture: str
    finalists: Finalists | None
    front: Front | None
    classes: ClassTable | None
    latencies: Sequence[PredictedLatency]
    se_by_device: Sequence[str]
    costs: CostRows
    checks: list[tuple[str, Rows]]
    decodes: Sequence[Decode]
    watchdog: Watchdog | None
    provenance: Provenance


def run_sections(run: RunFiles) -> RunSections:
    """What the page of a run says below its headline."""
    certificate, decodes = run.certificate, run.result.search.decodes
    return RunSections(
        architecture=architecture_words(run.architecture.network),
        finalists=None if run.finalists is None else _finalists(run, run.finalists),
        front=None if run.study is None else _front(run.study),
        classes=run.classes,
        latencies=[_latency(metric, table) for metric, table in run.latencies.items()],
        se_by_device=se_words(run.se_by_device, {device_of(metric): table for metric, table in run.latencies.items()}),
        costs=cost_table(certificate.costs, certificate.budgets),
        checks=cost_checks(certificate.cross_check, certificate.latency_conditions),
        decodes=[_decode(decode) for decode in decodes] if len(decodes) > 1 else [],
        watchdog=_watchdog(run),
        provenance=_provenance(run),
    )


# ---- the finalists


_ORIGINS: Mapping[Origin, str] = {
    "answer": "the search's own answer",
    "neighbour": "a neighbour of that answer",
    "random": "drawn within the budgets",
    "other": "what the search would answer beside",
}


def _finalists(run: RunFiles, file: FinalistsFile) -> Finalists:
    rounds = [f"{networks} for {counted(epochs, 'epoch')}" for networks, epochs in file.rounds]
    trained = format_seconds(file.seconds)
    words = (
        "Each was trained from scratch on the training images without the validation part, "
        f"{', then '.join(rounds)}, in {trained} that count as the search's. The accuracies are of the validation "
        "images: the best of the last round is the answer, and by being the best it reads high there."
    )
    if (failed := sum(one.failed is not None for one in file.finalists)) > 0:
        words += f" {failed} could not be trained to the end, and {'is' if failed == 1 else 'are'} out."
    measure, answer = run.result.search.measure or Measure(), run.architecture.architecture.as_dict()
    rows = [
        FinalistRow(
            [
                _ORIGINS[one.origin],
                measure.show(one.judged),
                *(_accuracy_cell(one, number) for number in range(len(rounds))),
            ],
            chosen=one.picks == answer,
        )
        for one in file.finalists
    ]
    return Finalists(words, [f"after {counted(epochs, 'epoch')}" for _, epochs in file.rounds], rows)


def _accuracy_cell(one: Finalist, number: int) -> str:
    """The accuracy after a round, of a network that was in it, or that its training failed."""
    if number < len(one.accuracies):
        return format_percent(one.accuracies[number], 2)
    return "failed" if number < one.trainings else ABSENT


# ---- the front


def _front(study: Study) -> Front:
    front = study.front
    shown = _spread(front, study.chosen)
    metrics = study_plots.panel_metrics(study.objectives, study.limits)
    return Front(
        words=_study_words(study),
        limited=bool(study.limits),
        thinned=f"{len(shown)} of {len(front)}" if len(shown) < len(front) else "",
        measure=study.measure.name,
        metrics=[plots_figure.metric_title(metric) for metric in metrics],
        rows=[_front_row(study, entry, metrics) for entry in shown],
        measured=study.hypervolume is not None,
    )


def _front_row(study: Study, entry: Evaluation, metrics: Sequence[str]) -> FrontRow:
    blocks = study.space.resolve(entry.architecture).blocks
    cells = [
        str(entry.number),
        study.measure.show(study.measure.worth(float(entry.accuracy or 0.0))),
        *(cost(metric, entry.costs[metric]).removesuffix(f" {METRICS[metric].unit}") for metric in metrics),
        f"{sum(block.se is not None for block in blocks)} of {len(blocks)}",
    ]
    return FrontRow(cells, study_plots.picks_words(entry.architecture), chosen=entry.architecture == study.chosen)


def _spread(front: list[Evaluation], chosen: Architecture) -> list[Evaluation]:
    """At most `_FRONT_ROWS` of a front, spread evenly over it, the chosen one among them."""
    if len(front) <= _FRONT_ROWS:
        return front
    places = [round(row * (len(front) - 1) / (_FRONT_ROWS - 1)) for row in range(_FRONT_ROWS)]
    for wanted in (place for place, entry in enumerate(front) if entry.architecture == chosen):
        nearest = min(range(_FRONT_ROWS), key=lambda row: abs(places[row] - wanted))
        places[nearest] = wanted
    return [front[place] for place in places]


def _study_words(study: Study) -> str:
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
    proposer = SAMPLERS[study.sampler].label if study.sampler in SAMPLERS else study.sampler
    plural = "architecture was" if len(entries) == 1 else "architectures were"
    words = f"{len(entries):,} {plural} evaluated, proposed by {proposer}{': ' if told else ''}{told}."
    if (screen := study.screen) is None:
        return words
    kept = f"{counted(len(screen.kept), 'network')}, the best by NASWOT, before any training"
    unscored = f", {screen.unscored:,} of them without a score" if screen.unscored else ""
    drawn = f"{counted(screen.distinct, 'random network')} within the budgets{unscored}"
    return f"{words} Evaluated first: {kept}, of {drawn}."


# ---- costs


def latency_figure(metric: str) -> str:
    """The name of the figure, and of its file, of a latency."""
    device = device_of(metric)
    return "latency" if device is None else f"latency_{device}"


def _latency(metric: str, table: LatencyFile) -> PredictedLatency:
    report = table.fit
    held_out, prediction = report.held_out, report.prediction
    blocks: Rows = []
    if prediction is not None:
        blocks = [
            ("blocks timed", str(prediction.timed)),
            ("blocks predicted from these", str(prediction.predicted)),
            ("mean absolute error on a block left out", format_percent(prediction.mape)),
        ]
    rows = [
        ("mean absolute error", format_percent(held_out.mape)),
        ("within 5 %", format_percent(held_out.within_5)),
        ("within 10 %", format_percent(held_out.within_10)),
        ("Spearman rank correlation", f"{held_out.spearman:.3f}"),
        ("held-out networks", str(held_out.n)),
        ("calibrated on networks", str(report.calibrated_on)),
        *blocks,
        *spaced(_key_rows(table.key)),
    ]
    return PredictedLatency(latency_figure(metric), device_of(metric) or "", rows)


def se_words(blocks: Sequence[SEInBlock], tables: Mapping[str | None, LatencyFile]) -> list[str]:
    """Where the devices disagree on what SE takes, and whether on which of its options is slower; in sentences.

    Args:
        tables: by device, of which some may be left out of the blocks' numbers.
    """
    if not blocks:
        return []
    furthest = sorted(blocks, key=lambda block: -block.spread)[:_BLOCKS_IN_WORDS]
    lines = []
    for block in furthest:
        shares = [
            f"{format_percent(block.shares[device], 0)} on {device} ({RUNTIMES[tables[device].key.runtime].title})"
            for device in sorted(block.shares, key=lambda device: -block.shares[device])
        ]
        lines.append(f"SE of {' and '.join(block.places)} takes {_listed(shares)} of the block's time.")
    lines += [
        f"{device} is left out: {counted(table.fit.calibrated_on, 'network')} tell the times of its "
        f"{len(table.blocks)} blocks mostly as a line on their counts."
        for device, table in tables.items()
        if device not in blocks[0].shares
    ]
    swaps = [(block, pair) for block in blocks for pair in block.swapped]
    clearly = f"by {format_percent(CLEAR, 0)} of the block's time or more"
    if not swaps:
        return [*lines, f"No option of SE is slower than another on one device and faster on another, {clearly}."]
    block, (one, other) = swaps[0]
    places = counted(len({swapped.places for swapped, _ in swaps}), "block")
    pairs = counted(len(swaps), "pair of options", "pairs of options")
    where = f"such as {one} and {other} of {block.places[0]}"
    return [*lines, f"The order of the options of SE differs, {clearly}, for {pairs} in {places}, {where}."]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _key_rows(key: LatencyKey) -> Rows:
    """What a latency is of: not how often a program is called again, nor a program where there is none."""
    values = [(field.name, getattr(key, field.name)) for field in fields(key) if field.compare]
    return [(name, str(value)) for name, value in values if value is not None]


def _decode(decode: DecodeTry) -> Decode:
    measured = decode.measured_ms if decode.measured_mj is None else {**decode.measured_ms, ENERGY: decode.measured_mj}
    return Decode(
        limits=_amounts(decode.limits),
        costs=_amounts(decode.costs),
        measured=_amounts(measured) if measured else ABSENT,
        score=f"{decode.score:.4g}",
    )


def _amounts(amounts: Mapping[Metric, float]) -> str:
    return ", ".join(named_cost(metric, value) for metric, value in amounts.items()) or "none"


# ---- how it went


def _watchdog(run: RunFiles) -> Watchdog | None:
    """None where no watchdog looked on."""
    if all(row.warnings is None for row in run.search):
        return None
    seen: dict[str, list[int]] = {}
    for row in run.search:
        for warning in row.warnings or ():
            seen.setdefault(warning, []).append(row.epoch)
    return Watchdog(len(run.search), [(_epochs(epochs), words) for words, epochs in seen.items()])


def _epochs(epochs: list[int]) -> str:
    """Epochs with runs shortened: 3, 7 to 9."""
    spans = []
    for _, group in groupby(enumerate(epochs), key=lambda pair: pair[1] - pair[0]):
        span = [epoch for _, epoch in group]
        spans.append(f"{span[0]}" if len(span) == 1 else f"{span[0]} to {span[-1]}")
    return ", ".join(spans)


def _provenance(run: RunFiles) -> Provenance:
    result = run.result
    worth = result.search.validation_accuracy
    measured = ["validation_accuracy"] if result.search.measure else []
    parts = {
        "data": record_rows(result.data),
        "space": record_rows(result.space, without=["size"]),
        "search": [
            *record_rows(result.search, without=["decodes", "measure", *measured]),
            *([("measure", _measure_words(result.search.measure, worth))] if result.search.measure else []),
        ],
        "retrain": record_rows(result.retrain),
    }
    return Provenance(
        setting=[
            (f"{part} {name}".replace("data parts ", "images for ").replace("_", " "), value)
            for part, rows in parts.items()
            for name, value in rows
        ],
        where=[("seed", str(result.seed)), *environment_rows(result.environment)],
        took=[(entry.part, format_seconds(entry.seconds)) for entry in result.cost_ledger],
        total=format_seconds(sum(entry.seconds for entry in result.cost_ledger)),
        configuration=run.configuration,
    )


def _measure_words(measure: Measure, value: float | None) -> str:
    """What was measured and what came out, in one row."""
    ends = [f"at least {measure.lowest:g}"] if measure.lowest is not None else []
    ends += [f"at most {measure.highest:g}"] if measure.highest is not None else []
    more = [] if measure.share else ends + ([] if measure.raised else ["less is better"])
    words = f" ({', '.join(more)})" if more else ""
    found = "" if value is None else f": {measure.show(value)}"
    return f"{measure.name} {measure.source}{found}{words}"
