from __future__ import annotations

import dataclasses
import io
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn

from se_nas.errors import CheckpointError, OutputError, TrainingError, TrainingInterrupted
from se_nas.hardware.distributed import Ranks
from se_nas.records.checkpoint import load_checkpoint, previous_path
from se_nas.records.run_log import RunLog, SilentLog, read_log
from se_nas.training.guard import GuardConfig
from se_nas.training.loop import Loop, StepContext
from se_nas.training.optimizer import WeightAverage

EPOCHS, STEPS = 3, 5
TOTAL = EPOCHS * STEPS
GUARD = GuardConfig(snapshot_every=2, window=4, spike_floor=0.0, spike_factor=50.0)
Fault = Callable[[StepContext, Tensor], Tensor]


def rate_of(step: int) -> float:
    return 0.05 * (1 + math.cos(math.pi * step / TOTAL))


class Run:
    """A tiny network with batch norm, dropout, momentum and an average: state of every kind, all of it random."""

    def __init__(
        self, folder: Path, *, before_step: Callable[[StepContext], None] | None = None, **options: Any
    ) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True)
        self.average = WeightAverage(self.model, 0.9)
        self.contexts: list[StepContext] = []
        self.screen = io.StringIO()
        self.folder = folder
        self._before_step = before_step
        self._fault: Fault | None = options.pop("fault", None)
        defaults: dict[str, Any] = {
            "name": "tiny",
            "epochs": EPOCHS,
            "steps_per_epoch": STEPS,
            "step": self.step,
            "end_epoch": self.end_epoch,
            "seed": 7,
            "guard": GUARD,
            "save_every_steps": 1,
            "log_every_steps": 2,
            "progress": False,
            "console": Console(file=self.screen, width=200),
            "checkpoint": folder / "checkpoint.pt",
            "state": {"model": self.model, "optimizer": self.optimizer, "average": self.average},
        }
        self._options = defaults | options

    def step(self, context: StepContext) -> dict[str, float | Tensor]:
        if self._before_step is not None:
            self._before_step(context)
        self.contexts.append(context)
        rate = rate_of(context.step) * context.lr_scale
        self.optimizer.param_groups[0]["lr"] = rate
        inputs = torch.randn(8, 4)
        targets = (inputs[:, 0] > 0).long()
        loss = nn.functional.cross_entropy(self.model(inputs), targets)
        if self._fault is not None:
            loss = self._fault(context, loss)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.update(context.step)
        return {"loss": loss, "rate": rate}

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        with torch.no_grad():
            return {"validation": self.average.module(torch.randn(8, 4)).mean(), "noise": torch.rand(()).item()}

    def run(self, resume: bool = False) -> list[dict[str, Any]]:
        with RunLog(self.folder) as log:
            self.loop = Loop(log=log, **self._options)
            return self.loop.run(resume)

    def state(self) -> dict[str, Tensor]:
        tensors = dict(self.model.state_dict())
        tensors.update({f"average {name}": value for name, value in self.average.module.state_dict().items()})
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors[f"momentum {index}"] = state["momentum_buffer"]
        return tensors


def _log(folder: Path) -> list[dict[str, Any]]:
    entries = read_log(folder / "log.jsonl")
    return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]


def _assert_same(first: Run, first_history: list[Any], second: Run, second_history: list[Any]) -> None:
    assert first_history == second_history
    assert _log(first.folder) == _log(second.folder)
    states = first.state(), second.state()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def _spike_once(at: int) -> Fault:
    """Multiplies the loss of one step by a thousand at the first attempt; its update wrecks the weights."""
    return lambda context, loss: loss * 1000 if (context.step, context.attempt) == (at, 0) else loss


@pytest.fixture(scope="module", params=["sound", "rollback"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Any], Any]:
    fault = _spike_once(8) if request.param == "rollback" else None
    run = Run(tmp_path_factory.mktemp("reference"), fault=fault)
    return run, run.run(), fault


# --- the plain run ------------------------------------------------------------------------------


