"""The search with any function: when it ends, what it survives, and that a killed one goes on as if it had not been."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import ArchitectureError, ConfigError, TrainingError, TrainingInterrupted
from se_nas.search.black_box import search as optuna_search
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Unjudged
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.black_box.search import FAILURES, BlackBoxResult, search_architectures
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from tests.search.known_worth import Rising, binding, feasible, worth

ROOT = Path(__file__).resolve().parents[3]


def numbers(found: BlackBoxResult) -> list[tuple[Any, ...]]:
    """All of a search that no clock made."""
    return [
        (e.number, e.architecture, e.state, e.accuracy, e.costs, e.excess, e.same_as, e.curve)
        for e in found.evaluations
    ]


def search(
    space: SearchSpace,
    file: Path | None,
    evaluate: Any = worth,
    most: int = 14,
    share: float = 0.5,
    seed: int = 0,
    **fields: Any,
) -> BlackBoxResult:
    config = OptunaConfig(**{"population": 4, "max_evaluations": most, **fields})
    budgets = binding(space, share)
    first = [feasible(space, budgets)[3], max(space.enumerate(), key=worth)]  # the second breaks the budgets
    return search_architectures(space, budgets, evaluate, config=config, seed=seed, file=file, enqueue=first)


HALVING = {"sampler": "nsga2", "evaluator": "stand_alone", "pruner": "successive_halving"}
SEARCHES: dict[str, tuple[dict[str, Any], Any]] = {
    **{name: ({"sampler": name}, worth) for name in SAMPLERS},
    "gp": ({"sampler": "gp", "max_evaluations": 12}, worth),  # each proposal after the tenth is dear
    "two objectives": ({"objectives": ["accuracy", "macs"]}, worth),
    "nsga3, two objectives": ({"sampler": "nsga3", "objectives": ["accuracy", "params"]}, worth),
    "any": ({"sampler": "nsga2", "proposals": "any"}, worth),
    "halving": (HALVING, Rising(5)),
    "hyperband": ({**HALVING, "pruner": "hyperband", "stand_alone": {"epochs": 5}}, Rising(5)),
}


def resumed_at(space: SearchSpace, journal: bytes, end: int, file: Path, name: str) -> list[tuple[Any, ...]]:
    """The numbers of a search that was killed when its study's file had so many bytes, and is resumed."""
    file.write_bytes(journal[:end])
    file.with_name(f"{file.name}.sum").unlink(
        missing_ok=True
    )  # an earlier search's: a kill leaves none of what follows
    fields, evaluate = SEARCHES[name]
    return numbers(search(space, file, evaluate, **fields))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_killed_at_any_byte_goes_on_as_if_it_had_not_been(
    tiny_space: SearchSpace, tmp_path: Path, name: str
) -> None:
    """Of GP alone less holds: killed just as it has made a proposal, it makes another one in its place."""
    fields, evaluate = SEARCHES[name]
    whole = numbers(search(tiny_space, tmp_path / "whole.journal", evaluate, **fields))
    journal = (tmp_path / "whole.journal").read_bytes()
    ends = [i + 1 for i, byte in enumerate(journal) if byte == ord("\n")]
    rng = random.Random(int(os.environ.get("SE_NAS_TEST_SEED", "0")))
    for end in rng.sample(range(len(journal)), 1) + rng.sample(ends, 1 if name == "gp" else 5):
        lines = journal[: journal.rfind(b"\n", 0, end) + 1].splitlines()
        if not (lines and b"gp:relative_params" in lines[-1]):
            assert resumed_at(tiny_space, journal, end, tmp_path / "cut.journal", name) == whole, end


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_killed_after_every_line_of_its_study(tiny_space: SearchSpace, tmp_path: Path, name: str) -> None:
    fields, evaluate = SEARCHES[name]
    whole = numbers(search(tiny_space, tmp_path / "whole.journal", evaluate, **fields))
    journal = (tmp_path / "whole.journal").read_bytes()
    for end in [i + 1 for i, byte in enumerate(journal) if byte == ord("\n")]:
        found = resumed_at(tiny_space, journal, end, tmp_path / "cut.journal", name)
        if b"gp:relative_params" not in journal[:end].splitlines()[-1]:
            assert found == whole, end
        else:
            assert all(entry[5]["macs"] <= 0 for entry in found[2:]), "a mixture of two proposals"


