"""The answer under hard budgets: decoded, built, measured, and decoded again until what is built keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from se_nas.cost.budget import Budget, format_cost
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import Measurement, measure_network
from se_nas.cost.metrics import LATENCY
from se_nas.cost.table import CostTable, FloatArray
from se_nas.errors import InfeasibleBudgetError
from se_nas.records.models.certificate import DecodeTry, SearchCertificate
from se_nas.search.budgets.decode import Decoded, decode, least_cost
from se_nas.search.certificate import Latency, certify, check_registered, key_of
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
    latency: Latency,
    budgets: Sequence[Budget],
    scores: Mapping[str, Sequence[float] | FloatArray],
) -> Answer:
    """Decode, measure what was decoded on the network that is really built, and tighten and decode again if it must be;
    see `_built`.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budgets, or none was found whose measured latency does.
    """
    held = [budget for budget in budgets if budget.metric != LATENCY]
    return _built(
        space,
        tables,
        latency,
        budgets,
        lambda limits: decode(space, tables, limits, scores),
        lambda: least_cost(space, tables, LATENCY, held).costs[LATENCY],
    )


def answer_among(
    space: SearchSpace,
    tables: Mapping[str, CostTable],
    latency: Latency,
    budgets: Sequence[Budget],
    ranked: Iterable[tuple[Architecture, float]],
) -> Answer:
    """The first of some architectures, best first with their scores, that keeps every budget where it is really built.

    Raises:
        InfeasibleBudgetError: none keeps the budgets, or none was found whose measured latency does.
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
        latency,
        budgets,
        lambda limits: next(entry for entry in allowed if keeps(entry, limits)),
        lambda: min(entry.costs[LATENCY] for entry in allowed),
    )


def _built(
    space: SearchSpace,
    tables: Iterable[str],
    latency: Latency,
    budgets: Sequence[Budget],
    best: Callable[[Sequence[Budget]], Decoded],
    fastest: Callable[[], float],
) -> Answer:
    """Measure the best under some limits on the network that is really built, and tighten them until it is fast enough.

    A latency budget holds when the upper end of the measured median's 95 % interval is within it. Where it is not, the
    limit for the predicted latency is cut by the ratio of the two.

    Args:
        tables: the metrics of which there is one.
        fastest: the least predicted latency; asked for where a budget on it was broken.
    """
    check_registered(tables)
    asked = {budget.metric: budget for budget in budgets}
    limits = dict(asked)
    tries: list[DecodeTry] = []
    while True:
        found = best(list(limits.values()))
        measured = _measure(space, latency, limits, found, tries)
        budget = asked.get(LATENCY)
        if budget is None or budget.holds(measured.ci95_ms[1]):
            return _answer(space, budgets, latency, found, measured, tries)
        if len(tries) == ATTEMPTS:
            raise _too_slow(space, budget, tries)
        allowed = found.costs[LATENCY] * (1 - MARGIN) * min(1.0, budget.limit / measured.ci95_ms[1])
        # one disturbed measurement must not rule out the fastest, nor an error speak of a limit that nobody set;
        # and nothing is given up before the fastest was tried
        least = fastest()
        limits[LATENCY] = replace(budget, limit=max(allowed, least) if len(tries) < ATTEMPTS - 1 else least)


def _measure(
    space: SearchSpace,
    latency: Latency,
    limits: Mapping[str, Budget],
    found: Decoded,
    tries: list[DecodeTry],
) -> Measurement:
    """Time an architecture's network, or predict it where there is a table alone, and add the try to the record."""
    timed = RUNTIMES[key_of(latency).runtime].timed
    if isinstance(latency, LatencyTable) and not timed:
        measured = latency.prediction(found.architecture)
    else:
        measured = measure_network(space.resolve(found.architecture), key_of(latency))
    tries.append(
        DecodeTry(
            limits={metric: budget.limit for metric, budget in limits.items()},
            costs=found.costs,
            score=found.score,
            measured_ms=measured.median_ms if timed else None,
        )
    )
    return measured


def _answer(
    space: SearchSpace,
    budgets: Sequence[Budget],
    latency: Latency,
    found: Decoded,
    measured: Measurement,
    tries: list[DecodeTry],
) -> Answer:
    spec = space.resolve(found.architecture)
    return Answer(found.architecture, spec, certify(spec, budgets, latency, found, measured), tuple(tries))


def _too_slow(space: SearchSpace, budget: Budget, tries: Sequence[DecodeTry]) -> InfeasibleBudgetError:
    measured = [entry.measured_ms for entry in tries if entry.measured_ms is not None]
    if not measured:
        least = format_cost(LATENCY, min(entry.costs[LATENCY] for entry in tries))
        return InfeasibleBudgetError(
            f"space {space.name}: some architecture's predicted latency must keep {budget} with its interval, but the "
            f"least predicted was {least}, whose interval does not"
        )
    shortest = min(measured)
    return InfeasibleBudgetError(
        f"space {space.name}: some architecture's measured latency must keep {budget}, but after {len(tries)} tries "
        f"the least measured was {format_cost(LATENCY, shortest)}; the machine may be busy"
    )
