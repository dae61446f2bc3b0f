"""Evidence for the answer of a run: its controls trained, rankings, further searches, SE switched, clocks and a ledger.

Everything lies in RUN/evidence: trainings and supernet accuracies as records, so that a call that was killed
is finished by the same call, and one file of JSON a part, from which the report draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from se_nas.cost.counts import network_counts
from se_nas.cost.latency.table import LatencyTable, prediction_accuracy
from se_nas.cost.latency.timing import Measurement, measure_networks
from se_nas.errors import ConfigError, DeviceError
from se_nas.evidence.choices_in_use import se_ops_in_use, se_places
from se_nas.evidence.comparisons import compare, difference
from se_nas.evidence.controls import Control, RandomFeasible, pinned_controls, repinned_controls
from se_nas.evidence.ranking import Ranked, rank
from se_nas.evidence.stability import SearchAnswer, stability
from se_nas.evidence.statistics import spearman
from se_nas.evidence.where_se_pays import where_se_pays
from se_nas.hardware.environment import describe_environment
from se_nas.records.files import write_json
from se_nas.records.run_result import RunResult
from se_nas.report.pages.run import write_report
from se_nas.runs.evidence.ledger import Amount, Spending, run_entries, training_entry
from se_nas.runs.evidence.published_controls import published_control
from se_nas.runs.evidence.supernet_scores import SupernetScores
from se_nas.runs.evidence.trainings import COLUMNS, Task, Trainings
from se_nas.runs.evidence_config import FOLDER, resolve_evidence
from se_nas.runs.prepare import Say, Setting, open_setting
from se_nas.runs.run_file import EvidenceConfig
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.runs.search import run_search
from se_nas.runs.shown import shown_configuration
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.search.result import load_supernet
from se_nas.search.strategies import strategy_of
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import load_architecture
from se_nas.space.templates import NO_SE
from se_nas.supernet.supernet import SuperNet

#: Random networks among the controls at least, however short the search was.
FEWEST_RANDOM = 5
#: Timings of each network whose predicted latency is checked.
ROUNDS = 20
#: What stand-alone trainings are called in the ledger's file.
_TRAININGS = "trainings"
#: Random networks whose pairs say what agreement two searches would have by chance.
CHANCE = 100


@dataclass(frozen=True)
class Conditions:
    """How evidence is gathered.

    Attributes:
        jobs: trainings at a time.
        finished_only: with the trainings that are done; none is started, and no search.
    """

    jobs: int = 1
    finished_only: bool = False
    progress: bool = True


def gather_evidence(
    folder: Path,
    parts: Sequence[str],
    changes: dict[str, Any],
    conditions: Conditions,
    say: Say,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
) -> Path:
    """Gather parts of the evidence for a finished run, or what is left of them, and write its report again.

    Args:
        parts: keys of `PARTS`; none for all that this machine's devices allow.
        changes: see `runs.evidence_config.resolve_evidence`.
        data_dir, device: of this process, where they are not those of the run.

    Returns:
        The report's path.

    Raises:
        ConfigError: the folder holds no finished run with a retraining, or a fault in the configuration.
        SeNasError: the other faults a user can cause.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ConfigError("--part", [f"must be one of {', '.join(PARTS)}, but got {part!r}" for part in unknown])
    run = RunFolder(folder)
    for name in ("config.yaml", "result.json", "architecture.json"):
        if not (run / name).exists():
            raise ConfigError(str(folder), [f"must be the folder of a finished run, but it has no {name}"])
    if run.config.get("retrain") is None:
        must = "must hold a recipe, by which the controls are trained, but it is null"
        raise ConfigError(str(run / "config.yaml"), [f"retrain: {must}"])
    with alone_in(folder):
        config = resolve_evidence(run, changes)
        setting = open_setting(folder, data_dir=data_dir, device=device)
        gathering = _Gathering(setting, config, conditions, say)
        write_json(run / FOLDER / "environment.json", describe_environment())
        for part in parts or PARTS:
            try:
                gathering.gather(part)
            except DeviceError as error:
                if parts:
                    raise
                say(f"left out: {part}: {error}")
        if parts and "ledger" not in parts:
            gathering.gather("ledger")
        return write_report(folder, shown_configuration(folder / "config.yaml"))


