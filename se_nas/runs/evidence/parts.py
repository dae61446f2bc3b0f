"""The parts of a run's evidence: each asks for the trainings and clocks that it needs, and gives what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from se_nas.cost.latencies import table_alone
from se_nas.cost.latency.fit import prediction_accuracy
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import Measurement, latency_conditions, measure_networks
from se_nas.cost.metrics import is_latency
from se_nas.cost.table import CostTable
from se_nas.evidence.choices_in_use import se_ops_in_use, se_places
from se_nas.evidence.comparisons import compare, difference
from se_nas.evidence.controls import Control
from se_nas.evidence.pilot.regime import regime
from se_nas.evidence.ranking import Ranked, rank
from se_nas.evidence.stability import SearchAnswer, stability
from se_nas.evidence.statistics import spearman
from se_nas.evidence.where_se_pays import where_se_pays
from se_nas.hardware.lines import silent
from se_nas.hardware.progress_bar import counted_up
from se_nas.records.models.evidence import (
    ControlEntry,
    ControlsPart,
    LatencyCheck,
    LatencyPart,
    LedgerPart,
    NetworkCosts,
    RankingPart,
    SpentEntry,
    StabilityPart,
    StandAloneGain,
    TimedEntry,
    TimedSet,
    WherePart,
)
from se_nas.records.models.run_result import RunResult
from se_nas.records.record import read_record
from se_nas.runs.evidence.gathering import Gathering
from se_nas.runs.evidence.ledger import SpentAmount, run_entries, training_entry
from se_nas.runs.evidence_config import TRAININGS
from se_nas.runs.search import run_search
from se_nas.search.finalists import with_recipe
from se_nas.space.architecture import Architecture
from se_nas.space.templates import NO_SE

#: Timings of each network whose predicted latency is checked.
ROUNDS = 20
#: Random networks whose pairs say what agreement two searches would have by chance.
CHANCE = 100


def controls_part(gathering: Gathering) -> ControlsPart:
    """The answer against its controls, see `evidence.comparisons`."""
    gathering.train(gathering.controls, gathering.seeds)
    accuracies = gathering.accuracies(gathering.controls)
    mine = [control for control in gathering.controls if control.architecture is not None]
    scores = gathering.scores([c.architecture for c in mine if c.architecture]) if gathering.scores else []
    score_of = dict(zip((control.name for control in mine), scores, strict=False))
    claim = gathering.plan.primary.against if gathering.plan is not None else None
    compared = compare(gathering.controls, accuracies, gathering.seeds, gathering.test_images, claim)
    return ControlsPart(
        seeds=gathering.seeds,
        test_images=gathering.test_images,
        recipe=gathering.recipe,
        budgets={budget.metric: budget.limit for budget in gathering.setting.budgets},
        networks=tuple(
            ControlEntry(
                name=control.name,
                kind=control.kind,
                label=control.label,
                costs=_control_costs(gathering, control),
                supernet_accuracy=score_of.get(control.name),
                se=tuple(block.se.label if block.se else NO_SE for block in control.spec.blocks),
                accuracies={str(seed): value for seed, value in accuracies[control.name].items()},
                failed=gathering.failures(control),
            )
            for control in gathering.controls
        ),
        comparisons=tuple(compared),
        plan=gathering.plan,
        regime=regime(
            [list(accuracies[control.name].values()) for control in gathering.controls if control.kind == "random"],
            resolution=1 / gathering.test_images,
        ),
    )


def _control_costs(gathering: Gathering, control: Control) -> NetworkCosts:
    """Its costs, with the clock's latency where no table predicts it, and which of the two it is."""
    costs = gathering.costs(control)
    if control.name in gathering.measured_ms:
        return costs.model_copy(update={**gathering.measured_ms[control.name], "latency_how": "measured"})
    known = any(costs.of(metric) is not None for metric in gathering.setting.latencies)
    return costs.model_copy(update={"latency_how": "predicted" if known else None})


