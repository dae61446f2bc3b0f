"""What the parts of a run's evidence share: its networks, their trainings, and the supernet."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from se_nas.cost.metrics import METRICS
from se_nas.errors import counted, format_seconds
from se_nas.evidence.controls import Control, ControlKind, RandomFeasible, pinned_controls, repinned_controls
from se_nas.evidence.pilot.power import MOST_SEEDS
from se_nas.hardware.lines import Say
from se_nas.records.models.evidence import NetworkCosts, TrainingRecord
from se_nas.records.models.run_result import RetrainSummary, RunResult
from se_nas.records.record import read_record
from se_nas.runs.evidence.ledger import Spending
from se_nas.runs.evidence.plan import plan_evidence
from se_nas.runs.evidence.published_controls import published_control
from se_nas.runs.evidence.supernet_scores import SupernetScores
from se_nas.runs.evidence.trainings import Task, Trainings
from se_nas.runs.evidence_config import FOLDER, TRAININGS
from se_nas.runs.prepare import Setting
from se_nas.runs.run_file import SEEDS, EvidenceConfig
from se_nas.search.one_shot.inheritance import SupernetEvaluator
from se_nas.search.problem import SearchProblem
from se_nas.search.result import load_supernet
from se_nas.search.strategies import strategy_of
from se_nas.space.architecture_file import load_architecture
from se_nas.supernet.supernet import SuperNet

#: Random networks among the controls at least, however short the search was.
FEWEST_RANDOM = 5


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


class Gathering:
    """The evidence of one run while it is gathered."""

    def __init__(
        self,
        setting: Setting,
        config: EvidenceConfig,
        conditions: Conditions,
        say: Say,
        elsewhere: Collection[str] = (),
    ) -> None:
        """Plan it, or read its plan; `elsewhere` are the names of the files of trainings that other runs have."""
        assert setting.config.retrain is not None
        self.setting, self.config, self.conditions, self.say = setting, config, conditions, say
        self.run, self.space, self.tables = setting.run, setting.space, setting.tables
        self.folder = setting.run / FOLDER
        self.result = read_record(RunResult, setting.run / "result.json")
        self.spending = Spending(self.folder / "spent.json", setting.device)
        self.measured_ms: dict[str, dict[str, float]] = {}  # by metric, of controls that no table knows
        self.random = RandomFeasible(self.space, self.tables, setting.budgets, setting.config.seed)
        self.trainings = Trainings(
            self.folder / TRAININGS, setting.config.retrain, setting.options, setting.device.type
        )
        device, environment = setting.config.device.partition(":")[0], self.result.environment
        if device == "auto":
            device = environment.device or ("cuda" if environment.gpu else "cpu")
        if device == setting.device.type:
            seed, retrained = setting.config.seed, self.retrained
            record = TrainingRecord(
                seed=seed,
                test_accuracy=retrained.test_accuracy,
                test_images=retrained.test_images,
                train_accuracy=retrained.train_accuracy,
                seconds=retrained.seconds,
                cpu_seconds=None,
                images=retrained.images,
                commit=environment.commit,
            )
            self.trainings.adopt(Task(self.answer.spec, seed), record)

        own = self.trainings.record(Task(self.answer.spec, setting.config.seed)) is not None
        trained = len(self.trainings.records()) - own
        if elsewhere and config.primary is not None:
            seeds = {*range(MOST_SEEDS), *(config.seeds or ())} - {setting.config.seed}
            trained += sum(f"{self.trainings.key(Task(self.answer.spec, seed))}.json" in elsewhere for seed in seeds)
        of_size = config.primary is not None and config.primary.counted_by == "of_size"
        networks = len(self.controls_of_size) if of_size else self.random_count
        self.plan = plan_evidence(self.run, config, networks, trained, len(elsewhere))
        self.seeds = self.plan.seeds if self.plan is not None else config.seeds or SEEDS

    # ---- what is compared

    @cached_property
    def answer(self) -> Control:
        """The run's own."""
        return self.answer_in(self.run.path, "answer", "answer", "the search's answer")

    def answer_in(self, folder: Path, name: str, kind: ControlKind, label: str) -> Control:
        """The answer that lies in a folder, as a network to compare."""
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
            other = self.answer_in(self.folder / word, name, "other_answer", f"the answer of {name}")
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
        pinned, skipped = pinned_controls(space, tables, budgets, ratios, self.answer.architecture)
        own, _ = repinned_controls(space, tables, budgets, self.answer.architecture, ratios)  # skipped alike
        found += pinned + [control for control in own if control.architecture != self.answer.architecture]
        for line in skipped:
            self.say(f"left out: {line}")
        for word in self.config.published:
            published = published_control(self.setting, self.folder, word, self.say)
            if published is not None:
                control, measured = published
                found.append(control)
                if measured:
                    self.measured_ms[control.name] = measured
        if len(self.controls_of_size) < self.config.of_size:
            asked = f"{self.config.of_size} random networks of the answer's size were asked for"
            self.say(f"left out: {asked}, but only {len(self.controls_of_size)} were drawn")
        return found + self.random_controls(self.random_count) + self.controls_of_size

    @property
    def random_count(self) -> int:
        """Random networks among the controls: at least what the search's time would have trained."""
        if self.config.random is not None:
            return self.config.random
        return max(FEWEST_RANDOM, math.ceil(self.result.search.seconds / max(self.retrained.seconds, 1e-9)))

    def random_controls(self, count: int) -> list[Control]:
        """So many random networks at the budgets, always the same first ones."""
        return [
            Control(f"random_{i + 1}", "random", f"random network {i + 1}", a, self.space.resolve(a))
            for i, a in enumerate(self.random.distinct(count))
        ]

    @cached_property
    def controls_of_size(self) -> list[Control]:
        """Random networks of the answer's size."""
        assert self.answer.architecture is not None
        drawn = self.random.of_size(self.answer.architecture, self.config.of_size)
        label = "random network of the answer's size"
        return [
            Control(f"of_size_{i + 1}", "of_size", f"{label} {i + 1}", a, self.space.resolve(a))
            for i, a in enumerate(drawn)
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
        """All networks with the first seed, then with the next; what another run has trained is taken from it."""
        tasks = [Task(network.spec, seed) for seed, network in product(seeds, networks)]
        folders = [self.folder / word / FOLDER / TRAININGS for word in self.config.others]
        if taken := self.trainings.take_over(tasks, folders):
            self.say(f"{counted(taken, 'training')} with the same settings taken from those of `others`")
        if not self.conditions.finished_only:
            if left := len(self.trainings.left(tasks)):
                at_once = "" if self.conditions.jobs == 1 else f", {self.conditions.jobs} at a time"
                own = format_seconds(self.retrained.seconds)
                self.say(f"{counted(left, 'training')} to do{at_once}; that of the answer took {own}")
            with self.spending.of(TRAININGS):
                self.trainings.train(tasks, self.conditions.jobs, self.conditions.progress)

    def accuracies(self, networks: Sequence[Control]) -> dict[str, dict[int, float]]:
        """By name and seed, of the trainings that are done."""
        return {
            network.name: {
                seed: accuracy
                for seed in self.seeds
                if (accuracy := self.trainings.accuracy(Task(network.spec, seed))) is not None
            }
            for network in networks
        }

    def failures(self, network: Control) -> dict[str, str]:
        """By seed, why its trainings that diverged did."""
        words = {str(seed): self.trainings.failure(Task(network.spec, seed)) for seed in self.seeds}
        return {seed: why for seed, why in words.items() if why is not None}

    def costs(self, network: Control) -> NetworkCosts:
        """Counted, and predicted by the latency tables where there are some for the network."""
        counts = {name: metric.of(network.spec) for name, metric in METRICS.items() if metric.counted}
        tables = {metric: self.tables.get(metric) for metric in self.setting.latencies}
        predicted = {
            metric: table.cost(network.architecture) if table and network.architecture else None
            for metric, table in tables.items()
        }
        return NetworkCosts.model_validate({**counts, **predicted})

    # ---- what the parts share

    @property
    def retrained(self) -> RetrainSummary:
        """The run's own retraining."""
        assert self.result.retrain is not None
        return self.result.retrain

    @property
    def test_images(self) -> int:
        """That every accuracy is a share of."""
        return self.retrained.test_images

    @property
    def recipe(self) -> dict[str, JsonValue]:
        """By which every network is trained."""
        assert self.setting.config.retrain is not None
        return self.setting.config.retrain.model_dump(mode="json")

    def search_folder(self, seed: int) -> Path:
        """Where a further search from this seed has its run."""
        return self.folder / "searches" / f"seed_{seed}"