def test_history_log_and_contexts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    history = run.run()
    assert [(entry.epoch, entry.step) for entry in history] == [(0, 5), (1, 10), (2, 15)]
    assert all(type(value) in (int, float) for entry in history for value in entry.plain().values())
    assert history[0].plain().keys() == {"epoch", "step", "loss", "rate", "validation", "noise"}
    expected_rate = sum(map(rate_of, range(5, 10))) / 5
    assert history[1].of("rate") == pytest.approx(expected_rate)
    assert [context.step for context in run.contexts] == list(range(TOTAL))
    assert [(c.epoch, c.step_in_epoch) for c in run.contexts] == [(s // STEPS, s % STEPS) for s in range(TOTAL)]
    assert len({context.seed for context in run.contexts}) == TOTAL
    assert [(e["event"], e["step"]) for e in _log(tmp_path)] == [
        *[("step", 2), ("step", 4), ("epoch", 5), ("step", 6), ("step", 8), ("step", 10), ("epoch", 10)],
        *[("step", 12), ("step", 14), ("epoch", 15)],
    ]
    screen = run.screen.getvalue()
    assert screen.count("\n") == EPOCHS
    assert re.search(r"tiny: epoch 1/3, about \d+ s left: loss", screen)
    assert "tiny: epoch 3/3: loss" in screen


def test_the_last_checkpoint_holds_the_trained_state(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.run()
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert saved["position"]["step"] == TOTAL
    for name, value in run.model.state_dict().items():
        assert torch.equal(saved["parts"]["model"][name], value)


def test_another_seed_or_name_gives_other_numbers(tmp_path: Path) -> None:
    histories = [
        Run(tmp_path / str(index), **options).run()
        for index, options in enumerate([{}, {"seed": 8}, {"name": "other"}])
    ]
    assert len({history[-1].loss for history in histories}) == 3


def test_what_end_epoch_draws_does_not_depend_on_what_steps_draw(tmp_path: Path) -> None:
    plain, greedy = Run(tmp_path / "plain"), Run(tmp_path / "greedy")

    def step(context: StepContext) -> dict[str, float | Tensor]:
        metrics = greedy.step(context)
        torch.rand(3)
        return metrics

    greedy._options["step"] = step
    assert plain.run() == greedy.run()


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    Run(tmp_path, progress=True, console=console).run()
    assert "15/15" in screen.getvalue()
    assert "epoch 3/3" in screen.getvalue()


def test_a_metric_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not repeat a metric of step, but returned rate"):
        Run(tmp_path, end_epoch=lambda epoch: {"rate": 1.0}).run()


def test_a_place_that_cannot_be_written_fails_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = Run(tmp_path, checkpoint=tmp_path / "file" / "checkpoint.pt")
    with pytest.raises(OutputError, match="must be writable"):
        run.run()
    assert run.contexts == []


def test_a_fresh_run_forgets_the_old_one(tmp_path: Path) -> None:
    Run(tmp_path, seed=1).run()
    run = Run(tmp_path)
    history = run.run(resume=False)
    again = Run(tmp_path / "again")
    _assert_same(run, history, again, again.run())


# --- resuming -----------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, TOTAL - 1), min_size=1, max_size=3), st.sampled_from([KeyboardInterrupt, OSError]))
def test_interrupted_anywhere_and_resumed_equals_uninterrupted(
    reference: tuple[Run, list[Any], Any], stops: list[int], error: type[BaseException]
) -> None:
    expected, expected_history, fault = reference
    with tempfile.TemporaryDirectory() as folder:
        for stop in sorted(stops):

            def stop_here(context: StepContext, stop: int = stop) -> None:
                if context.step == stop:
                    raise error("stop")

            with pytest.raises(error):
                Run(Path(folder), fault=fault, before_step=stop_here).run(resume=True)
        run = Run(Path(folder), fault=fault)
        history = run.run(resume=True)
        assert run.contexts[0].step >= max(stops) - 2 * GUARD.snapshot_every
        _assert_same(run, history, expected, expected_history)


def test_an_error_in_end_epoch_loses_nothing(tmp_path: Path, reference: tuple[Run, list[Any], Any]) -> None:
    expected, expected_history, fault = reference

    def fail(epoch: int) -> dict[str, Any]:
        raise OSError("no validation set")

    with pytest.raises(OSError, match="no validation set"):
        Run(tmp_path, fault=fault, end_epoch=fail).run()
    run = Run(tmp_path, fault=fault)
    _assert_same(run, run.run(resume=True), expected, expected_history)


def test_resuming_a_finished_run_does_no_step(tmp_path: Path) -> None:
    history = Run(tmp_path).run()
    run = Run(tmp_path)
    assert run.run(resume=True) == history
    assert run.contexts == []


def test_the_time_of_a_training_survives_its_process(tmp_path: Path) -> None:
    first = Run(tmp_path)
    first.run()
    resumed = Run(tmp_path)
    resumed.run(resume=True)
    assert resumed.loop.seconds == pytest.approx(first.loop.seconds)
    assert resumed.loop.seconds > 0


def test_warnings_of_an_epoch_are_said(tmp_path: Path) -> None:
    run = Run(tmp_path, end_epoch=lambda epoch: {"warnings": ["the kettle boils"] if epoch == 1 else []})
    run.run()
    assert run.screen.getvalue().count("tiny: epoch 2: warning: the kettle boils") == 1


def test_resuming_from_the_previous_checkpoint_warns_and_equals(
    tmp_path: Path, reference: tuple[Run, list[Any], Any]
) -> None:
    expected, expected_history, fault = reference
    Run(tmp_path, fault=fault).run()
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    run = Run(tmp_path, fault=fault)
    history = run.run(resume=True)
    assert "reading the previous one instead" in run.screen.getvalue()
    assert run.contexts
    _assert_same(run, history, expected, expected_history)


def test_without_a_whole_checkpoint_resuming_is_an_error(tmp_path: Path) -> None:
    Run(tmp_path).run()
    for path in (tmp_path / "checkpoint.pt", previous_path(tmp_path / "checkpoint.pt")):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        Run(tmp_path).run(resume=True)


@pytest.mark.parametrize(
    ("options", "what"), [({"seed": 8}, "seed 8, but got 7"), ({"name": "x"}, "name"), ({"epochs": 9}, "epochs 9")]
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    Run(tmp_path).run()
    with pytest.raises(CheckpointError, match=what):
        Run(tmp_path, **options).run(resume=True)


def test_the_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.run()
    other = Run(tmp_path)
    other.model[4] = nn.Linear(8, 5)
    with pytest.raises(CheckpointError, match=r"must fit this run, but got: size mismatch for 4\.weight") as caught:
        other.run(resume=True)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("(and 1 more)")  # its bias


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_can_be_resumed(
    tmp_path: Path, reference: tuple[Run, list[Any], Any], number: signal.Signals
) -> None:
    expected, expected_history, fault = reference
    before = signal.getsignal(number)

    def send(context: StepContext) -> None:
        if context.step == 6:
            os.kill(os.getpid(), number)

    stopped = Run(tmp_path, fault=fault, before_step=send, save_every_steps=1000)
    with pytest.raises(TrainingInterrupted, match=f"stopped by {number.name}; resume from") as caught:
        stopped.run()
    assert caught.value.signal_number == number
    assert len(stopped.contexts) == 7  # the step was finished
    assert signal.getsignal(number) is before
    assert load_checkpoint(tmp_path / "checkpoint.pt")["position"]["step"] >= 4
    run = Run(tmp_path, fault=fault)
    _assert_same(run, run.run(resume=True), expected, expected_history)


def test_runs_in_another_thread_without_touching_signals(tmp_path: Path) -> None:
    histories: list[Any] = []
    thread = threading.Thread(target=lambda: histories.append(Run(tmp_path).run()))
    thread.start()
    thread.join()
    assert len(histories[0]) == EPOCHS


def test_killed_at_random_moments_and_resumed_equals_uninterrupted(
    tmp_path: Path, reference: tuple[Run, list[Any], Any]
) -> None:
    expected, expected_history, fault = reference
    rng = random.Random(3)
    mode = "rollback" if fault else "sound"
    kills = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, __file__, str(tmp_path), mode])
        lines_before = len(_log(tmp_path)) if (tmp_path / "log.jsonl").exists() else 0
        while process.poll() is None:  # until it has come a little further
            if (tmp_path / "log.jsonl").exists() and len(_log(tmp_path)) > lines_before + 2:
                break
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.06))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills
    run = Run(tmp_path, fault=fault)
    _assert_same(run, run.run(resume=True), expected, expected_history)