def ranking_part(gathering: Gathering) -> RankingPart | None:
    """The supernet's ranking of random networks, see `evidence.ranking`."""
    if gathering.scores is None:
        return None
    rng = np.random.default_rng([gathering.setting.config.seed, 1])
    whole = dict.fromkeys(gathering.space.sample(rng) for _ in range(gathering.config.space))
    sets = {
        "within the budgets": gathering.random_controls(max(gathering.config.within, gathering.random_count)),
        "whole space": [
            Control(f"sample_{i + 1}", "random", f"random network {i + 1} of the space", a, gathering.space.resolve(a))
            for i, a in enumerate(whole)
        ],
    }
    gathering.train([network for networks in sets.values() for network in networks], gathering.seeds[:1])
    seeds = gathering.seeds
    return RankingPart(
        seeds=seeds,
        test_images=gathering.test_images,
        recipe=gathering.recipe,
        sets=tuple(rank(name, _ranked(gathering, networks), seeds) for name, networks in sets.items()),
    )


def _ranked(gathering: Gathering, networks: Sequence[Control]) -> list[Ranked]:
    accuracies = gathering.accuracies(networks)
    done = [network for network in networks if accuracies[network.name] and network.architecture]
    assert gathering.scores is not None
    architectures = [network.architecture for network in done if network.architecture]
    own, running = gathering.scores(architectures), gathering.scores(architectures, "running")
    return [
        Ranked(network.name, gathering.costs(network), first, second, accuracies[network.name])
        for network, first, second in zip(done, own, running, strict=True)
    ]


def stability_part(gathering: Gathering) -> StabilityPart | None:
    """Further searches, their answers trained with the same seeds; see `evidence.stability`."""
    answers = {gathering.setting.config.seed: gathering.answer}
    for seed in gathering.config.searches:
        folder = gathering.search_folder(seed)
        if not (gathering.conditions.finished_only or (folder / "result.json").exists()):
            gathering.say(f"evidence: a search with seed {seed}")
            own = gathering.setting.config
            finalists = own.finalists and with_recipe(own.finalists, own.retrain)
            others = {"seed": seed, "retrain": None, "evidence": None, "finalists": finalists}
            config = own.model_copy(update=others)
            again, progress = gathering.run / "config.yaml", gathering.conditions.progress
            run_search(again, config, folder, resume=True, progress=progress, say=silent)
        if (folder / "result.json").exists():
            label = f"the answer of a search with seed {seed}"
            answers[seed] = gathering.answer_in(folder, f"search_{seed}", "search_seed", label)
    if len(answers) < 2:
        return None
    gathering.train(list(answers.values()), gathering.seeds)
    accuracies = gathering.accuracies(list(answers.values()))
    found = [
        SearchAnswer(control.name, seed, control.architecture, accuracies[control.name])
        for seed, control in answers.items()
        if control.architecture is not None
    ]
    return stability(gathering.space, gathering.tables, found, gathering.random.distinct(CHANCE))


def where_part(gathering: Gathering) -> WherePart | None:
    """What each block's SE is worth; see `evidence.where_se_pays`."""
    if gathering.supernet is None:
        return None
    assert gathering.answer.architecture is not None
    with counted_up("switching SE with the supernet's weights", wanted=gathering.conditions.progress) as progress:
        found = where_se_pays(
            gathering.problem,
            gathering.supernet,
            gathering.answer.architecture,
            gathering.random.distinct(gathering.config.contexts - 1),
            calibration_images=gathering.calibration_images,
            folder=gathering.folder / "guesses",
            progress=progress,
        )
    return found.model_copy(update={"stand_alone": _stand_alone_gains(gathering)})


def _stand_alone_gains(gathering: Gathering) -> tuple[StandAloneGain, ...]:
    """What each SE of the answer is worth to it when it is trained with and without, with the same seeds."""
    if not gathering.config.stand_alone_se:
        return ()
    answer = gathering.answer.architecture
    assert answer is not None
    places, used = se_places(gathering.space), se_ops_in_use(gathering.space, answer)
    without = [
        Control(f"without_{choice}", "baseline", f"without SE in {places[choice]}", a, gathering.space.resolve(a))
        for choice, op in used.items()
        if answer[choice] != NO_SE and NO_SE in op.axis("se").options
        for a in [gathering.space.architecture({**answer.as_dict(), choice: NO_SE})]
    ]
    gathering.train([gathering.answer, *without], gathering.seeds)
    accuracies = gathering.accuracies([gathering.answer, *without])
    found = []
    for control in without:
        choice = control.name.removeprefix("without_")
        gain = difference("answer", [control.name], accuracies, gathering.seeds, gathering.test_images)
        found.append(gain.entry_of(StandAloneGain, block=places[choice], option=answer[choice]))
    return tuple(found)


