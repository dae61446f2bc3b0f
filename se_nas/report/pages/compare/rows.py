"""What a comparison says: a row for each figure and setting, what makes runs incomparable, and groups of seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from se_nas.cost.metrics import device_of, is_latency
from se_nas.errors import counted, format_seconds
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.models.run_result import RunResult
from se_nas.report.pages.compare.reading import ComparedRun
from se_nas.report.pages.costs import cost, named_cost
from se_nas.report.pages.rows import plain
from se_nas.report.plots.figure import metric_title
from se_nas.report.theme.words import ABSENT, format_percent

#: A figure of a run; None where it has none.
Figure = Callable[[ComparedRun], float | None]
#: Its name, what a run has of it, and what follows where runs have others.
Difference = tuple[str, Callable[[ComparedRun], str | None], str]


@dataclass(frozen=True)
class Cell:
    """What a row says of a run."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A figure or a setting of every run."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ by their seed alone: of each figure n, mean and spread."""

    runs: Sequence[str]
    seeds: Sequence[str]
    rows: Sequence[tuple[str, str, str, str]]


@dataclass(frozen=True)
class Measured:
    """A figure that is compared: the greatest, or the least, is best."""

    name: str
    value: Figure
    words: Callable[[ComparedRun, float], str]
    short: Callable[[float], str]
    greatest: bool = False
    comparable: bool = True


def result_of(run: ComparedRun) -> RunResult | None:
    """The result of a run that has one."""
    return run.finished.result if run.finished else None


def _test_accuracy(run: ComparedRun) -> float | None:
    result = result_of(run)
    return result.retrain.test_accuracy if result and result.retrain else None


def validation_accuracy(run: ComparedRun) -> float | None:
    """Of the answer, as its search judged it."""
    result = result_of(run)
    return result.search.validation_accuracy if result else None


def metrics_of(runs: Sequence[ComparedRun]) -> list[str]:
    """Every metric of which an answer has a cost."""
    return list(dict.fromkeys(metric for run in runs for metric in run.costs))


def timed_alike(metric: str, runs: Sequence[ComparedRun]) -> bool:
    """Whether costs in a metric can be compared: every one but a latency can, and that under the same conditions."""
    if not is_latency(metric):
        return True
    every = [run.finished.certificate.latency_conditions.get(metric) for run in runs if run.finished]
    return len({found.model_dump_json() for found in every if found is not None}) < 2


def measured(runs: Sequence[ComparedRun], *, over_splits: bool = False) -> list[Measured]:
    """Every figure that is compared.

    Args:
        over_splits: whether validation accuracies count as comparable on other images of one split, as for a mean.
    """
    same_data = len({_data(run) for run in runs if run.finished}) < 2
    splits = {(_split(run), None if over_splits else run.parts) for run in runs if run.finished}
    same_measure = len({_measure(run) for run in runs if run.finished}) < 2

    def of_cost(metric: str) -> Measured:
        def value(run: ComparedRun) -> float | None:
            return float(run.costs[metric].value) if metric in run.costs else None

        def words(run: ComparedRun, found: float) -> str:
            entry = run.costs[metric]
            interval = f", 95 % {entry.ci95[0]:.4g} to {entry.ci95[1]:.4g}" if entry.ci95 else ""
            return f"{cost(metric, found)} ({entry.how}{interval})"

        alike = timed_alike(metric, runs)
        return Measured(metric_title(metric), value, words, lambda found: cost(metric, found), comparable=alike)

    return [
        Measured("test accuracy", _test_accuracy, _tested, _percent, greatest=True, comparable=same_data),
        Measured(
            "validation accuracy",
            validation_accuracy,
            _validated,
            _percent if all(_is_share(run) for run in runs) else "{:.4g}".format,
            greatest=True,
            comparable=same_data and len(splits) < 2 and same_measure,
        ),
        *(of_cost(metric) for metric in metrics_of(runs)),
        Measured("search time", _search_seconds, lambda run, found: format_seconds(found), format_seconds),
    ]


def _is_share(run: ComparedRun) -> bool:
    result = result_of(run)
    return result is None or result.search.measure is None or result.search.measure.share


def _search_seconds(run: ComparedRun) -> float | None:
    result = result_of(run)
    return result.search.seconds if result else None


def _tested(run: ComparedRun, found: float) -> str:
    result = result_of(run)
    assert result is not None
    assert result.retrain is not None
    images = result.retrain.test_images
    return f"{_percent(found)} (95 % {accuracy_interval(found, images)}, {images:,} images)"


def _percent(share: float) -> str:
    return format_percent(share, 2)


def _validated(run: ComparedRun, found: float) -> str:
    result = result_of(run)
    assert result is not None
    measure = result.search.measure
    return f"{measure.show(found)} ({measure.source})" if measure else _percent(found)


# ---- the table


def comparison_rows(runs: Sequence[ComparedRun]) -> list[Row]:
    """Every row, figures first; the best figure is marked where two can be compared."""
    rows = [Row("state", [Cell("finished" if run.finished else "unfinished") for run in runs])]
    figures = [_figure_row(one, runs) for one in measured(runs)]
    rows += [*figures[:-1], _text_row("budgets", _budgets, runs), figures[-1]]
    settings: list[tuple[str, Callable[[ComparedRun], str | None]]] = [
        ("ended early by", _ended_early),
        ("retraining", _retraining),
        ("blocks with SE", _se_blocks),
        ("strategy", _strategy),
        ("space", _space),
        ("data", _data),
        ("split", _split),
        ("latency conditions", _conditions),
        ("seed", lambda run: str(_seed(run))),
        ("se_nas", lambda run: run.finished.result.environment.se_nas if run.finished else None),
        ("torch", lambda run: run.finished.result.environment.packages.get("torch") if run.finished else None),
        ("machine", lambda run: run.finished.result.environment.cpu if run.finished else None),
        ("GPU", lambda run: run.finished.result.environment.gpu if run.finished else None),
    ]
    rows += [_text_row(name, words, runs) for name, words in settings]
    return [row for row in rows if any(cell.text != ABSENT for cell in row.cells)]


def _figure_row(one: Measured, runs: Sequence[ComparedRun]) -> Row:
    values = [one.value(run) for run in runs]
    known = [value for value in values if value is not None]
    marked = one.comparable and len(set(known)) > 1
    best = (max if one.greatest else min)(known) if known else None
    cells = [
        Cell(ABSENT) if value is None else Cell(one.words(run, value), marked and value == best)
        for run, value in zip(runs, values, strict=True)
    ]
    return Row(one.name, cells)


def _text_row(name: str, words: Callable[[ComparedRun], str | None], runs: Sequence[ComparedRun]) -> Row:
    return Row(name, [Cell(words(run) or ABSENT) for run in runs])


def _budgets(run: ComparedRun) -> str | None:
    if run.finished is None:
        limits = run.setting("budgets")
        return ", ".join(f"{name} {limit}" for name, limit in limits.items()) if isinstance(limits, dict) else None
    entries = run.finished.certificate.budgets
    words = (f"{named_cost(e.metric, e.limit)} {'✓ kept' if e.holds else '✗ broken'}" for e in entries)
    return ", ".join(words) or "none"


def _ended_early(run: ComparedRun) -> str | None:
    result = result_of(run)
    return ", ".join(part.words for part in result.search.stopped or ()) if result else None


def _retraining(run: ComparedRun) -> str | None:
    epochs = run.setting("retrain.epochs")
    return None if epochs is None else f"{plain(epochs)} {'epoch' if epochs == 1 else 'epochs'}"


def _se_blocks(run: ComparedRun) -> str | None:
    if run.finished is None:
        return None
    blocks = run.finished.architecture.network.blocks
    return f"{sum(block.se is not None for block in blocks)} of {len(blocks)}"


def _strategy(run: ComparedRun) -> str:
    result = result_of(run)
    more = [word for word in (result.search.sampler, result.search.evaluator) if word] if result else []
    return ", ".join([run.strategy, *more])


def _seed(run: ComparedRun) -> object:
    result = result_of(run)
    return result.seed if result else run.setting("seed")


def _space(run: ComparedRun) -> str | None:
    result = result_of(run)
    return f"{result.space.name} ({result.space.digest[:8]})" if result else None


def _data(run: ComparedRun) -> str | None:
    result = result_of(run)
    return result.data.name if result else run.setting("data.name")


def _split(run: ComparedRun) -> str | None:
    result = result_of(run)
    return ", ".join(f"{count:,} {part}" for part, count in result.data.parts.items()) if result else None


def _conditions(run: ComparedRun) -> str | None:
    if run.finished is None:
        return None
    every = run.finished.certificate.latency_conditions
    return "; ".join(
        f"{f'{device}: ' if (device := device_of(metric)) else ''}{found.device}, {found.runtime}, {found.dtype}, "
        f"batch {found.batch_size}, {counted(found.threads, 'thread')}"
        for metric, found in every.items()
    )


def _measure(run: ComparedRun) -> str | None:
    result = result_of(run)
    measure = result.search.measure if result else None
    return f"{measure.name} {measure.source}" if measure else None


# ---- what cannot be compared


def differences(runs: Sequence[ComparedRun]) -> list[str]:
    """A line for each setting that makes figures of the runs incomparable."""
    return list(_differences([run for run in runs if run.finished]))


def _differences(runs: Sequence[ComparedRun]) -> Iterator[str]:
    kinds: list[Difference] = [
        ("spaces", _space, "costs compare networks of different spaces"),
        ("data sets", _data, "accuracies cannot be compared"),
        ("splits of the training images", _split, "validation accuracies cannot be compared"),
        ("latency conditions", _conditions, "latencies cannot be compared"),
        ("measures of the search", _measure, "validation accuracies cannot be compared"),
    ]
    retrained = [run for run in runs if _test_accuracy(run) is not None]
    longer: Difference = ("lengths of the retraining", _retraining, "test accuracies are not of equal training")
    for (name, words, therefore), concerned in [*((kind, runs) for kind in kinds), (longer, retrained)]:
        found: dict[str, list[str]] = {}
        for run in concerned:
            found.setdefault(words(run) or "not said", []).append(run.label)
        if len(found) > 1:
            listed = "; ".join(f"{value}: {', '.join(labels)}" for value, labels in found.items())
            yield f"Other {name}, so {therefore} ({listed})"
    by_seed: dict[object, set[str | None]] = {}
    for run in runs:
        by_seed.setdefault((_seed(run), _data(run), _split(run)), set()).add(run.parts)
    if any(len(parts) > 1 for parts in by_seed.values()):
        yield "Other splits of the training images in spite of one seed, so validation accuracies cannot be compared"


# ---- seeds


def seed_groups(runs: Sequence[ComparedRun]) -> list[SeedGroup]:
    """The finished runs that differ by their seed alone, where there are at least two of a kind."""
    alike: dict[str, list[ComparedRun]] = {}
    for run in runs:
        if run.finished:
            alike.setdefault(run.but_for_seed, []).append(run)
    return [_seed_group(group) for group in alike.values() if len({_seed(run) for run in group}) > 1]


def _seed_group(runs: Sequence[ComparedRun]) -> SeedGroup:
    rows = []
    for one in measured(runs, over_splits=True):
        values = [value for value in map(one.value, runs) if value is not None]
        if len(values) > 1 and one.comparable:
            mean, spread = statistics.fmean(values), statistics.stdev(values)
            rows.append((one.name, str(len(values)), one.short(mean), one.short(spread)))
    return SeedGroup([run.label for run in runs], [str(_seed(run)) for run in runs], rows)
