"""An Optuna study of architectures: ask for one that is new and keeps the budgets, tell what it was worth.

The study is the only state. A search, several workers on one database, and NNI's tuner drive the same object.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState, create_trial

from se_nas.cost.budget import Budget
from se_nas.cost.metrics import is_aside
from se_nas.cost.table import CostTable
from se_nas.errors import ConfigError, StorageError
from se_nas.search.black_box.architecture_sampler import ArchitectureSampler, completed, suggest
from se_nas.search.black_box.candidate import Candidate, EnoughProposed, SpaceExhausted, proposable
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Evaluation, Pruned, State, evaluation_of, excess_of
from se_nas.search.black_box.pareto import since_unbeaten
from se_nas.search.black_box.pruner import make_pruner
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.black_box.storage import (
    DeadWorkers,
    Heartbeat,
    JournalSum,
    check_settings,
    hold_file,
    load_or_create_study,
    open_storage,
    refuse_other_studies,
)
from se_nas.search.black_box.storages.database import Database
from se_nas.search.black_box.storages.url import masked
from se_nas.search.budgets.decode import check_feasible
from se_nas.search.budgets.repair import Repair
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace

#: Epochs, counted from 0, with the accuracies on the way.
Curve = Sequence[tuple[int, float]]

#: In a larger space, proposals in a row that are not new until it is taken for searched out.
REPEATS = 100


class ArchitectureStudy:
    """See the module.

    Args:
        name: of the study in its storage.
        tables: cost tables by metric; of every budget and every objective but the first.
        file: where the study is kept without `url`; None for memory.
        url: of a database that several workers share.
        parallel: whether several candidates are asked for before one is told.
        take_over: whether what an earlier process left running is asked for again; never with other processes alive,
            which a study in a file sees to until `close`.
        join: whether the study must be there already.
        among: the only architectures that may be proposed; None for all of the space.

    Raises:
        InfeasibleBudgetError: no architecture that may be proposed keeps the budgets.
        ConfigError: an objective without a table; or the storage holds a study of this name with other settings.
        StorageError, OutputError: see `open_storage`.
        OutputError: the study's file is not what it was, or holds another study with evaluations; see `JournalSum`.
        OutputError: another process has the study in a file open, and one of the two takes over.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        budgets: Sequence[Budget],
        tables: Mapping[str, CostTable],
        config: OptunaConfig,
        seed: int,
        *,
        file: Path | None = None,
        url: str | None = None,
        parallel: bool = False,
        take_over: bool = False,
        join: bool = False,
        among: Collection[Architecture] | None = None,
    ) -> None:
        self.space, self.budgets, self.tables, self.config = space, tuple(budgets), tables, config
        self.where = "the storage" if url is not None else "memory" if file is None else str(file)
        if missing := [name for name in config.objectives[1:] if name not in tables]:
            problems = [f"{name}: needs a cost table, but there is none" for name in missing]
            raise ConfigError("search.objectives", problems)
        check_feasible(space, tables, self.budgets)
        self._grouped = SAMPLERS[config.chosen_sampler].grouped
        self._seen: set[Architecture] = set()
        self._known: dict[Architecture, FrozenTrial] = {}
        self._unseen = proposable(space, tables, budgets if config.proposals == "feasible" else (), among)
        self._architectures: dict[int, Architecture] = {}
        self._settled = 0
        self._heartbeats: dict[int, Heartbeat] = {}
        self._let_go: weakref.finalize[[int], ArchitectureStudy] | None = None
        repair = Repair(space, tables, self.budgets if config.proposals == "feasible" else ())
        many = parallel or url is not None
        seen = self._seen
        sampler = ArchitectureSampler(space, config, repair, seed=seed, seen=seen, unseen=self._unseen, parallel=many)
        self._sum: JournalSum | None = None
        if file is not None and url is None:
            self._let_go = weakref.finalize(self, os.close, hold_file(file, alone=take_over))
        try:
            known = None if file is None or url is not None else JournalSum(file)
            if known is not None:
                known.check()
            storage = open_storage(url, file, config.heartbeat_seconds)
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            if join and name not in optuna.get_all_study_names(storage):
                where, which = (
                    (self.where, "was it emptied") if url is None else (masked(url), "is it the search's storage")
                )
                raise StorageError(f"{where}: must hold this run's study, {name}, but does not: {which}?")
            if known is not None:
                refuse_other_studies(storage, name, self.where)
            self._study = load_or_create_study(
                name,
                storage,
                sampler,
                make_pruner(config),
                [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in config.objectives[1:])],
            )
            self._storage = self._study._storage  # as Optuna wraps it, with its cache
            self._database = self._storage if isinstance(self._storage, Database) else None
            self._dead = DeadWorkers(self._study, config.heartbeat_seconds)
            where = f"study {name} in {file}" if url is None else f"study {name} of the storage"
            check_settings(self._study, self._settings(seed), where)
            self._left = [t._trial_id for t in self._trials(TrialState.RUNNING)] if take_over else []
            self._sync()
            self._sum = known  # noted from now on: what is on disk was found sound
        except BaseException:
            self.close()
            raise

    def _settings(self, seed: int) -> dict[str, Any]:
        """A study is of one space, of one set of budgets and objectives; what it is of is written into it."""
        budgets = {budget.metric: budget.limit for budget in self.budgets}
        objectives = list(self.config.objectives)
        return {"space": self.space.digest, "budgets": budgets, "seed": seed, "objectives": objectives}

    def close(self) -> None:
        """Let other processes open the study, where it is in a file; this one is done with it."""
        try:
            if self._sum is not None and self._let_go is not None and self._let_go.alive:
                self._sum.note(self.count(), at_once=True)
        finally:
            if self._let_go is not None:
                self._let_go()

    # ---- asking

    def ask(self, at_most: int | None = None) -> Candidate:
        """The next architecture to evaluate: one that was enqueued or lost by a dead worker, else a new proposal.

        A proposal that was evaluated before takes what became of it then, and the next one is asked for.

        Args:
            at_most: evaluations in the study, of all its workers; None for any number.

        Raises:
            SpaceExhausted: there is nothing new to propose.
            EnoughProposed: there are `at_most` already, with those at work and those that wait.
        """
        for _ in range(REPEATS):
            with self.look():
                self._sync()
                if self._unseen is not None and not self._left and not self._unseen and not self.waiting:
                    break
                trial = self._next_trial()
                if at_most is not None and self._is_fresh(trial) and self._ahead_of(trial.number) >= at_most:
                    self.tell(trial.number, None, state="failed")
                    raise EnoughProposed
                architecture = suggest(trial, self.space, grouped=self._grouped)
                costs = {name: table.cost(architecture) for name, table in self.tables.items()}
                excess = excess_of(costs, self.budgets)
                if not self._write_down(trial, costs, excess):  # this process slept, and was taken for dead
                    self.tell(trial.number, None, state="failed")
                    continue
                twin = self._twin(trial.number, architecture)
            if twin is None:
                return Candidate(trial.number, architecture, costs, excess)
            trial.set_user_attr("same_as", twin.number)
            if twin.state == TrialState.COMPLETE:
                self.tell(trial.number, float(twin.values[0]))
            elif twin.state == TrialState.PRUNED:
                self.tell(trial.number, None, state="pruned", curve=twin.user_attrs.get("curve", ()))
            else:  # at work elsewhere
                self.tell(trial.number, None, state="failed")
        raise SpaceExhausted

    def _next_trial(self) -> Trial:
        if self._left:
            trial = Trial(self._study, self._left.pop(0))
        else:
            with warnings.catch_warnings():
                # the heartbeat is meant for Study.optimize; ours beats in `Heartbeat`
                warnings.simplefilter("ignore", UserWarning)
                trial = self._study.ask()
        self._heartbeats[trial.number] = Heartbeat(self._storage, trial)
        return trial

    def _is_fresh(self, trial: Trial) -> bool:
        """Whether it is a new proposal: not one that was enqueued, or lost by a dead worker."""
        return not {"fixed_params", "failed_trial"} & self._trial(trial.number).system_attrs.keys()

    def _ahead_of(self, number: int) -> int:
        """Evaluations done, at work or waiting that come before a new proposal.

        Numbers are given one after the other, also to workers that ask at the same time: each sees all smaller ones.
        """
        live = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
        counted = (trial for trial in live if "same_as" not in trial.user_attrs)
        return sum(trial.number < number or trial.state == TrialState.WAITING for trial in counted)

    def _twin(self, number: int, architecture: Architecture) -> FrozenTrial | None:
        """The proposal by which this architecture is, or was, evaluated: of two asked for at a time, the first."""
        while self.shared and any(not self._is_whole(t) for t in self._trials(TrialState.RUNNING) if t.number < number):
            time.sleep(0.02)  # another worker is about to write down what it evaluates
            self.reap()
        running = [trial.number for trial in self._trials(TrialState.RUNNING) if trial.number < number]
        self._sync()
        if architecture in self._known:
            return self._known[architecture]
        twins = [self._trial(n) for n in running if self._architectures.get(n) == architecture]
        return next((trial for trial in twins if trial.state != TrialState.FAIL), None)

    def _is_whole(self, trial: FrozenTrial) -> bool:
        """Whether all of a proposal is written down: the costs are last.

        Metrics that are aside are younger than some studies, and what they cost is read from the tables.
        """
        return all(metric in trial.user_attrs for metric in self.tables if not is_aside(metric))

    def _write_down(self, trial: Trial, costs: Mapping[str, float], excess: Mapping[str, float]) -> bool:
        have = trial.constraints  # an evaluation that is done again has them already
        for metric, value in excess.items():
            if metric not in have:
                trial.set_constraint(metric, value)
        for metric, cost in costs.items():
            trial.set_user_attr(metric, cost)
        return self._database is None or self._database.write(trial._trial_id)

    def enqueue(self, architecture: Architecture) -> None:
        """Have `ask` give this architecture before any proposal, unless it is in the study."""
        self.space.check(architecture)
        # also one that a killed process had begun to take
        queued = [trial.system_attrs.get("fixed_params") for trial in self._trials()]
        self._sync()
        if architecture not in self._seen and architecture.as_dict() not in queued:
            self._study.enqueue_trial(architecture.as_dict())

    # ---- telling

    def tell_epoch(self, number: int, epoch: int, accuracy: float) -> None:
        """Note an accuracy on the way, epochs counted from 0; raises `Pruned` when the pruner says so."""
        if self.config.pruner == "none":
            return
        frozen = self._trial(number)
        if frozen.state.is_finished():
            raise Pruned  # taken for dead, as a machine that slept is: another worker has it
        if epoch < (frozen.last_step or 0):
            return  # an evaluation that goes on after a kill reports its first epochs again
        trial = Trial(self._study, frozen._trial_id)
        if epoch not in frozen.intermediate_values:
            trial.report(accuracy, epoch)
        if trial.should_prune():
            raise Pruned

    def tell(
        self,
        number: int,
        accuracy: float | None,
        *,
        state: State = "complete",
        seconds: float = 0.0,
        curve: Curve = (),
    ) -> None:
        """Finish a proposal, with the state "complete", "pruned" or "failed"; one that is finished stays as it is."""
        heartbeat = self._heartbeats.pop(number, None)
        if heartbeat is not None:
            heartbeat.stop()
        if self._database is not None:
            self._database.hold(self._trial_id(number))
        frozen = self._trial(number)
        if frozen.state.is_finished():
            return
        self._storage.set_trial_user_attr(frozen._trial_id, "seconds", seconds)
        if curve:
            self._storage.set_trial_user_attr(frozen._trial_id, "curve", [list(point) for point in curve])
        values: list[float] | None = None
        if state == "complete":
            assert accuracy is not None
            values = [accuracy, *(float(frozen.user_attrs[metric]) for metric in self.config.objectives[1:])]
        finished = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(state, TrialState.FAIL)
        with contextlib.suppress(UpdateFinishedTrialError):  # by another worker, just now
            self._study.tell(number, values, state=finished, skip_if_finished=True)
        if self._sum is not None:
            self._sum.note(self.count())

    def add(
        self, architecture: Architecture, accuracy: float | None, *, job: str, seconds: float, curve: Curve = ()
    ) -> None:
        """Note an evaluation that the study did not ask for, as that of a trial which a user added by hand.

        One of an architecture that was evaluated before takes the accuracy of then, as a proposal does.

        Args:
            accuracy: None where it failed.
            job: what it is known by; see `added`.
        """
        self._sync()
        twin = self._known.get(architecture)
        if accuracy is not None and twin is not None and twin.state == TrialState.COMPLETE:
            accuracy = float(twin.values[0])
        picks = FixedTrial(architecture.as_dict())
        suggest(picks, self.space, grouped=self._grouped)
        costs = {name: table.cost(architecture) for name, table in self.tables.items()}
        notes = {"added": job, "seconds": seconds, "curve": [list(point) for point in curve]}
        trial = create_trial(
            state=TrialState.FAIL if accuracy is None else TrialState.COMPLETE,
            values=None if accuracy is None else [accuracy, *(costs[metric] for metric in self.config.objectives[1:])],
            params=picks.params,
            distributions=picks.distributions,
            user_attrs={**costs, **notes, **({} if twin is None else {"same_as": twin.number})},
            constraints=excess_of(costs, self.budgets),
        )
        self._study.add_trial(trial)
        if self._sum is not None:
            self._sum.note(self.count())

    def added(self) -> set[str]:
        """The jobs of all that `add` noted."""
        return {str(trial.user_attrs["added"]) for trial in self._trials() if "added" in trial.user_attrs}

    def reap(self) -> None:
        """With a shared storage: look at it anew, and hand what dead workers were evaluating to others."""
        if self._database is not None:
            self._database.look_anew()
            self._dead.hand_on(self._heartbeats)

    # ---- looking

    def look(self) -> AbstractContextManager[None]:
        """Within, a database is read once for all that is asked, and once more for each proposal."""
        return contextlib.nullcontext() if self._database is None else self._database.look()

    @property
    def shared(self) -> bool:
        """Whether several processes may work on the study."""
        return Heartbeat.possible(self._storage)

    @property
    def waiting(self) -> int:
        """Architectures that were enqueued, or lost by dead workers, and that nobody has taken."""
        return len(self._trials(TrialState.WAITING))

    def running(self) -> list[int]:
        """Numbers of the proposals that were asked for and not told."""
        return [trial.number for trial in self._trials(TrialState.RUNNING)]

    @property
    def left(self) -> int:
        """Proposals that an earlier process left running and `ask` will give again."""
        return len(self._left)

    def count(self) -> int:
        """Distinct architectures whose evaluation is done, pruned ones included."""
        trials = self._trials(TrialState.COMPLETE, TrialState.PRUNED)
        return sum("same_as" not in trial.user_attrs for trial in trials)

    @property
    def seconds(self) -> float:
        """Wall time of the search as it was last noted."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def note_seconds(self, seconds: float) -> None:
        """Keep the wall time of the search for processes that go on with it."""
        self._study.set_user_attr("seconds", seconds)

    def since_better(self) -> int:
        """Distinct evaluations that came after the last one that none before it beats, within the budgets."""
        done = [t for t in self._trials(TrialState.COMPLETE, TrialState.PRUNED) if "same_as" not in t.user_attrs]
        worths = (t.values if t.state == TrialState.COMPLETE and self._keeps(t) else None for t in done)
        return since_unbeaten([worth and [-worth[0], *worth[1:]] for worth in worths])

    @staticmethod
    def _keeps(trial: FrozenTrial) -> bool:
        return all(value <= 0 for value in trial.constraints.values())

    def best_accuracy(self) -> float | None:
        """Of the complete evaluations that keep the budgets."""
        trials = self._trials(TrialState.COMPLETE)
        return max((float(t.values[0]) for t in trials if self._keeps(t)), default=None)

    def evaluations(self) -> list[Evaluation]:
        """Every proposal but those that wait, and those that a dead worker had not written down."""
        self._sync()
        found = []
        for trial in filter(self._is_whole, self._trials(*{*TrialState} - {TrialState.WAITING})):
            architecture = self._architectures.get(trial.number) or completed(trial.params, self.space)
            costs = {name: table.cost(architecture) for name, table in self.tables.items()}
            found.append(evaluation_of(trial, architecture, costs, self.budgets))
        return found

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _trial(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def _sync(self) -> None:
        """Learn what was proposed, and what it was worth, since the last time, by this process or another."""
        unfinished = False
        for trial in self._trials()[self._settled :]:
            finished = trial.state.is_finished()
            unfinished |= not finished
            self._settled += not unfinished
            if trial.state == TrialState.WAITING or not self._is_whole(trial):
                continue
            architecture = self._architectures.get(trial.number)
            if architecture is None:
                architecture = self._architectures[trial.number] = completed(trial.params, self.space)
                self._seen.add(architecture)
                if self._unseen is not None:
                    self._unseen.discard(architecture)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "same_as" not in trial.user_attrs:
                self._known.setdefault(architecture, trial)