def latency_part(gathering: Gathering) -> LatencyPart | None:
    """The latency tables against the clock, on the best by the supernet and on random networks."""
    timed: dict[str, LatencyTable] = {}
    for metric, latency in gathering.setting.latencies.items():
        if (alone := table_alone(latency)) is not None:
            gathering.say(f"left out: latency: of {alone.key.device} there is an imported table alone, and no clock")
        elif isinstance(latency, LatencyTable) and is_latency(metric):
            timed[metric] = latency
    if not timed:
        return None
    drawn = gathering.random.distinct(max(gathering.config.best_of, gathering.config.timed))
    sets: dict[str, list[Architecture]] = {}
    if gathering.scores is not None:
        order = np.argsort(-np.array(gathering.scores(drawn)), kind="stable")
        sets["the best by the supernet"] = [drawn[i] for i in order[: gathering.config.timed]]
    sets["random at the budgets"] = drawn[: gathering.config.timed]
    every = list(dict.fromkeys(a for architectures in sets.values() for a in architectures))
    checks = {}
    for metric, table in timed.items():
        measured = measure_networks([gathering.space.resolve(a) for a in every], table.key, rounds=ROUNDS)
        found = dict(zip(every, measured, strict=True))
        checks[metric] = LatencyCheck(
            conditions=latency_conditions(table.key),
            sets=tuple(_timed(table.table, name, some, found) for name, some in sets.items() if len(some) > 1),
        )
    return LatencyPart(devices=checks)


def _timed(
    table: CostTable, name: str, architectures: Sequence[Architecture], measured: Mapping[Architecture, Measurement]
) -> TimedSet:
    entries = tuple(
        TimedEntry(
            name=f"{name}, {i + 1}",
            predicted_ms=table.cost(architecture),
            measured_ms=measured[architecture].median_ms,
            low=measured[architecture].ci95_ms[0],
            high=measured[architecture].ci95_ms[1],
        )
        for i, architecture in enumerate(architectures)
    )
    predicted = np.array([entry.predicted_ms for entry in entries])
    clock = np.array([entry.measured_ms for entry in entries])
    agreement = prediction_accuracy(predicted, clock)
    return TimedSet(
        name=name,
        networks=entries,
        mape=agreement.mape,
        bias=float(np.mean(predicted / clock - 1)),
        within_5=agreement.within_5,
        within_10=agreement.within_10,
        spearman=spearman(predicted, clock).entry,
    )


def ledger_part(gathering: Gathering) -> LedgerPart:
    """What everything took: the run, those beside it, the trainings, and the rest of the evidence."""
    entries = run_entries(gathering.result)
    beside = {Path(word).name: gathering.folder / word for word in gathering.config.others}
    beside |= {f"search {seed}": gathering.search_folder(seed) for seed in gathering.config.searches}
    for name, folder in beside.items():
        if (folder / "result.json").exists():
            # a table that was timed once serves all runs
            lines = run_entries(read_record(RunResult, folder / "result.json"), f"{name}: ")
            entries += [line for line in lines if not line.part.endswith("latency table")]
    amounts = gathering.spending.amounts()
    on_cpu = gathering.setting.device.type == "cpu"
    records, spent = gathering.trainings.records(), amounts.pop(TRAININGS, SpentAmount())
    entries.append(training_entry([record for record in records if not record.taken], spent, on_cpu))
    if taken := [record for record in records if record.taken]:
        theirs = SpentAmount(device_seconds=sum(record.seconds for record in taken))
        entries.append(training_entry(taken, theirs, on_cpu, " of other runs"))
    entries += [
        SpentEntry(part=f"evidence: {part}", images=None, **amount.plain())
        for part, amount in amounts.items()
        if part != "stability"  # its searches have lines of their own
    ]
    return LedgerPart(parts=tuple(entries), energy_source=gathering.spending.energy_source)
