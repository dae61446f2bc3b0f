"""The evidence of a run as sections of its page, in words that say no more than the intervals do.

`evidence_sections` reads nothing but `evidence/*.json` in the run's folder; a part that was not made is left out.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from se_nas.cost.table import UNITS
from se_nas.evidence.controls import FULL
from se_nas.records.evidence import EVIDENCE_PARTS
from se_nas.report.pages.parts import cost, flat, pairs, plain, read_if_there, section, text
from se_nas.report.plots import controls, ranking, stability, where_se_pays
from se_nas.report.plots import latency as plots_latency
from se_nas.report.plots.evidence import (
    SIGNIFICANT,
    Part,
    block_words,
    capital,
    is_significant,
    points,
    seed_differences,
    trained_accuracy,
)
from se_nas.report.plots.ranking import SCORE_WORDS, ranked_scores
from se_nas.report.plots.where_se_pays import excludes_zero
from se_nas.report.theme.words import ABSENT, TIMES, format_percent, format_seconds

_SOURCES = {"RAPL": "the processor's own counter (RAPL)", "NVML": "the GPU's own counter (NVML)"}


@dataclass(frozen=True)
class _Shown:
    """A part of the evidence in words; `figure` is None where there is nothing to draw yet."""

    title: str
    lead: str
    figure: Figure | None
    tables: str


@dataclass(frozen=True)
class _Part:
    """A part of the evidence: its file, the word `--part` knows it by, the list its file must hold, and its words."""

    name: str
    command: str
    rows: str
    show: Callable[[Part], _Shown]


@dataclass(frozen=True)
class EvidenceParts:
    """What `se-nas evidence` found of a run.

    Attributes:
        figures: by name, for the run's `plots/` and for `html`.
        parts: the name, the words and the command of each part that was made, in the page's order.
    """

    figures: Mapping[str, Figure]
    parts: Sequence[tuple[str, _Shown, str]]

    def html(self, drawn: Mapping[str, str]) -> str:
        """The sections, each figure followed by its command; empty where nothing was made.

        Args:
            drawn: each of `figures` as inline SVG, by its name; others may be among them.
        """
        return "".join(self._section(drawn, *part) for part in self.parts)

    def _section(self, drawn: Mapping[str, str], name: str, shown: _Shown, command: str) -> str:
        figure = f'<div class="wide">{drawn[name]}</div>' if name in self.figures else ""
        again = f'<p class="quiet">To make this again: <code>{text(command)}</code></p>'
        return section(shown.title, shown.lead, f"{figure}{again}{shown.tables}")


def evidence_sections(folder: Path, run_name: str) -> EvidenceParts:
    """The evidence in a run's folder, as sections and figures.

    Args:
        folder: the run's; its `evidence/` may be missing.
        run_name: the run's folder as a command of the page names it.

    Raises:
        ConfigError: a file is not what `se-nas evidence` writes.
    """
    found: dict[str, dict[str, Any]] = {}
    for part in _PARTS:
        path = folder / "evidence" / f"{part.name}.json"
        if (made := read_if_there(EVIDENCE_PARTS[part.name], path, None)) is not None:
            found[part.name] = made
    if "controls" in found:
        found["controls"]["searches"] = len(found.get("stability", {}).get("answers", [])) or 1
    parts = [
        (part.name, part.show(found[part.name]), f"se-nas evidence {shlex.quote(run_name)} --part {part.command}")
        for part in _PARTS
        if part.name in found
    ]
    return EvidenceParts({name: shown.figure for name, shown, _ in parts if shown.figure is not None}, parts)


# ---- numbers


def _ends(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    return ABSENT if low is None or high is None else f"{shown(low)} to {shown(high)}"


def _tau(estimate: Part | None) -> str:
    """A correlation with its interval: 0.61 (0.40 to 0.76)."""
    if not estimate or estimate["value"] is None:
        return ABSENT
    interval = "" if estimate["low"] is None else f" ({estimate['low']:.2f} to {estimate['high']:.2f})"
    return f"{estimate['value']:.2f}{interval}"


def _p(value: float | None) -> str:
    return ABSENT if value is None else "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(comparison: Part) -> str:
    """A difference in plain words: better, worse, or no significant difference, with the interval that says so."""
    if comparison["value"] is None:
        return "no pair of trainings yet"
    value, low, high = (comparison[key] for key in ("value", "low", "high"))
    if low is None or high is None:
        return f"{points(value)} points; too few pairs for an interval (n = {comparison['n']})"
    if is_significant(comparison):
        word, ends = ("better", (low, high)) if value > 0 else ("worse", (-high, -low))
        interval = _ends(*ends, lambda share: f"{100 * share:.2f}")
        return f"{word} by {100 * abs(value):.2f} points (95 % interval {interval})"
    words = f"no significant difference ({points(value)} points, 95 % interval {_ends(low, high, points)}"
    caveat = ", but so many comparisons find that by chance: Holm's p is {p:.2f}" if comparison["excludes_zero"] else ""
    return f"{words}{caveat.format(p=comparison['p_holm'])})"


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]], numbers: Iterable[int]) -> str:
    """A table of HTML cells; `numbers` are the columns aligned as numbers."""
    aligned = set(numbers)

    def row(cells: Iterable[str], tag: str) -> str:
        shown = (f"<{tag}{' class=n' * (i in aligned)}>{cell}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="wide"><table>{row(heads, "th")}{body}</table></div>' if body else ""


_COST_HEADS = ("MACs", "parameters", "latency (ms)")


def _costs(costs: Mapping[str, Any]) -> list[str]:
    """The cells under `_COST_HEADS`."""
    return [
        text(cost(metric, costs[metric]).removesuffix(f" {UNITS[metric]}")) if costs.get(metric) is not None else ABSENT
        for metric in ("macs", "params", "latency_ms")
    ]


def _block(name: str) -> str:
    return text(" · ".join(filter(None, block_words(name)))).replace(" ", "&nbsp;")


# ---- controls

_FEW_SEARCHES = 3
"""From so many searches on the page says how answers differ, and no longer that there may be others."""


def _controls(found: Part) -> _Shown:
    comparisons = found["comparisons"]
    networks = {network["name"]: network for network in found["networks"]}
    figure = controls.controls(found) if comparisons else None
    rows = [_answer_row(networks[name]) for name in dict.fromkeys(one["ours"] for one in comparisons)]
    rows += [_control_row(one, networks) for one in comparisons]
    heads = ("network", *_COST_HEADS, "test accuracy", "Holm p", "the answer is")
    methods = dict.fromkeys(str(one["method"]) for one in comparisons if one["low"] is not None)
    notes = [
        "Differences in points: the answer less the control, paired by seed. Accuracy: mean ± standard deviation of n "
        "trainings; of several networks, of the n networks' means.",
        "Intervals are over other seeds of training, on these test images and for this one answer.",
        f"How: {text('; '.join(methods)) or ABSENT}.",
    ]
    if found.get("budgets") and any(network["kind"] == "random" for network in networks.values()):
        notes.append(
            f"Random networks keep every budget and use at least {format_percent(FULL, 0)} of one, or as much as could "
            "be found. Against the mean of several, the interval is over other such networks too."
        )
    notes += _left_out(comparisons, networks)
    tables = _table(heads, rows, range(1, 6)) + f'<p class="quiet">{" ".join(notes)}</p>'
    tables += _every_network(found["networks"]) + _recipe(found)
    return _Shown("Against controls at the same budgets", _controls_words(found), figure, tables)


def _left_out(comparisons: Sequence[Part], networks: Mapping[str, Part]) -> list[str]:
    """Which random networks the comparison with them does not count, and why."""
    words = []
    for one in comparisons[:1]:
        out = [networks[name] for name in one.get("left_out") or []]
        of = len(one["theirs"]) + len(out)
        diverged = [network for network in out if network.get("failed")]
        waiting = [network for network in out if not network.get("failed")]
        for some, why in ((diverged, "diverged and"), (waiting, "not trained yet with every seed,")):
            if some:
                labels = ", ".join(text(network["label"]) for network in some)
                verb = "is" if len(some) == 1 else "are"
                words.append(f"{len(some)} of {of} random networks {why} {verb} left out: {labels}.")
    return words


def _answer_row(network: Part) -> list[str]:
    return [f"<b>{text(network['label'])}</b>", *_costs(network["costs"]), _spread([network]), ABSENT, ""]


def _control_row(comparison: Part, networks: Mapping[str, Part]) -> list[str]:
    theirs = [networks[name] for name in comparison["theirs"]]
    if comparison.get("selected"):
        ours = networks[comparison["ours"]]["accuracies"]
        differences = zip(comparison["by_seed"], seed_differences(comparison), strict=True)
        spread = _spread_of([float(ours[seed]) - difference for seed, difference in differences])
        costs: Mapping[str, float] = {}
    else:
        spread = _spread(theirs)
        costs = {
            metric: statistics.fmean(values)
            for metric in ("macs", "params", "latency_ms")
            if len(values := [one["costs"][metric] for one in theirs if one["costs"].get(metric) is not None])
            == len(theirs)
        }
    return [
        text(comparison["label"]),
        *_costs(costs),
        spread,
        _p(comparison.get("p_holm")),
        f'<div style="min-width:14em">{text(verdict(comparison))}</div>',
    ]


def _spread(networks: Sequence[Part]) -> str:
    """Mean and standard deviation of the trainings of one network, or of the means of several."""
    if len(networks) > 1:
        return _spread_of([mean for mean in map(trained_accuracy, networks) if mean is not None])
    (network,) = networks
    values = [float(value) for value in network["accuracies"].values() if value is not None]
    failed = len(network.get("failed") or {})
    if not values:
        return f"{failed} diverged" if failed else "not trained yet"
    return _spread_of(values) + (f", {failed} diverged" if failed else "")


def _spread_of(values: Sequence[float]) -> str:
    if not values:
        return ABSENT
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation} % (n = {len(values)})"


def _controls_words(found: Part) -> str:
    comparisons, networks = found["comparisons"], {one["name"]: one for one in found["networks"]}
    random = [one for one in comparisons if all(networks[name]["kind"] == "random" for name in one["theirs"])]
    words = [_best_words(one, networks) if one.get("selected") else _random_words(one) for one in random]
    if random and found["searches"] < _FEW_SEARCHES:
        words.append("It is one search: another seed may give another answer.")
    seeds, count = len(found["seeds"]), len(comparisons)
    words.append(
        f"{count} comparison{'s' * (count != 1)} in all, each over at most {seeds} seed{'s' * (seeds != 1)}, on "
        f"{found['test_images']:,} test images; a difference counts where its interval leaves out 0 and its p-value, "
        f"by Holm's correction for all the comparisons, is below {SIGNIFICANT}."
    )
    return " ".join(words)


def _random_words(comparison: Part) -> str:
    """The headline: of this answer, as one search says little about others."""
    count = len(comparison["theirs"])
    of = f"{count} random network{'s' * (count != 1)}"
    words, average = text(verdict(comparison)), "than the average random network of equal budgets"
    if not is_significant(comparison):
        return f"<b>It is not shown that this answer is better {average}</b>: against the mean of {of}, {words}."
    word = "better" if comparison["value"] > 0 else "worse"
    return f"<b>This answer is {word} {average}</b>, {words.removeprefix(f'{word} ')}, against the mean of {of}."


def _best_words(comparison: Part, networks: Mapping[str, Part]) -> str:
    """Against what random search would hand back, and where the answer stands among the random networks."""
    seeds = [int(seed) for seed in comparison["by_seed"]]
    mine = trained_accuracy(networks[comparison["ours"]], seeds)
    means = [trained_accuracy(networks[name], seeds) for name in comparison["theirs"]]
    ahead = sum(mean is not None and mine is not None and mean > mine for mean in means)
    return (
        f"Against {text(comparison['label'])}, which random search would hand back: {text(verdict(comparison))}. By "
        f"mean accuracy {ahead or 'none'} of the {len(means)} random networks {'is' if ahead < 2 else 'are'} ahead of "
        "the answer."
    )


def _every_network(networks: Sequence[Part]) -> str:
    rows = []
    for network in networks:
        se, known = network.get("se") or [], network.get("supernet_accuracy")
        rows.append(
            [
                text(network["label"]),
                *_costs(network["costs"]),
                f"{sum(option not in (None, 'none') for option in se)} of {len(se)}" if se else ABSENT,
                ABSENT if known is None else format_percent(float(known), 2),
                _spread([network]),
            ]
        )
    heads = (
        "network",
        *_COST_HEADS,
        "blocks with SE",
        "with the supernet's weights",
        "test accuracy",
    )
    note = (
        '<p class="quiet">With the supernet\'s weights: on the validation images. A search that chose its answer by '
        "them (Optuna's does) makes that answer read high there.</p>"
    )
    return f"<details><summary>Every network</summary>{_table(heads, rows, range(1, 7))}{note}</details>"


def _recipe(found: Part) -> str:
    rows = pairs((key.replace("_", " "), plain(value)) for key, value in flat(found.get("recipe") or {}))
    return f"<details><summary>The recipe of every training</summary>{rows}</details>" if rows else ""


# ---- ranking

_BESIDE = {
    "seed_ceiling": "agreement of two trainings",
    "gain_over_macs": "gain of the supernet over MACs",
    "gain_of_recalibration": "gain of recalibrating the batch norms",
}
"""What stands below the correlations."""


def _ranking(found: Part) -> _Shown:
    sets = [one for one in found["sets"] if one.get("correlations")]
    figure = ranking.ranking({**found, "sets": sets}) if sets else None
    lead = (
        "Does the supernet put networks in the order that training them one by one does? Kendall's tau is 1 for the "
        "same order, 0 for chance. A supernet is worth its training where it ranks better than a count of MACs does. "
    )
    lead += " ".join(map(_ranking_words, found["sets"]))
    note = (
        '<p class="quiet">Agreement of two trainings: the order by one training against that by another. A perfect '
        "score would reach more than this against one training, and more still against the mean of several. The "
        "supernet is judged on the validation images, trainings on the test images.</p>"
    )
    regrets = f'<div class="columns">{"".join(map(_regret, sets))}</div>'
    tables = f"{_correlations(sets)}{note}{regrets}" if sets else ""
    return _Shown("How well the supernet ranks", lead, figure, tables)


def _ranking_words(one: Part) -> str:
    name = text(capital(one["name"]))
    if not one.get("correlations"):
        return f"{name}: {len(one['networks'])} trained so far, too few to rank."
    supernet = one["correlations"]["supernet"]["kendall"]
    if supernet["value"] is None:
        return f"{name}: no order, as the supernet or the trainings tell none of the networks apart."
    words = f"{name}: tau {_tau(supernet)}"
    gain = one.get("gain_over_macs")
    if not gain or gain["value"] is None:
        return f"{words}."
    interval = f"95 % interval {_ends(gain['low'], gain['high'], lambda tau: f'{tau:+.2f}')}"
    if not excludes_zero(gain):
        return f"{words}, not significantly other than MACs alone (by {gain['value']:+.2f}, {interval})."
    return (
        f"{words}, {'more' if gain['value'] > 0 else 'less'} than MACs alone by {abs(gain['value']):.2f} ({interval})."
    )


def _correlations(sets: Sequence[Part]) -> str:
    """Kendall's and Spearman's correlation of each score with the trained accuracy, a pair of columns a set."""
    columns = []
    for one in sets:
        taus = {SCORE_WORDS.get(name, text(name)): _tau(estimate) for name, estimate in ranked_scores(one)}
        taus |= {words: _tau(one[key]) for key, words in _BESIDE.items() if one.get(key)}
        scores = one["correlations"].items()
        rhos = {SCORE_WORDS.get(name, text(name)): _tau(both["spearman"]) for name, both in scores}
        columns += [taus, rhos]
    heads = ["networks ranked by"]
    for one in sets:
        heads += [f"{text(one['name'])} (n = {len(one['networks'])}): Kendall's tau", "Spearman's rho"]
    named = dict.fromkeys(words for column in columns for words in column)
    rows = [[words, *(column.get(words, ABSENT) for column in columns)] for words in named]
    return _table(heads, rows, range(1, len(heads)))


def _regret(one: Part) -> str:
    rows = [
        [
            f"the best {row['k']}" if row["k"] > 1 else "the first",
            *(ABSENT if row.get(key) is None else f"{100 * row[key]:.2f}" for key in ("supernet", "macs", "random")),
        ]
        for row in one.get("regret") or []
    ]
    table = _table(("trained alone", "by the supernet", "by MACs", "at random"), rows, range(1, 4))
    seeds = len(one.get("truth_seeds") or [])
    trainings = f"the mean of {seeds} trainings" if seeds > 1 else "one training of each"
    note = (
        f'<p class="quiet">The best network is the best by {trainings}, which is luck in part: a score that knew what '
        "the networks are worth would lose some points too.</p>"
    )
    return f"<div><h3>{text(capital(one['name']))}: points lost to the best network</h3>{table}{note}</div>" * bool(
        rows
    )


# ---- stability


def _stability(found: Part) -> _Shown:
    answers = found["answers"]
    figure = stability.stability(found) if answers and found["blocks"] else None
    accuracy, distance = found.get("accuracy") or {}, found.get("distance") or {}
    chance = distance.get("random")
    lead = f"The same search, {len(answers)} time{'s' * (len(answers) != 1)}, from other seeds."
    if distance.get("value") is not None:
        lead += (
            f" Two of its answers differ in {format_percent(distance['value'], 0)} of their choices, two random "
            f"networks within the budgets in {ABSENT if chance is None else format_percent(chance, 0)}."
        )
    between, within = accuracy.get("between_searches"), accuracy.get("between_trainings")
    if between is not None and within is not None:
        varies = (
            f"varies by {100 * between:.2f} points (standard deviation, the trainings' own noise taken out)"
            if between > 0
            else "what varies is not told apart from the noise of training"
        )
        lead += (
            f" Trained alone, the answers reach {format_percent(accuracy['mean'], 2)} on average; from search to "
            f"search {'this ' * (between > 0)}{varies}; from training to training of one answer it varies by "
            f"{100 * within:.2f} points."
        )
    rows = [
        [text(answer["name"].replace("_", " ")), str(answer["seed"]), *_costs(answer["costs"]), _spread([answer])]
        for answer in answers
    ]
    heads = ("answer", "seed", *_COST_HEADS, "test accuracy")
    return _Shown("Would another search find the same?", lead, figure, _table(heads, rows, range(1, 6)))


# ---- where SE pays


def _where_se_pays(found: Part) -> _Shown:
    blocks = [block for block in found["blocks"] if block["options"]]
    figure = where_se_pays.where_se_pays({**found, "blocks": blocks}) if blocks else None
    options = [option for block in blocks for option in block["options"]]
    gains = sum(excludes_zero(option) and option["gain"] > 0 for option in options)
    losses = sum(excludes_zero(option) and option["gain"] < 0 for option in options)
    expected = 0.05 * len(options)
    chance = f"{expected:.0f}" if expected >= 1 else f"{expected:.1g}"
    lead = (
        "Accuracy with the supernet's weights of networks that differ in the SE of one block alone, on the same "
        f"{found['images']:,} validation images, averaged over {found['contexts']} networks. Of {len(options)} pairs "
        f"of a block and an option {gains} come out as a gain and {losses} as a loss, by intervals that are not "
        f"corrected for their number: of as many useless ones about {chance} would by chance. This is what SE is worth "
        "among shared weights, not what it would be worth after training."
    )
    return _Shown("Where SE pays", lead, figure, _pays_table(blocks) + _stand_alone(found))


def _pays_table(blocks: Sequence[Part]) -> str:
    rows = []
    for block in blocks:
        known = [option for option in block["options"] if option["gain"] is not None]
        best = max((o for o in known if o["gain"] > 0), key=lambda option: float(option["gain"]), default=None)
        chosen = next((option for option in known if option["option"] == block["chosen"]), None)
        rows.append(
            [
                _block(block["block"]),
                str(block["channels"]),
                f"{block['resolution']}&nbsp;{TIMES}&nbsp;{block['resolution']}",
                "unused" if block["chosen"] is None else text(block["chosen"]),
                _gain(chosen),
                *_price_cells(chosen),
                text(block["reference"] if best is None else best["option"]),
                _gain(best),
            ]
        )
    heads = ("block", "channels", "map", "chosen", "its gain in points", "parameters", "MACs", "µs",
             "best", "its gain in points")  # fmt: skip
    note = (
        '<p class="quiet">The best is the highest of several estimates, and reads high for that; so does the chosen '
        "one where the search chose by these same images (Optuna's does).</p>"
    )
    return _table(heads, rows, (1, 2, 4, 5, 6, 7, 9)) + (note if rows else "")


def _gain(option: Part | None) -> str:
    if option is None or option["gain"] is None:
        return ABSENT
    interval = "" if option["low"] is None else f" ({_ends(option['low'], option['high'], points)})"
    return f"{points(option['gain'])}{interval}"


def _price_cells(option: Part | None) -> list[str]:
    if option is None:
        return [ABSENT] * 3
    latency = option.get("latency_ms")
    counts = [ABSENT if option.get(key) is None else f"{round(option[key]):+,}" for key in ("params", "macs")]
    return [*counts, ABSENT if latency is None else f"{1000 * latency:+.1f}"]


def _stand_alone(found: Part) -> str:
    rows = [
        [_block(one["block"]), text(one["option"]), ABSENT if one["value"] is None else points(one["value"]),
         _ends(one["low"], one["high"], points), str(one["n"])]
        for one in found.get("stand_alone") or []
    ]  # fmt: skip
    heads = ("block", "option", "gain (points)", "95 % interval", "n")
    table = _table(heads, rows, (2, 3, 4))
    return f"<h3>Trained alone, with this option and without SE there</h3>{table}" if table else ""


# ---- latency and costs


def _latency(found: Part) -> _Shown:
    sets = found["sets"]
    figure = plots_latency.latency_check(found) if any(one["networks"] for one in sets) else None
    rows = [
        [
            text(capital(one["name"])),
            str(len(one["networks"])),
            *(ABSENT if one.get(key) is None else format_percent(one[key])
              for key in ("mape", "bias", "within_5", "within_10")),
            _tau(one.get("spearman")),
        ]
        for one in sets
    ]  # fmt: skip
    heads = ("networks", "n", "mean absolute error", "bias", "within 5 %", "within 10 %", "Spearman's rho")
    conditions = pairs((key.replace("_", " "), plain(value)) for key, value in flat(found.get("conditions") or {}))
    tables = _table(heads, rows, range(1, 7)) + (f"<h3>Conditions</h3>{conditions}" if conditions else "")
    lead = (
        "Networks built and measured after the search, against what its table predicts of them: those that the "
        "search would pick, where an error would mislead it, and random ones."
    )
    return _Shown("Latency of the best and of random networks", lead, figure, tables)


def _ledger(found: Part) -> _Shown:
    parts, source = found["parts"], found.get("energy_source")
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("seconds", "wall time", _time),
        ("device_seconds", "device time", _time),
        ("images", "images seen", lambda count: f"{round(count):,}"),
        ("joules", "energy", _energy),
    ]
    kept = [column for column in columns if any(part.get(column[0]) is not None for part in parts)]
    rows = [
        [text(part["part"]), *(ABSENT if part.get(key) is None else show(float(part[key])) for key, _, show in kept)]
        for part in parts
    ]
    totals = [show(sum(float(part[key]) for part in parts if part.get(key) is not None)) for key, _, show in kept]
    rows.append([f"<b>{cell}</b>" for cell in ("total of what is known", *totals)] if rows else [])
    measured = f"Energy by {text(_SOURCES.get(str(source), source))}." if source else "The device reports no energy."
    table = _table(("part", *(words for _, words, _ in kept)), filter(None, rows), range(1, len(kept) + 1))
    return _Shown("What all this cost", measured, None, table)


def _time(seconds: float) -> str:
    return format_seconds(seconds) if seconds >= 0.01 else "0 s"


def _energy(joules: float) -> str:
    return f"{joules / 3.6e6:.3g} kWh" if joules >= 3.6e6 else f"{joules / 3600:.3g} Wh"


_PARTS = (
    _Part("controls", "controls", "comparisons", _controls),
    _Part("ranking", "ranking", "sets", _ranking),
    _Part("stability", "stability", "answers", _stability),
    _Part("where_se_pays", "where-se-pays", "blocks", _where_se_pays),
    _Part("latency_check", "latency", "sets", _latency),
    _Part("ledger", "ledger", "parts", _ledger),
)
