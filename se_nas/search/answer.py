"""The answer under hard budgets: decoded, built, measured, and decoded again until what is built keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from se_nas.cost.budget import Budget, format_cost
from se_nas.cost.latencies import Latencies, Latency, measure, table_alone
from se_nas.cost.latency.timing import Measurement
from se_nas.cost.metrics import ENERGY, is_latency
from se_nas.cost.table import CostTable, FloatArray
from se_nas.errors import InfeasibleBudgetError
from se_nas.records.models.certificate import DecodeTry, SearchCertificate
from se_nas.search.budgets.decode import Decoded, decode, least_cost
from se_nas.search.certificate import certify, check_registered
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec

#: Networks measured before giving up; each that was too slow tightens the limit, and the last one is the fastest.
ATTEMPTS = 8

#: Aim this share below the latency limit when tightening, so that the next measurement need not be lucky.
MARGIN = 0.01


@dataclass(frozen=True)
class Answer:
    """An architecture that keeps its budgets, its network and certificate, and the tries that led to it."""

    architecture: Architecture
    network: NetworkSpec
    certificate: SearchCertificate
    decodes: tuple[DecodeTry, ...]


def answer(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latencies: Latencies,
    budgets: Sequence[Budget],
    scores: Mapping[str, Sequence[float] | FloatArray],
) -> Answer:
    """Decode, measure what was decoded on the network that is really built, and tighten and decode again if it must be;
    see `_built`.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budgets, or none was found that does so measured.
    """
    return _built(
        space,
        tables,
        latencies,
        budgets,
        lambda limits: decode(space, tables, limits, scores),
        lambda metric, held: least_cost(space, tables, metric, held).costs[metric],
    )


def answer_among(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latencies: Latencies,
    budgets: Sequence[Budget],
    ranked: Iterable[tuple[Architecture, float]],
) -> Answer:
    """The first of some architectures, best first with their scores, that keeps every budget where it is really built.

    Raises:
        InfeasibleBudgetError: none keeps the budgets, or none was found that does so measured.
    """

    def keeps(entry: Decoded, limits: Sequence[Budget]) -> bool:
        return all(budget.holds(entry.costs[budget.metric]) for budget in limits)

    entries = [Decoded(a, score, {name: table.cost(a) for name, table in tables.items()}) for a, score in ranked]
    allowed = [entry for entry in entries if keeps(entry, budgets)]
    if not allowed:
        words = " and ".join(map(str, budgets))
        raise InfeasibleBudgetError(f"space {space.name}: an evaluated architecture must keep {words}, but none does")
    return _built(
        space,
        tables,
        latencies,
        budgets,
        lambda limits: next(entry for entry in allowed if keeps(entry, limits)),
        lambda metric, held: min(entry.costs[metric] for entry in allowed if keeps(entry, held)),
    )


def _built(
    space: SearchSpace,
    tables: Iterable[str],
    latencies: Latencies,
    budgets: Sequence[Budget],
    best: Callable[[Sequence[Budget]], Decoded],
    fastest: Callable[[str, Sequence[Budget]], float],
) -> Answer:
    """Measure the best under some limits on the network that is really built, and tighten them until it keeps them.

    A budget on a latency, or on energy, holds when the upper end of the measured median's 95 % interval is within it.
    Where it is not, the limit for what is predicted of it is cut by the ratio of the two.

    Args:
        tables: the metrics of which there is one.
        fastest: the least that is predicted of a metric under budgets on others; asked for where one on it was broken.
    """
    check_registered([*tables, *(budget.metric for budget in budgets)], latencies)
    limits = {budget.metric: budget for budget in budgets}
    timed = [budget for budget in budgets if budget.metric in latencies]
    never_kept = {budget.metric: budget for budget in timed}
    tries: list[DecodeTry] = []
    clocked: list[Mapping[str, Measurement]] = []
    while True:
        found = best(list(limits.values()))
        measured = {metric: _measured(space, metric, latency, found) for metric, latency in latencies.items()}
        clocked.append({metric: one for metric, one in measured.items() if table_alone(latencies[metric]) is None})
        tries.append(_try(limits, found, clocked[-1]))
        broken = [budget for budget in timed if not budget.holds(measured[budget.metric].ci95_ms[1])]
        if not broken:
            spec = space.resolve(found.architecture)
            certificate = certify(spec, budgets, latencies, found, measured)
            return Answer(found.architecture, spec, certificate, tuple(tries))
        for budget in timed:
            if budget not in broken:
                never_kept.pop(budget.metric, None)
        if len(tries) == ATTEMPTS:
            raise _too_slow(space, timed, list(never_kept.values()) or timed, tries, clocked)
        for budget in broken:
            metric = budget.metric
            allowed = found.costs[metric] * (1 - MARGIN) * min(1.0, budget.limit / measured[metric].ci95_ms[1])
            # one disturbed measurement must not rule out the fastest, nor an error speak of a limit that nobody set;
            # and nothing is given up before the fastest was tried. The fastest under the limits of the others as they
            # are by now: so the limits can always be kept together
            least = fastest(metric, [limit for other, limit in limits.items() if other != metric])
            limits[metric] = replace(budget, limit=max(allowed, least) if len(tries) < ATTEMPTS - 1 else least)


def _measured(space: SearchSpace, metric: str, latency: Latency, found: Decoded) -> Measurement:
    """Measure an architecture's network, or predict it where there is a table alone."""
    if (table := table_alone(latency)) is not None:
        return table.prediction(found.architecture)
    return measure(metric, space.resolve(found.architecture), latency)


def _try(limits: Mapping[str, Budget], found: Decoded, measured: Mapping[str, Measurement]) -> DecodeTry:
    return DecodeTry(
        limits={metric: budget.limit for metric, budget in limits.items()},
        costs=found.costs,
        score=found.score,
        measured_ms={metric: one.median_ms for metric, one in measured.items() if is_latency(metric)},
        measured_mj=measured[ENERGY].median_ms if ENERGY in measured else None,
    )


def _too_slow(
    space: SearchSpace,
    timed: Sequence[Budget],
    broken: Sequence[Budget],
    tries: Sequence[DecodeTry],
    clocked: Sequence[Mapping[str, Measurement]],
) -> InfeasibleBudgetError:
    """What was reached of the latencies that no try kept or, where some try kept each, of all of them."""
    told, busy = [], False
    for budget in broken:
        metric, of = budget.metric, "" if len(timed) == 1 else f" of {budget.metric}"
        if metric in clocked[-1]:
            shortest = min((measured[metric] for measured in clocked), key=lambda one: one.ci95_ms[1])
            words = f"after {len(tries)} tries the least measured{of} was {format_cost(metric, shortest.median_ms)}"
            if budget.holds(shortest.median_ms):
                words += f", whose interval ends at {format_cost(metric, shortest.ci95_ms[1], up=True)}"
            told.append(words)
            busy = True
        else:
            least = format_cost(metric, min(entry.costs[metric] for entry in tries))
            told.append(f"the least predicted{of} was {least}, whose interval does not")
    words = " and ".join(dict.fromkeys("energy" if budget.metric == ENERGY else "latency" for budget in timed))
    how = f"{'measured' if busy else 'predicted'} {words} must keep"
    what = f"space {space.name}: some architecture's {how} {' and '.join(map(str, timed))}"
    interval, perhaps = ("", "; the machine may be busy") if busy else (" with its interval", "")
    return InfeasibleBudgetError(f"{what}{interval}, but {', and '.join(told)}{perhaps}")