class _Gathering:
    """The evidence of one run while it is gathered."""

    def __init__(self, setting: Setting, config: EvidenceConfig, conditions: Conditions, say: Say) -> None:
        assert setting.config.retrain is not None
        self.setting, self.config, self.conditions, self.say = setting, config, conditions, say
        self.run, self.space, self.tables = setting.run, setting.space, setting.tables
        self.folder = setting.run / FOLDER
        self.result: dict[str, Any] = setting.run.read("result.json", RunResult)
        self.spending = Spending(self.folder / "spent.json", setting.device)
        self.measured_ms: dict[str, float] = {}  # of controls that no table knows
        self.random = RandomFeasible(self.space, self.tables, setting.budgets, setting.config.seed)
        self.trainings = Trainings(
            self.folder / "trainings", setting.config.retrain, setting.options, setting.device.type
        )
        retrained = self.result["retrain"]
        record = {k: retrained[k] for k in ("test_accuracy", "test_images", "train_accuracy", "seconds", "images")}
        device, environment = setting.config.device, self.result["environment"]
        if device == "auto":
            device = "cuda" if environment["gpu"] else "cpu"
        if device == setting.device.type:
            answer = Task(self.answer.spec, setting.config.seed)
            self.trainings.adopt(answer, {**record, "commit": environment["commit"]})

    def gather(self, part: str) -> None:
        """Do a part, write it down in place of what was there, and add what it took to the ledger."""
        self.say(f"evidence: {part}")
        with self.spending.of(part):
            found = PARTS[part].gather(self)
        path = self.folder / PARTS[part].file
        if found is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, found)

    # ---- what is compared

    @cached_property
    def answer(self) -> Control:
        """The run's own."""
        return self._answer_in(self.run.path, "answer", "answer", "the search's answer")

    def _answer_in(self, folder: Path, name: str, kind: Any, label: str) -> Control:
        stored = load_architecture(folder / "architecture.json").architecture
        self.space.check(stored)
        architecture = self.space.architecture(stored.as_dict())
        return Control(name, kind, label, architecture, self.space.resolve(architecture))

    @cached_property
    def controls(self) -> list[Control]:
        """The answer and all that it is compared with; what is missing is said once."""
        found = [self.answer]
        for word in self.config.others:
            name = Path(word).name
            other = self._answer_in(self.folder / word, name, "other_answer", f"the answer of {name}")
            if other.architecture == self.answer.architecture:
                self.say(f"left out: {name}: its answer is the same network as this run's")
            else:
                found.append(other)
        # none of those that stand for themselves
        drawn = self.random.distinct(self.random_count + self.config.best_of)[self.random_count :]
        if self.scores is not None and drawn:
            best = drawn[int(np.argmax(self.scores(drawn)))]
            label = f"the best of {len(drawn)} random networks by the supernet"
            found.append(Control("best_of_random", "best_of_random", label, best, self.space.resolve(best)))
        assert self.answer.architecture is not None
        space, tables, budgets, ratios = self.space, self.tables, self.setting.budgets, self.config.ratios
        pinned, skipped = pinned_controls(space, tables, budgets, ratios)
        own, _ = repinned_controls(space, tables, budgets, self.answer.architecture, ratios)  # skipped alike
        found += pinned + [control for control in own if control.architecture != self.answer.architecture]
        for line in skipped:
            self.say(f"left out: {line}")
        for word in self.config.published:
            published = published_control(self.setting, self.folder, word, self.say)
            if published is not None:
                control, measured = published
                found.append(control)
                if measured is not None:
                    self.measured_ms[control.name] = measured
        return found + self.random_controls(self.random_count)

    @property
    def random_count(self) -> int:
        """Random networks among the controls: at least what the search's time would have trained."""
        if self.config.random is not None:
            return self.config.random
        search, training = (float(self.result[key]["seconds"]) for key in ("search", "retrain"))
        return max(FEWEST_RANDOM, math.ceil(search / max(training, 1e-9)))

    def random_controls(self, count: int) -> list[Control]:
        """So many random networks at the budgets, always the same first ones."""
        return [
            Control(f"random_{i + 1}", "random", f"random network {i + 1}", a, self.space.resolve(a))
            for i, a in enumerate(self.random.distinct(count))
        ]

    # ---- the supernet

    @cached_property
    def supernet(self) -> SuperNet | None:
        """The search's, on its device; None where the search had none."""
        found = load_supernet(self.run / "search", self.space)
        if found is None:
            self.say("the search left no supernet: what needs one is left out")
            return None
        found.to(self.setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return found

    @cached_property
    def problem(self) -> SearchProblem:
        """The search's."""
        return self.setting.problem(resume=True, progress=self.conditions.progress)

    @property
    def calibration_images(self) -> int:
        """As in the search."""
        search = self.setting.config.search
        return strategy_of(search).calibration_images(search)

    @cached_property
    def scores(self) -> SupernetScores | None:
        """Accuracies with the supernet's weights."""
        if self.supernet is None:
            return None
        own = SupernetEvaluator(self.problem, self.supernet, self.calibration_images)
        running = SupernetEvaluator(self.problem, self.supernet, 0)
        path = self.folder / "supernet_scores.json"
        return SupernetScores(path, {"own": own, "running": running}, self.conditions.progress)

    # ---- trainings

    def train(self, networks: Sequence[Control], seeds: Sequence[int]) -> None:
        """All networks with the first seed, then with the next."""
        if not self.conditions.finished_only:
            tasks = [Task(network.spec, seed) for seed, network in product(seeds, networks)]
            with self.spending.of(_TRAININGS):
                self.trainings.train(tasks, self.conditions.jobs, self.conditions.progress)

    def accuracies(self, networks: Sequence[Control]) -> dict[str, dict[int, float]]:
        """By name and seed, of the trainings that are done."""
        return {
            network.name: {
                seed: accuracy
                for seed in self.config.seeds
                if (accuracy := self.trainings.accuracy(Task(network.spec, seed))) is not None
            }
            for network in networks
        }

    def failures(self, network: Control) -> dict[str, str]:
        """By seed, why its trainings that diverged did."""
        words = {str(seed): self.trainings.failure(Task(network.spec, seed)) for seed in self.config.seeds}
        return {seed: why for seed, why in words.items() if why is not None}

    def costs(self, network: Control) -> dict[str, float | None]:
        """Counted, and predicted by the latency table where there is one for the network."""
        counts = network_counts(network.spec)
        table = self.tables.get("latency_ms")
        predicted = table.cost(network.architecture) if table and network.architecture else None
        return {"macs": counts.macs, "params": counts.params, "latency_ms": predicted}

    # ---- the parts

    def controls_part(self) -> dict[str, Any]:
        """The answer against its controls, see `evidence.comparisons`."""
        self.train(self.controls, self.config.seeds)
        accuracies = self.accuracies(self.controls)
        mine = [control for control in self.controls if control.architecture is not None]
        scores = self.scores([c.architecture for c in mine if c.architecture]) if self.scores else []
        score_of = dict(zip((control.name for control in mine), scores, strict=False))
        return {
            "seeds": list(self.config.seeds),
            **self._trained_how(),
            "budgets": {budget.metric: budget.limit for budget in self.setting.budgets},
            "networks": [
                {
                    "name": control.name,
                    "kind": control.kind,
                    "label": control.label,
                    "costs": self._control_costs(control),
                    "supernet_accuracy": score_of.get(control.name),
                    "se": [block.se.label if block.se else NO_SE for block in control.spec.blocks],
                    "accuracies": {str(seed): value for seed, value in accuracies[control.name].items()},
                    "failed": self.failures(control),
                }
                for control in self.controls
            ],
            "comparisons": compare(self.controls, accuracies, self.config.seeds, test_images=self.test_images),
        }

    def _control_costs(self, control: Control) -> dict[str, Any]:
        """Its costs, with the clock's latency where no table predicts it, and which of the two it is."""
        costs = self.costs(control)
        if control.name in self.measured_ms:
            return {**costs, "latency_ms": self.measured_ms[control.name], "latency_how": "measured"}
        return {**costs, "latency_how": None if costs["latency_ms"] is None else "predicted"}

    @property
    def test_images(self) -> int:
        """That every accuracy is a share of."""
        return int(self.result["retrain"]["test_images"])

    def _trained_how(self) -> dict[str, Any]:
        assert self.setting.config.retrain is not None
        return {
            "test_images": self.test_images,
            "recipe": self.setting.config.retrain.model_dump(mode="json"),
        }

    def ranking_part(self) -> dict[str, Any] | None:
        """The supernet's ranking of random networks, see `evidence.ranking`."""
        if self.scores is None:
            return None
        rng = np.random.default_rng([self.setting.config.seed, 1])
        whole = dict.fromkeys(self.space.sample(rng) for _ in range(self.config.space))
        sets = {
            "within the budgets": self.random_controls(max(self.config.within, self.random_count)),
            "whole space": [
                Control(f"sample_{i + 1}", "random", f"random network {i + 1} of the space", a, self.space.resolve(a))
                for i, a in enumerate(whole)
            ],
        }
        self.train([network for networks in sets.values() for network in networks], self.config.seeds[:1])
        return {
            "seeds": list(self.config.seeds),
            **self._trained_how(),
            "sets": [rank(name, self._ranked(networks), self.config.seeds) for name, networks in sets.items()],
        }

    def _ranked(self, networks: Sequence[Control]) -> list[Ranked]:
        accuracies = self.accuracies(networks)
        done = [network for network in networks if accuracies[network.name] and network.architecture]
        assert self.scores is not None
        architectures = [network.architecture for network in done if network.architecture]
        own, running = self.scores(architectures), self.scores(architectures, "running")
        return [
            Ranked(network.name, self.costs(network), first, second, accuracies[network.name])
            for network, first, second in zip(done, own, running, strict=True)
        ]

    def stability_part(self) -> dict[str, Any] | None:
        """Further searches, their answers trained with the same seeds; see `evidence.stability`."""
        answers = {self.setting.config.seed: self.answer}
        for seed in self.config.searches:
            folder = self._search_folder(seed)
            if not (self.conditions.finished_only or (folder / "result.json").exists()):
                self.say(f"evidence: a search with seed {seed}")
                config = self.setting.config.model_copy(update={"seed": seed, "retrain": None, "evidence": None})
                again, progress = self.run / "config.yaml", self.conditions.progress
                run_search(again, config, folder, resume=True, progress=progress, say=lambda line: None)
            if (folder / "result.json").exists():
                label = f"the answer of a search with seed {seed}"
                answers[seed] = self._answer_in(folder, f"search_{seed}", "search_seed", label)
        if len(answers) < 2:
            return None
        self.train(list(answers.values()), self.config.seeds)
        accuracies = self.accuracies(list(answers.values()))
        found = [
            SearchAnswer(control.name, seed, control.architecture, accuracies[control.name])
            for seed, control in answers.items()
            if control.architecture is not None
        ]
        return stability(self.space, self.tables, found, self.random.distinct(CHANCE))

    def _search_folder(self, seed: int) -> Path:
        return self.folder / "searches" / f"seed_{seed}"

    def where_part(self) -> dict[str, Any] | None:
        """What each block's SE is worth; see `evidence.where_se_pays`."""
        if self.supernet is None:
            return None
        assert self.answer.architecture is not None
        with self._bar("switching SE with the supernet's weights") as progress:
            found = where_se_pays(
                self.problem,
                self.supernet,
                self.answer.architecture,
                self.random.distinct(self.config.contexts - 1),
                calibration_images=self.calibration_images,
                folder=self.folder / "guesses",
                progress=progress,
            )
        return {**found, "stand_alone": self._stand_alone_gains()}

    def _stand_alone_gains(self) -> list[dict[str, Any]]:
        """What each SE of the answer is worth to it when it is trained with and without, with the same seeds."""
        if not self.config.stand_alone_se:
            return []
        answer = self.answer.architecture
        assert answer is not None
        places, used = se_places(self.space), se_ops_in_use(self.space, answer)
        without = [
            Control(f"without_{choice}", "baseline", f"without SE in {places[choice]}", a, self.space.resolve(a))
            for choice, op in used.items()
            if answer[choice] != NO_SE and NO_SE in op.se.options
            for a in [self.space.architecture({**answer.as_dict(), choice: NO_SE})]
        ]
        self.train([self.answer, *without], self.config.seeds)
        accuracies = self.accuracies([self.answer, *without])
        found = []
        for control in without:
            choice = control.name.removeprefix("without_")
            gain = difference("answer", [control.name], accuracies, self.config.seeds, self.test_images)
            found.append({"block": places[choice], "option": answer[choice], **gain.as_dict()})
        return found

    @contextmanager
    def _bar(self, words: str) -> Iterator[Callable[[int, int], None]]:
        console = Console(stderr=True)
        shown = self.conditions.progress and console.is_terminal
        with Progress(*COLUMNS, console=console, transient=True, disable=not shown) as bar:
            task = bar.add_task(words, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def latency_part(self) -> dict[str, Any] | None:
        """The latency table against the clock, on the best by the supernet and on random networks."""
        latency = self.setting.latency
        if not isinstance(latency, LatencyTable):
            return None
        drawn = self.random.distinct(max(self.config.best_of, self.config.timed))
        sets: dict[str, list[Architecture]] = {}
        if self.scores is not None:
            order = np.argsort(-np.array(self.scores(drawn)), kind="stable")
            sets["the best by the supernet"] = [drawn[i] for i in order[: self.config.timed]]
        sets["random at the budgets"] = drawn[: self.config.timed]
        every = list(dict.fromkeys(a for architectures in sets.values() for a in architectures))
        measured = measure_networks([self.space.resolve(a) for a in every], latency.key, rounds=ROUNDS)
        found = dict(zip(every, measured, strict=True))
        return {
            "conditions": vars(latency.key),
            "sets": [self._timed(name, some, found) for name, some in sets.items() if len(some) > 1],
        }

    def _timed(
        self, name: str, architectures: Sequence[Architecture], measured: Mapping[Architecture, Measurement]
    ) -> dict[str, Any]:
        table = self.tables["latency_ms"]
        entries = [
            {
                "name": f"{name}, {i + 1}",
                "predicted_ms": table.cost(architecture),
                "measured_ms": measured[architecture].median_ms,
                "low": measured[architecture].ci95_ms[0],
                "high": measured[architecture].ci95_ms[1],
            }
            for i, architecture in enumerate(architectures)
        ]
        predicted = np.array([table.cost(architecture) for architecture in architectures])
        clock = np.array([measured[architecture].median_ms for architecture in architectures])
        agreement = prediction_accuracy(predicted, clock)
        return {
            "name": name,
            "networks": entries,
            "mape": agreement.mape,
            "bias": float(np.mean(predicted / clock - 1)),
            "within_5": agreement.within_5,
            "within_10": agreement.within_10,
            "spearman": spearman(predicted, clock).as_dict(),
        }

    def ledger_part(self) -> dict[str, Any]:
        """What everything took: the run, those beside it, the trainings, and the rest of the evidence."""
        entries = run_entries(self.result)
        beside = {Path(word).name: self.folder / word for word in self.config.others}
        beside |= {f"search {seed}": self._search_folder(seed) for seed in self.config.searches}
        for name, folder in beside.items():
            if (folder / "result.json").exists():
                # a table that was timed once serves all runs
                lines = run_entries(RunFolder(folder).read("result.json", RunResult), f"{name}: ")
                entries += [line for line in lines if not line["part"].endswith("latency table")]
        amounts = self.spending.amounts()
        on_cpu = self.setting.device.type == "cpu"
        entries.append(training_entry(self.trainings.records(), amounts.pop(_TRAININGS, Amount()), on_cpu))
        entries += [
            {"part": f"evidence: {part}", "images": None, **asdict(amount)}
            for part, amount in amounts.items()
            if part != "stability"  # its searches have lines of their own
        ]
        return {"parts": entries, "energy_source": self.spending.energy_source}


@dataclass(frozen=True)
class _Part:
    """How a part is gathered, None where the run has nothing to show for it, and the file that it is written to."""

    gather: Callable[[_Gathering], dict[str, Any] | None]
    file: str


#: The parts by name, in the order in which they are gathered: what takes longest comes late.
PARTS = {
    "latency": _Part(_Gathering.latency_part, "latency_check.json"),
    "where-se-pays": _Part(_Gathering.where_part, "where_se_pays.json"),
    "controls": _Part(_Gathering.controls_part, "controls.json"),
    "ranking": _Part(_Gathering.ranking_part, "ranking.json"),
    "stability": _Part(_Gathering.stability_part, "stability.json"),
    "ledger": _Part(_Gathering.ledger_part, "ledger.json"),
}