# --- the guard ----------------------------------------------------------------------------------


def _nan_once(at: int) -> Fault:
    return lambda context, loss: loss * math.nan if (context.step, context.attempt) == (at, 0) else loss


@pytest.mark.parametrize("check_every", [1, 3])
@pytest.mark.parametrize("at", [0, 4, 5, 9, TOTAL - 1])
def test_a_nan_is_rolled_back_and_training_goes_on(tmp_path: Path, at: int, check_every: int) -> None:
    run = Run(tmp_path, fault=_nan_once(at), guard=dataclasses.replace(GUARD, check_every=check_every))
    history = run.run()
    assert [entry.epoch for entry in history] == [0, 1, 2]
    assert all(torch.isfinite(value).all() for value in run.state().values())
    assert run.contexts[-1].lr_scale == 0.5
    assert run.contexts[-1].attempt == 1
    (rollback,) = [entry for entry in _log(tmp_path) if entry["event"] == "rollback"]
    assert (rollback["fault_step"], rollback["fault_loss"]) == (at, "nan")
    assert at - 2 * GUARD.snapshot_every <= rollback["step"] <= at
    assert "non-finite loss" in run.screen.getvalue()
    assert [entry["step"] for entry in _log(tmp_path) if entry["event"] == "step"] == [2, 4, 6, 8, 10, 12, 14]