def test_a_finished_search_resumed_leaves_its_file_alone(tiny_space: SearchSpace, tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    first = search(tiny_space, file)
    before = file.read_bytes()
    again = search(tiny_space, file, refuse)
    assert again == first
    assert file.read_bytes() == before


def refuse(architecture: Architecture) -> float:
    raise AssertionError("nothing may be evaluated")


def test_more_evaluations_go_on_where_the_search_ended(tiny_space: SearchSpace, tmp_path: Path) -> None:
    search(tiny_space, tmp_path / "study.journal", most=6)
    assert numbers(search(tiny_space, tmp_path / "study.journal", most=14)) == numbers(search(tiny_space, None))


KILLED = """
import sys, time
from pathlib import Path
from se_nas.space.yaml.file import parse_space
from tests.conftest import TINY_SPACE
from tests.search.known_worth import worth
from tests.search.black_box.test_search import search

def slow_worth(architecture):
    time.sleep(0.02)
    return worth(architecture)

search(parse_space(TINY_SPACE, "tiny_space"), Path(sys.argv[1]), slow_worth, most=40, sampler="nsga3")
print("done")
"""


def start(file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], due: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while process.poll() is None and not due():
        assert time.monotonic() < limit, "the search makes no progress"
        time.sleep(0.002)


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def test_a_real_process_killed_twice_goes_on_as_if_it_had_not_been(tiny_space: SearchSpace, tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    rng = random.Random(int(os.environ.get("SE_NAS_TEST_SEED", "0")))
    for _ in range(2):
        begun, more = size(file), rng.randrange(2_000, 9_000)
        process = start(file)
        wait_for(process, lambda: size(file) > begun + more)  # noqa: B023
        process.kill()
        assert process.communicate()[0] == ""
        assert process.returncode == -signal.SIGKILL
    whole = search(tiny_space, None, most=40, sampler="nsga3")
    assert numbers(search(tiny_space, file, most=40, sampler="nsga3")) == numbers(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_a_search_with_a_word_on_its_study(
    tiny_space: SearchSpace, tmp_path: Path, number: signal.Signals
) -> None:
    file, evaluated = tmp_path / "study.journal", 0
    before = signal.getsignal(number)

    def stopped(architecture: Architecture) -> float:
        nonlocal evaluated
        evaluated += 1
        if evaluated == 5:
            os.kill(os.getpid(), number)
            time.sleep(5)
        return worth(architecture)

    with pytest.raises(TrainingInterrupted, match=f"search: stopped by {number.name}; resume from .*study.journal"):
        search(tiny_space, file, stopped)
    assert signal.getsignal(number) == before
    assert numbers(search(tiny_space, file)) == numbers(search(tiny_space, None))


def test_a_search_in_a_thread_of_its_own_leaves_signals_alone(tiny_space: SearchSpace) -> None:
    found: list[BlackBoxResult] = []
    thread = threading.Thread(target=lambda: found.append(search(tiny_space, None)))
    thread.start()
    thread.join()
    assert numbers(found[0]) == numbers(search(tiny_space, None))


def test_evaluations_that_fail_are_noted_and_others_take_their_place(
    tiny_space: SearchSpace, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def sometimes(architecture: Architecture) -> float:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise TrainingError("the loss is not finite")
        return math.nan if calls % 5 == 0 else worth(architecture)

    found = search(tiny_space, None, sometimes)
    states = [e.state for e in found.evaluations]
    assert states.count("complete") == 14
    assert states.count("failed") == calls - 14 == len(caplog.records) > 3
    assert {e.accuracy for e in found.evaluations if e.state == "failed"} == {None}
    assert "failed: the loss is not finite" in caplog.text
    assert "failed: accuracy must be finite, but got nan" in caplog.text


def test_a_search_gives_up_when_everything_fails(tiny_space: SearchSpace, tmp_path: Path) -> None:
    calls: list[Architecture] = []

    def fails(architecture: Architecture) -> float:
        calls.append(architecture)
        raise TrainingError("no")

    with pytest.raises(TrainingError, match=f"{FAILURES} evaluations in a row failed, the last one number 4"):
        search(tiny_space, tmp_path / "study.journal", fails)
    assert len(calls) == len(set(calls)) == FAILURES


def test_another_fault_of_the_evaluator_is_passed_on_and_its_evaluation_done_again(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    calls = 0

    def broken(architecture: Architecture) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise ArchitectureError("not in the table")
        return worth(architecture)

    with pytest.raises(ArchitectureError, match="not in the table"):
        search(tiny_space, tmp_path / "study.journal", broken)
    assert numbers(search(tiny_space, tmp_path / "study.journal")) == numbers(search(tiny_space, None))


def test_the_search_counts_what_it_evaluated_and_no_more(tiny_space: SearchSpace) -> None:
    calls: list[Architecture] = []

    def counted(architecture: Architecture) -> float:
        calls.append(architecture)
        return worth(architecture)

    found = search(tiny_space, None, counted, most=11)
    assert len(calls) == len(set(calls)) == len(found.evaluations) == 11
    assert not found.exhausted
    assert [e.number for e in found.evaluations] == list(range(11))
    assert all(e.accuracy == worth(e.architecture) for e in found.evaluations)
    infeasible = [e.number for e in found.evaluations if not e.feasible]
    assert infeasible == [1]  # it was enqueued, and is not the answer whatever it is worth
    assert found.best is not None
    assert found.best == max((e for e in found.evaluations if e.feasible), key=lambda e: e.accuracy or 0)


def test_a_progress_line_now_and_then_where_there_is_no_terminal(
    tiny_space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = OptunaConfig(max_evaluations=10)
    search_architectures(tiny_space, [], worth, config=config, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0].startswith("evaluations: 0/10")
    assert lines[-1].startswith("evaluations: 10/10 best ")


@pytest.mark.parametrize("accuracy", [93.5, -0.1, math.inf])
def test_an_accuracy_that_is_no_share_is_refused(tiny_space: SearchSpace, accuracy: float) -> None:
    if accuracy == math.inf:  # fails like a loss that is not finite
        with pytest.raises(TrainingError, match="in a row failed"):
            search(tiny_space, None, lambda architecture: accuracy)
        return
    hint = "; percent must be divided by 100" if accuracy > 1 else "$"
    told = f"evaluation 0: accuracy: must be a share from 0 to 1, but got {accuracy}{hint}"
    with pytest.raises(ConfigError, match=told):
        search(tiny_space, None, lambda architecture: accuracy)


def test_what_the_evaluator_does_not_know_fails_and_the_search_goes_on(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = set(list(tiny_space.enumerate())[::9])

    def partly(architecture: Architecture) -> float:
        if architecture not in known:
            raise Unjudged("not in the table")
        return worth(architecture)

    config = OptunaConfig(max_evaluations=1000, population=4)
    found = search_architectures(tiny_space, [], partly, config=config)
    assert {e.architecture for e in found.evaluations if e.complete} == known
    assert {e.architecture for e in found.evaluations if e.state == "failed"} == set(tiny_space.enumerate()) - known
    assert found.best is not None
    assert found.best.accuracy == max(map(worth, known))
    known = set()
    monkeypatch.setattr(optuna_search, "UNJUDGED", 12)
    with pytest.raises(TrainingError, match="12 proposals in a row could not be judged: not in the table"):
        search_architectures(tiny_space, [], partly, config=config)


@pytest.mark.parametrize("objectives", [["accuracy"], ["accuracy", "macs"]])
def test_the_front_is_that_of_brute_force_by_rising_cost(tiny_space: SearchSpace, objectives: list[str]) -> None:
    """With budgets on MACs and parameters, which a search for accuracy alone has for objectives of its front."""
    found = search(tiny_space, None, most=30, objectives=objectives)
    metrics = objectives[1:] or ["macs", "params"]
    allowed = [e for e in found.evaluations if e.complete and e.feasible]

    def beats(a: Any, b: Any) -> bool:
        pairs = [(-a.accuracy, -b.accuracy), *((a.costs[m], b.costs[m]) for m in metrics)]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    front = [e for e in allowed if not any(beats(other, e) for other in allowed)]
    assert {e.number for e in found.front} == {e.number for e in front}
    assert len(front) > 1
    costs = [[e.costs[m] for m in metrics] for e in found.front]
    assert costs == sorted(costs)
