"""The one training loop: it drives a `step` function, and makes every run resumable and hard to derail.

The loop knows nothing of networks or data. Two ideas carry it:

* Before each step the global torch generator is seeded from (seed, name, step, attempt), so a step depends on
  the state and its number alone. On the CPU, a run resumed from any checkpoint is bit-equal to one never stopped.
* The state is copied every few steps, and a copy is trusted only once the loss of a later step is sound, because
  the loss of step t says nothing of the update that step t makes. A non-finite or exploding loss goes back to
  the trusted copy, at a lower learning rate. What is written to disk is always the trusted copy: so a checkpoint
  never holds a broken state, can be written whatever happens, and a resumed run rolls back to the same step as
  an unbroken one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from se_nas.errors import CheckpointError, OutputError, TrainingError, TrainingInterrupted, counted, format_seconds
from se_nas.hardware.contention import starvation_warning
from se_nas.hardware.distributed import Ranks
from se_nas.hardware.interrupt import signals_to
from se_nas.records.checkpoint import StateDict, discard_checkpoint, has_checkpoint, load_latest, save_checkpoint
from se_nas.records.models.history import History
from se_nas.records.run_log import RunLog, SilentLog
from se_nas.training.guard import GuardConfig, Position, Snapshot, Snapshots, Stateful
from se_nas.training.metrics import Metrics, in_words, on_host, print_line

#: Work of more than these seconds is saved before an evaluation.
_UNSAVED_SECONDS = 10.0


@dataclass(frozen=True)
class StepContext:
    """Where the run stands, given to `step`.

    After a rollback the numbers jump back: derive the batch from `epoch` and `step_in_epoch`, not from an
    iterator that only goes on.

    Attributes:
        step: the step of the whole run, from 0.
        epoch, step_in_epoch: the same position, from 0.
        attempt: how many rollbacks have happened.
        lr_scale: what the learning rate must be multiplied by, in (0, 1].
        seed: a well-mixed seed of this step and attempt, for generators other than torch's global one.
    """

    step: int
    epoch: int
    step_in_epoch: int
    attempt: int
    lr_scale: float
    seed: int


class Loop:
    """Runs `step` for epochs * steps_per_epoch steps.

    Args:
        name: names the run in the log, the checkpoint and on the screen, and enters every seed.
        step: does one whole training step (batch, forward, backward, update) and returns its metrics, scalars,
            with "loss" among them. Tensors are read late: the next step must not overwrite them.
        end_epoch: called after each epoch with its number, for evaluation; what it returns joins the epoch's
            history and log line, beside the means of the step metrics, and must be JSON-able (0-d tensors and
            NumPy scalars are). "warnings", a list of lines, are also said.
        enough: asked after each epoch, with the history and the seconds so far, whether the run ends there; one that
            has ended so goes on where it is resumed and this says otherwise. It must agree on all ranks.
        state: every object that training changes, by name.
        checkpoint: the file to save to and resume from.
        log: gets lines with event "step", "epoch" or "rollback", in the phase `name`.
        save_every_seconds, save_every_steps: how often to save; the steps, when given, replace the seconds.
        log_every_steps: steps between two "step" lines.
        progress: a live bar where `console` is a terminal; else one plain line an epoch.
        ranks: where several processes train together, each runs this loop. Metrics are means over them, the first
            alone writes and speaks, and its checkpoint is what all resume from. The state must be the same on all.
    """

    def __init__(
        self,
        *,
        name: str,
        epochs: int,
        steps_per_epoch: int,
        step: Callable[[StepContext], Metrics],
        end_epoch: Callable[[int], Mapping[str, Any]] | None = None,
        enough: Callable[[History, float], bool] | None = None,
        state: Mapping[str, Stateful],
        checkpoint: Path,
        log: RunLog | SilentLog,
        seed: int,
        guard: GuardConfig | None = None,
        save_every_seconds: float = 60.0,
        save_every_steps: int | None = None,
        log_every_steps: int = 50,
        progress: bool = True,
        console: Console | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.name = name
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._total = epochs * steps_per_epoch
        self._step = step
        self._end_epoch = end_epoch
        self._enough = enough
        self._snapshots = Snapshots(state)
        self._checkpoint = Path(checkpoint)
        self._log = log
        self._seed = seed
        self._guard = guard or GuardConfig()
        self._save_every_seconds = save_every_seconds
        self._save_every_steps = save_every_steps
        self._log_every_steps = log_every_steps
        self._ranks = ranks or Ranks()
        self._console = (console or Console(stderr=True)) if self._ranks.first else Console(quiet=True)
        self._live = progress and self._console.is_terminal and self._ranks.first

        self._position = Position()
        self._unchecked: list[tuple[int, Metrics]] = []
        self._saved_step = -1
        self._saved_time = time.monotonic()
        self._stop_signal: int | None = None

    @property
    def seconds(self) -> float:
        """Wall time of the steps and evaluations that led here, added up over resumed processes."""
        return self._position.seconds

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process's threads over the same steps; 0 in a training from before it was counted."""
        return self._position.cpu_seconds

    # --- the run ------------------------------------------------------------------------------

    def run(self, resume: bool) -> History:
        """Train to the end or until it is enough, from the checkpoint if `resume` and there is one, else anew.

        Starting from the start discards the checkpoint and the log lines of an earlier run of this name.

        Returns:
            An entry an epoch: epoch, step, the means of the step metrics, and what `end_epoch` returned.

        Raises:
            CheckpointError: the checkpoint is damaged or of another run.
            TrainingError: the loss is still at fault after every rollback.
            TrainingInterrupted: SIGINT or SIGTERM came; the state is saved. A second signal does not wait for
                the step to end.
            OutputError: the checkpoint or the log cannot be written.
        """
        saved = self._saved() if resume else None
        if saved is not None:
            with self._ranks.together():
                self._resume(saved)
        else:
            self._start()
        try:
            self._stop_signal = None
            with signals_to(self._note), self._bar() as show:
                while self._position.step < self._total and not self._is_enough():
                    self._advance()
                    show()
                    if stop := self._agreed_stop():
                        raise TrainingInterrupted(self.name, stop, self._checkpoint)
        except OutputError:
            raise
        except BaseException:
            self._save()
            raise
        return self._position.epochs

    def _is_enough(self) -> bool:
        """Whether the run ends here, at the end of an epoch; its state is then saved as that of a whole run is."""
        position = self._position
        if self._enough is None or position.step == 0 or position.step % self._steps_per_epoch:
            return False
        if not self._enough(position.epochs, position.seconds):
            return False
        self._snapshots.confirm()  # no later step will tell
        self._save()
        return True

    def _advance(self) -> None:
        """One step, and what falls due after it."""
        position, guard = self._position, self._guard
        started, cpu_started = time.monotonic(), time.process_time()
        seed = self._reseed("step", position.step)
        metrics = self._step(
            StepContext(
                step=position.step,
                epoch=position.step // self._steps_per_epoch,
                step_in_epoch=position.step % self._steps_per_epoch,
                attempt=position.attempt,
                lr_scale=position.lr_scale,
                seed=seed,
            )
        )
        # Detached, so that waiting for the check keeps no graph alive.
        detached = {key: value.detach() if isinstance(value, Tensor) else value for key, value in metrics.items()}
        self._unchecked.append((position.step, detached))
        position.step += 1
        epoch_ends = position.step % self._steps_per_epoch == 0
        snapshot_due = epoch_ends or position.step % guard.snapshot_every == 0
        if snapshot_due or position.step % guard.check_every == 0:
            fault = self._check_losses()
            if fault is None and snapshot_due and self._ranks.greatest(int(self._snapshots.state_has_nan())):
                fault = (position.step - 1, math.nan, "the updated state holds NaN")
            if fault is not None:
                self._roll_back(*fault)
                return
        if epoch_ends:
            self._finish_epoch(position.step // self._steps_per_epoch - 1)
        position.seconds += time.monotonic() - started
        position.cpu_seconds += time.process_time() - cpu_started
        if snapshot_due:
            position.log_lines = self._log.lines(self.name)
            self._snapshots.propose(position)
        if position.step == self._total:
            self._snapshots.confirm()  # no later step will tell
            self._save()
        elif self._save_is_due():
            self._save()

    def _finish_epoch(self, epoch: int) -> None:
        position = self._position
        entry: dict[str, object] = {"epoch": epoch, "step": position.step}
        entry.update((name, total / position.counts[name]) for name, total in position.sums.items())
        if self._end_epoch is not None:
            if time.monotonic() - self._saved_time > _UNSAVED_SECONDS:
                self._save()  # evaluation may take longer than the grace that a signal to end comes with
            self._reseed("end of epoch", epoch)
            extra = self._end_epoch(epoch)
            if twice := sorted(set(entry) & set(extra)):
                raise ValueError(f"end_epoch must not repeat a metric of step, but returned {', '.join(twice)}")
            entry.update(extra)
        entry = json.loads(json.dumps(entry, default=lambda value: value.tolist()))  # plain values for the checkpoint
        position.sums, position.counts = {}, {}
        position.history.append(entry)
        rest = {name: value for name, value in entry.items() if name != "step"}
        self._log.write(position.step, self.name, event="epoch", **rest)
        if not self._live:
            left = self._epochs - epoch - 1
            soon = f", about {format_seconds(round(left * position.seconds / (epoch + 1)))} left" if left else ""
            self._say(f"{self.name}: epoch {epoch + 1}/{self._epochs}{soon}: {in_words(rest)}")
        starving = starvation_warning(position.seconds, position.cpu_seconds)
        warnings = position.epochs[-1].warnings or ()
        for line in [f"epoch {epoch + 1}: warning: {warning}" for warning in warnings] + starving:
            self._say(f"{self.name}: {line}")

    def _agreed_stop(self) -> int | None:
        """The signal to stop by, if there is one; several ranks stop together, where they next look at the losses."""
        if self._ranks.size == 1:
            return self._stop_signal
        if self._position.step % self._guard.check_every:
            return None
        return self._ranks.greatest(self._stop_signal or 0) or None

    def _reseed(self, purpose: str, number: int) -> int:
        words = repr((self._seed, self.name, purpose, number, self._position.attempt)).encode()
        seed = int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little") >> 1
        torch.manual_seed(seed)
        return seed

    # --- the guard ----------------------------------------------------------------------------

    def _check_losses(self) -> tuple[int, float, str] | None:
        """Read the metrics of the unchecked steps; returns the first fault (step, loss, what), or None."""
        position = self._position
        unchecked, self._unchecked = self._unchecked, []
        for step, metrics in self._means(unchecked):
            loss = metrics["loss"]
            fault = self._guard.fault_of(loss, position.losses)
            if fault is not None:
                return step, loss, fault
            position.losses = [*position.losses, loss][-self._guard.window :]
            for name, value in metrics.items():
                position.sums[name] = position.sums.get(name, 0.0) + value
                position.counts[name] = position.counts.get(name, 0) + 1
            if (step + 1) % self._log_every_steps == 0:
                self._log.write(step + 1, self.name, event="step", **metrics)
        if unchecked:
            self._snapshots.confirm()
        return None

    def _means(self, steps: list[tuple[int, Metrics]]) -> Iterator[tuple[int, dict[str, float]]]:
        """The steps' metrics as floats, each the mean over the ranks."""
        found = list(on_host(steps))
        means = iter(self._ranks.mean([value for _, metrics in found for value in metrics.values()]))
        for step, metrics in found:
            yield step, {name: next(means) for name in metrics}

    def _roll_back(self, step: int, loss: float, fault: str) -> None:
        guard, failed = self._guard, self._position
        what = f"{fault} ({loss:g}) at step {step}"
        if failed.attempt >= guard.max_rollbacks:
            with self._ranks.together():  # on all, who have seen the same losses
                raise TrainingError(
                    f"{self.name}: the loss must stay finite and near its median, but got {what} after"
                    f" {counted(failed.attempt, 'rollback')}; lower the learning rate"
                    f" (the last sound state is in {self._checkpoint})"
                )
        position = self._position = self._snapshots.go_back()
        self._unchecked = []
        position.attempt = failed.attempt + 1
        position.lr_scale = failed.lr_scale * guard.lr_backoff
        self._say(
            f"{self.name}: {what}; back to step {position.step}, learning rate times {position.lr_scale:g}"
            f" (rollback {position.attempt} of {guard.max_rollbacks})"
        )
        self._log.cut(self.name, position.log_lines, position.step)
        self._log.write(
            position.step,
            self.name,
            event="rollback",
            fault=fault,
            fault_step=step,
            fault_loss=loss,
            attempt=position.attempt,
            lr_scale=position.lr_scale,
        )
        self._trust()

    # --- the state ----------------------------------------------------------------------------

    def _identity(self) -> StateDict:
        return {
            "name": self.name,
            "seed": self._seed,
            "epochs": self._epochs,
            "steps_per_epoch": self._steps_per_epoch,
            "parts": self._snapshots.parts,
        }

    def _trust(self) -> None:
        """Copy a state that is known to be sound, and its place in the log."""
        self._position.log_lines = self._log.lines(self.name)
        self._snapshots.trust(self._position)

    def _save_is_due(self) -> bool:
        trusted = self._snapshots.trusted.position.step
        if trusted // self._steps_per_epoch > self._saved_step // self._steps_per_epoch:
            return True
        if self._save_every_steps is not None:
            return trusted - self._saved_step >= self._save_every_steps
        return time.monotonic() - self._saved_time >= self._save_every_seconds

    def _save(self) -> None:
        """Write the trusted state, unless it is on disk already."""
        trusted = self._snapshots.trusted
        if trusted.position.step == self._saved_step or not self._ranks.first:
            return
        position = dataclasses.asdict(trusted.position)
        save_checkpoint(self._checkpoint, {"run": self._identity(), "position": position, "parts": trusted.parts})
        self._saved_step = trusted.position.step
        self._saved_time = time.monotonic()

    def _start(self) -> None:
        self._log.cut(self.name, 0, 0)
        if self._ranks.first:
            discard_checkpoint(self._checkpoint)
        self._position = Position()
        self._trust()
        self._save()  # a place that cannot be written to fails now, not in an hour

    def _saved(self) -> StateDict | None:
        """What the first rank finds to resume from, on every rank."""
        saved: StateDict | None = None
        with self._ranks.together():
            if self._ranks.first and has_checkpoint(self._checkpoint):
                saved, warning = load_latest(self._checkpoint)
                if warning is not None:
                    self._say(warning)
        found: StateDict | None = self._ranks.from_first(saved)
        return found

    def _resume(self, saved: StateDict) -> None:
        identity = self._identity()
        for key, expected in identity.items():
            got = saved.get("run", {}).get(key)
            if got != expected:
                raise CheckpointError(
                    f"{self._checkpoint}: a checkpoint to resume must be of the same run, with {key}"
                    f" {expected!r}, but got {got!r}"
                )
        try:
            self._position = self._snapshots.restore(Snapshot(Position(**saved["position"]), saved["parts"]))
            self._unchecked = []
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            lines = [" ".join(line.split()) for line in str(error).splitlines()]
            reason = lines[min(1, len(lines) - 1)]  # after a title
            reason += f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
            must = "a checkpoint to resume must fit this run"
            raise CheckpointError(f"{self._checkpoint}: {must}, but got: {reason}") from error
        self._log.cut(self.name, self._position.log_lines, self._position.step)
        self._trust()
        self._saved_step = self._position.step
        self._say(f"{self.name}: resumed at step {self._position.step} of {self._total}")

    # --- the outside world --------------------------------------------------------------------

    def _note(self, signal_number: int) -> None:
        """Stop after the step; at the second signal at once."""
        if self._stop_signal is not None:
            raise TrainingInterrupted(self.name, signal_number, self._checkpoint)
        self._stop_signal = signal_number

    @contextmanager
    def _bar(self) -> Iterator[Callable[[], None]]:
        """A live progress bar, as a function that brings it up to date."""
        if not self._live:
            yield lambda: None
            return
        words, steps = TextColumn("{task.description}"), MofNCompleteColumn()
        columns = (words, BarColumn(), steps, TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(self.name, total=self._total, completed=self._position.step, loss="")

            def show() -> None:
                position = self._position
                epoch = min(position.step // self._steps_per_epoch + 1, self._epochs)
                means = {name: total / position.counts[name] for name, total in position.sums.items()}
                progress.update(
                    task,
                    completed=position.step,
                    description=f"{self.name} epoch {epoch}/{self._epochs}",
                    loss=in_words(means),
                )

            yield show

    def _say(self, line: str) -> None:
        print_line(self._console, line)