def _spoil_after(run: Run, at: int, factor: float) -> Callable[[StepContext], dict[str, float | Tensor]]:
    """The run's step, whose update at step `at` of the first attempt multiplies weights; its loss is sound."""

    def step(context: StepContext) -> dict[str, float | Tensor]:
        metrics = run.step(context)
        if (context.step, context.attempt) == (at, 0):
            with torch.no_grad():
                run.model[4].weight.mul_(factor)
        return metrics

    return step


def test_a_spike_is_rolled_back(tmp_path: Path) -> None:
    run = Run(tmp_path, fault=_spike_once(8))
    run.run()
    (rollback,) = [entry for entry in _log(tmp_path) if entry["event"] == "rollback"]
    assert (rollback["fault_step"], rollback["step"], rollback["lr_scale"]) == (8, 6, 0.5)
    assert "above 50 times the running median" in rollback["fault"]


def test_a_snapshot_of_a_wrecked_state_is_never_trusted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run._options["step"] = _spoil_after(run, at=7, factor=-1e6)  # a snapshot falls due right after step 7
    run.run()
    (rollback,) = [entry for entry in _log(tmp_path) if entry["event"] == "rollback"]
    assert (rollback["fault_step"], rollback["step"]) == (8, 6)
    assert run.model[4].weight.abs().max() < 100


def test_an_update_to_nan_is_seen_even_after_the_last_loss(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run._options["step"] = _spoil_after(run, at=TOTAL - 1, factor=math.nan)
    run.run()
    assert "the updated state holds NaN (nan) at step 14; back to step 14" in run.screen.getvalue()
    assert all(torch.isfinite(value).all() for value in run.state().values())


def test_a_tiny_loss_may_jump(tmp_path: Path) -> None:
    guard = dataclasses.replace(GUARD, spike_floor=1e6)
    run = Run(tmp_path, fault=_spike_once(8), guard=guard)
    run.run()
    assert run.contexts[-1].attempt == 0


def test_a_lasting_nan_is_a_training_error_in_one_line(tmp_path: Path) -> None:
    run = Run(tmp_path, fault=lambda context, loss: loss * math.nan if context.step >= 6 else loss)
    with pytest.raises(TrainingError, match=r"non-finite loss \(nan\) at step 6 after 5 rollbacks") as caught:
        run.run()
    assert "\n" not in str(caught.value)
    assert run.contexts[-1].lr_scale == 0.5**5
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(torch.isfinite(value).all() for value in saved["parts"]["model"].values())


def test_attempts_see_other_random_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path, fault=_nan_once(5))
    run.run()
    seeds = [context.seed for context in run.contexts if context.step == 5]
    assert len(seeds) == len(set(seeds)) == 2


# --- several ranks ------------------------------------------------------------------------------


class TwoRanks(Ranks):
    """This rank beside one that is always the same: its losses are 3, and it has the signal `asked`."""

    asked = 0

    def mean(self, values: Sequence[float]) -> list[float]:
        return [(value + 3.0) / 2 for value in values]

    def greatest(self, value: int) -> int:
        return max(value, self.asked)

    def gathered(self, value: Any) -> list[Any]:
        return [value, None]

    def from_first(self, value: Any) -> Any:
        return value


def test_metrics_are_means_over_the_ranks(tmp_path: Path) -> None:
    alone, together = Run(tmp_path / "alone"), Run(tmp_path / "together", ranks=TwoRanks(0, 2))
    histories = alone.run(), together.run()
    for one, mean in zip(*histories, strict=True):
        assert mean.loss == pytest.approx((one.loss + 3) / 2)
    assert all(torch.equal(value, together.state()[name]) for name, value in alone.state().items())


def test_only_the_first_rank_writes_and_speaks(tmp_path: Path) -> None:
    run = Run(tmp_path / "second", ranks=TwoRanks(1, 2))
    run._options["log"] = SilentLog()
    loop = Loop(**run._options)
    loop.run(False)
    assert len(run.contexts) == TOTAL
    assert run.screen.getvalue() == ""
    assert not (tmp_path / "second").exists()


def test_a_signal_to_another_rank_stops_this_one_where_the_losses_are_looked_at(tmp_path: Path) -> None:
    ranks = type("Asked", (TwoRanks,), {"asked": int(signal.SIGTERM)})(0, 2)
    run = Run(tmp_path, ranks=ranks, guard=GuardConfig(check_every=3, snapshot_every=100))
    with pytest.raises(TrainingInterrupted, match="stopped by SIGTERM"):
        run.run()
    assert len(run.contexts) == 3


if __name__ == "__main__":  # the child of the kill test
    torch.set_num_threads(1)
    Run(
        Path(sys.argv[1]),
        fault=_spike_once(8) if sys.argv[2] == "rollback" else None,
        before_step=lambda context: time.sleep(0.02),
    ).run(resume=True)
