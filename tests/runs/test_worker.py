"""Several processes on one search: a real PostgreSQL, real workers, real kills."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import sqlalchemy
import yaml
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from se_nas.cli.main import main
from se_nas.cost.table import count_tables
from se_nas.runs.prepare import make_setting
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.search.black_box.candidate import EnoughProposed
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.evaluation import Pruned
from se_nas.search.black_box.search import search_architectures, work
from se_nas.search.black_box.storage import hand_on
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from tests.helpers.command_lines import call
from tests.helpers.postgresql import Server, running_postgresql
from tests.helpers.tiny_runs import RUN, changed, read_json, write_run, write_yaml

ROOT = Path(__file__).resolve().parents[2]

#: Each evaluation takes about a second.
SEARCH = {
    "strategy": "optuna",
    "evaluator": "stand_alone",
    "max_evaluations": 8,
    "stand_alone": {"epochs": 8, "batch_size": 20},
    "heartbeat_seconds": 1,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgresql() as found:
        yield found


@pytest.fixture(autouse=True)
def _connections_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A study keeps its connections as long as its process lives; here none may outlive its test."""
    create, engines = sqlalchemy.engine.create_engine, []

    def remembered(*words: Any, **settings: Any) -> sqlalchemy.engine.Engine:
        engines.append(create(*words, **settings))
        return engines[-1]

    monkeypatch.setattr(sqlalchemy.engine, "create_engine", remembered)
    yield
    for engine in engines:
        engine.dispose()


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    run = changed(changed(RUN, "search", SEARCH), "retrain", None)
    return write_run(tmp_path, changed(run, "latency.table", False))


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    """A `se-nas` command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "se_nas", *map(str, words)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_search(run_file: Path, storage: str, *more: str) -> subprocess.Popen[str]:
    return start("search", run_file, "--out", run_file.parent / "out", "--quiet", *more, SE_NAS_STORAGE=storage)


def start_worker(run_file: Path, storage: str) -> subprocess.Popen[str]:
    return start("worker", run_file.parent / "out", "--quiet", SE_NAS_STORAGE=storage)


def stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return output


def wait_for(due: Callable[[], Any], processes: Sequence[subprocess.Popen[str]], seconds: float = 240) -> Any:
    """What `due` gives once it is true, while all processes live."""
    limit = time.monotonic() + seconds
    while not (found := due()):
        assert time.monotonic() < limit, "nothing happens"
        for process in processes:
            assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)
    return found


@functools.cache
def looked_into(storage: str) -> optuna.storages.RDBStorage:
    """The storage, for looking often; it holds no connection open."""
    return optuna.storages.RDBStorage(storage, engine_kwargs={"poolclass": NullPool})


def trials_of(run_file: Path, storage: str) -> list[FrozenTrial]:
    name = read_json(run_file.parent / "out/search/study.json")["study"]
    return optuna.load_study(study_name=name, storage=looked_into(storage)).get_trials(deepcopy=False)


def at_work(run_file: Path, storage: str, process: subprocess.Popen[str]) -> FrozenTrial | None:
    """What a process evaluates just now: its network has begun to be trained."""
    for trial in trials_of(run_file, storage):
        mine = trial.user_attrs.get("worker", {}).get("process") == process.pid
        if trial.state == TrialState.RUNNING and mine and "params" in trial.user_attrs:
            return trial
    return None


def kill_at_work(
    run_file: Path, storage: str, victim: subprocess.Popen[str], others: Sequence[subprocess.Popen[str]] = ()
) -> FrozenTrial:
    """Kill a process amid an evaluation, which is given back.

    It is halted before it is looked at once more, as it may have ended the evaluation since it was seen at it.
    """
    while True:
        wait_for(lambda: at_work(run_file, storage, victim), [*others, victim])
        victim.send_signal(signal.SIGSTOP)
        lost = at_work(run_file, storage, victim)
        if lost is not None:
            stop([victim])
            return lost
        victim.send_signal(signal.SIGCONT)


def files_with(folder: Path, word: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def check_whole(run_file: Path, storage: str, killed: Sequence[FrozenTrial]) -> None:
    """All evaluations are done, each once, and those of the killed as well."""
    out, trials = run_file.parent / "out", trials_of(run_file, storage)
    wanted = yaml.safe_load((out / "config.yaml").read_text())["search"]["max_evaluations"]
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE and "same_as" not in trial.user_attrs]
    networks = Counter(tuple(sorted(trial.params.items())) for trial in done)
    assert len(networks) == len(done) == wanted
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    for lost in killed:
        (again,) = [trial for trial in done if trial.params == lost.params]
        assert lost.number in again.system_attrs["retry_history"]
        assert trials[lost.number].state == TrialState.FAIL
        assert again.user_attrs["worker"] != lost.user_attrs["worker"]
    result = read_json(out / "result.json")
    assert result["search"]["distinct"] == wanted
    saved = read_json(out / "search/evaluations.json")["evaluations"]
    assert Counter(entry["state"] for entry in saved)["complete"] >= wanted


def refused(capsys: pytest.CaptureFixture[str], *words: object, storage: str | None = None) -> str:
    """The one line that a command, with this storage in the environment, prints before it ends with code 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SE_NAS_STORAGE", raising=False)
        if storage is not None:
            patch.setenv("SE_NAS_STORAGE", storage)
        patch.setattr(sys, "argv", ["se-nas", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
    printed, complaint = capsys.readouterr()
    errors = complaint.splitlines()
    assert stopped.value.code == 2, errors
    assert "cr3t" not in printed  # of every password here
    assert len(errors) == 1, errors
    return errors[0]


@pytest.fixture
def begun(run_file: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """The folder of a run that has just begun on a storage, and the storage."""
    storage, out = server.new_database(), run_file.parent / "out"

    class Stopped(Exception):
        pass

    def stopped(*_: object) -> None:
        raise Stopped

    config = load_run(run_file)
    with monkeypatch.context() as patch:
        patch.setattr("se_nas.search.black_box.strategy.prepare", stopped)
        with pytest.raises(Stopped):
            run_search(run_file, config, out, resume=False, progress=False, say=print, storage=storage)
    return out, storage


def test_of_four_workers_two_are_killed_and_nothing_is_lost(
    begun: tuple[Path, str], run_file: Path, server: Server
) -> None:
    _, storage = begun
    # at one moment, so that none is done before another is there
    leader = start_search(run_file, storage, "--resume")
    survivor, *victims = (start_worker(run_file, storage) for _ in range(3))
    killed: list[FrozenTrial] = []
    try:
        for victim in victims:
            killed.append(kill_at_work(run_file, storage, victim, [leader, survivor]))
        done_here = finish(survivor)
        finish(leader)
    finally:
        stop([leader, survivor, *victims])
    assert [victim.returncode for victim in victims] == [-signal.SIGKILL] * 2
    check_whole(run_file, storage, killed)
    done = [trial for trial in trials_of(run_file, storage) if trial.state == TrialState.COMPLETE]
    by_worker = Counter(trial.user_attrs["worker"]["process"] for trial in done if "same_as" not in trial.user_attrs)
    # and more where a busy machine took it for dead, so that another evaluated the same
    told = re.search(r"(\d+) evaluations? (?:was|were) done here", done_here)
    assert told is not None
    assert int(told[1]) >= by_worker[survivor.pid]
    assert by_worker[leader.pid] + by_worker[survivor.pid] > 0
    assert files_with(run_file.parent, server.password) == []


def commands_of(process: subprocess.Popen[str]) -> list[str]:
    """What every user of the machine can read of a process and those that it started."""
    whole = psutil.Process(process.pid)
    return [word for p in [whole, *whole.children(recursive=True)] for word in p.cmdline()]


def test_a_storages_password_is_in_no_file_word_or_process_list_of_any_command(
    run_file: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, out = server.new_database(), run_file.parent / "out"
    assert server.password in storage
    leader = start_search(run_file, storage)
    try:
        wait_for((out / "search/study.json").exists, [leader])
        seen = commands_of(leader)
        said, errors = leader.communicate(timeout=240)
    finally:
        stop([leader])
    assert leader.returncode == 0, errors
    monkeypatch.setenv("SE_NAS_STORAGE", storage)
    for words in (
        ("search", run_file, "--out", out, "--resume", "--quiet"),
        ("worker", out, "--quiet"),
        ("report", out),
        ("decode", out, "--budget", "macs=85k"),
        ("compare", out, out, "--out", out / "compare.html"),
        ("evidence", out, "--part", "ledger", "--finished-only", "--quiet"),
        ("excitation", out),
        ("export", out / "retrain"),
        ("worker", out, "--device", "none"),
    ):
        call(*words)  # some of them refuse a run without a retraining
    told = capsys.readouterr()
    for words in (seen, said, errors, told.out, told.err):
        assert server.password not in str(words)
    assert "study" in str(read_json(out / "search/study.json"))
    assert files_with(run_file.parent, server.password) == []


@pytest.mark.slow
def test_a_killed_leader_goes_on_with_the_same_study(
    run_file: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, out = server.new_database(), run_file.parent / "out"
    write_yaml(run_file, changed(yaml.safe_load(run_file.read_text()), "search.max_evaluations", 3))
    # a first try with a wrong password leaves a run that can be resumed
    refused(capsys, "search", run_file, "--out", out, "--quiet", storage=server.url(password="s3cr3t"))
    leader = start_search(run_file, storage, "--resume")
    study = out / "search/study.json"
    try:
        wait_for(study.exists, [leader])
        lost = kill_at_work(run_file, storage, leader)
    finally:
        stop([leader])
    before = study.read_text()
    again = start_search(run_file, storage, "--resume")
    try:
        finish(again)
    finally:
        stop([again])
    assert study.read_text() == before
    check_whole(run_file, storage, [lost])
    assert len(optuna.get_all_study_names(storage)) == 1


# ---- what the study does for several workers

Opener = Callable[..., ArchitectureStudy]


@pytest.fixture
def open_study(server: Server, tiny_space: SearchSpace) -> Iterator[Opener]:
    """Opens one and the same study, as each worker does."""
    storage, opened = server.new_database(), []

    def opener(**settings: Any) -> ArchitectureStudy:
        config = OptunaConfig(heartbeat_seconds=1, **settings)
        opened.append(ArchitectureStudy("study", tiny_space, (), count_tables(tiny_space), config, 0, url=storage))
        return opened[-1]

    yield opener
    for study in opened:
        for heartbeat in study._heartbeats.values():
            heartbeat.stop()


def die(study: ArchitectureStudy) -> None:
    """What a kill does to a worker's evaluations."""
    for heartbeat in study._heartbeats.values():
        heartbeat.stop()


def frozen(study: ArchitectureStudy, number: int) -> FrozenTrial:
    return study._study.get_trials(deepcopy=False)[number]


def test_of_two_proposals_of_one_architecture_the_first_is_evaluated(
    open_study: Opener, tiny_space: SearchSpace
) -> None:
    first, second = open_study(), open_study()
    picks = next(iter(tiny_space.enumerate())).as_dict()
    for _ in range(3):
        first._study.enqueue_trial(picks)
    taken, other = first.ask(), second.ask()
    assert taken.architecture.as_dict() == picks
    assert taken.number == 0
    assert other.architecture != taken.architecture
    assert [(e.number, e.state, e.same_as) for e in first.evaluations()] == [
        (0, "running", None),
        (1, "failed", 0),
        (2, "failed", 0),
        (other.number, "running", None),
    ]
    first.tell(taken.number, 0.5)
    first._study.enqueue_trial(picks)
    again = second.ask()
    assert again.architecture not in (taken.architecture, other.architecture)
    known = second.evaluations()[-2]
    assert (known.state, known.accuracy, known.same_as) == ("complete", 0.5, 0)
    assert second.count() == 1


def test_several_workers_evaluate_as_many_as_are_wanted_and_no_more(open_study: Opener) -> None:
    first, second = open_study(), open_study()
    one, two = first.ask(at_most=2), second.ask(at_most=2)
    for _ in range(2):
        with pytest.raises(EnoughProposed):
            second.ask(at_most=2)
    assert first.running() == [one.number, two.number]
    first.tell(one.number, None, state="failed")
    three = second.ask(at_most=2)
    second.tell(two.number, 0.5)
    second.tell(three.number, 0.6)
    with pytest.raises(EnoughProposed):
        first.ask(at_most=2)
    assert first.count() == 2
    assert len(first.evaluations()) == 3  # what was given back at once was no proposal


@pytest.mark.slow
def test_dead_workers_evaluations_are_taken_again_also_of_those_that_died_before_a_first_beat(
    open_study: Opener,
) -> None:
    dead, living = open_study(), open_study()
    lost = dead.ask()
    die(dead)
    unborn = dead._storage.create_new_trial(dead._study._study_id)  # killed right after
    limit = time.monotonic() + 30
    while living.waiting < 2:
        assert time.monotonic() < limit
        living.reap()
        time.sleep(0.1)
    found = [living.ask(), living.ask()]
    assert lost.architecture in [candidate.architecture for candidate in found]
    assert {frozen(living, lost.number).state, living._storage.get_trial(unborn).state} == {TrialState.FAIL}
    assert {candidate.number for candidate in found} == {2, 3}
    for _ in range(8):  # the living are left alone
        time.sleep(0.5)
        living.reap()
    assert living.running() == [2, 3]
    # who takes over may die as well, even before a beat of its own
    die(living)
    third = open_study()
    limit = time.monotonic() + 30
    while third.waiting < 2:
        assert time.monotonic() < limit
        third.reap()
        time.sleep(0.1)
    (again,) = [c for c in (third.ask(), third.ask()) if c.architecture == lost.architecture]
    history = frozen(third, again.number).system_attrs["retry_history"]
    assert history[0] == lost.number
    assert len(history) == 2


def test_a_repetition_whose_worker_dies_before_its_first_beat_is_taken_again(
    open_study: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study()
    lost = study.ask()
    die(study)
    study._heartbeats.clear()
    other = open_study()
    hand_on(other._study, frozen(other, lost.number))
    (repetition,) = other._study.get_trials(states=(TrialState.WAITING,))  # has all that the first wrote of itself
    assert "worker" in repetition.user_attrs
    other._storage.set_trial_state_values(repetition._trial_id, TrialState.RUNNING)  # taken, and its taker dies
    monkeypatch.setattr(other._dead, "_grace", 0)
    other.reap()
    time.sleep(0.05)
    other.reap()
    assert other.ask().architecture == lost.architecture


def test_two_workers_that_find_one_death_hand_on_once(open_study: Opener) -> None:
    first, second = open_study(), open_study()
    lost = first.ask()
    die(first)
    seen = [frozen(study, lost.number) for study in (first, second)]
    hand_on(first._study, seen[0])
    hand_on(second._study, seen[1])
    assert first.waiting == second.waiting == 1


def test_a_worker_that_slept_gives_way_to_the_one_that_has_its_evaluation(open_study: Opener) -> None:
    asleep, awake = (open_study(evaluator="stand_alone", pruner="successive_halving") for _ in range(2))
    lost = asleep.ask()
    hand_on(awake._study, frozen(awake, lost.number))
    again = awake.ask()
    assert again.architecture == lost.architecture
    with pytest.raises(Pruned):
        asleep.tell_epoch(lost.number, 0, 0.5)
    asleep.tell(lost.number, None, state="pruned")
    awake.tell(again.number, 0.7)
    assert [e.state for e in asleep.evaluations()] == ["failed", "complete"]


def test_a_search_works_through_what_dead_workers_left(open_study: Opener) -> None:
    dead = open_study()
    lost = [dead.ask().architecture for _ in range(3)]
    die(dead)
    asked: list[Architecture] = []

    def evaluate(architecture: Architecture) -> float:
        asked.append(architecture)
        return 0.5

    worked = work(open_study(), evaluate, 5, progress=False)
    assert worked.evaluated == len(asked) == len(set(asked)) == 5
    assert set(lost) <= set(asked)


# ---- what a user can get wrong


def test_a_storage_that_is_out_of_reach_is_told_in_one_line(
    run_file: Path, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        faults = {
            f"postgresql+psycopg://me:hidcr3t@127.0.0.1:{port}/x": "refused",
            server.url(password="s3cr3t"): "password authentication failed",
            server.url("nowhere"): "nowhere",
            "somewhere": "must be a URL",
            "postgresql+psycopg://me:s3@cr3t@127.0.0.1:port/x": "must be a URL",
            "nothing+nobody://me:hidcr3t@host/x": "must be a URL",
            f"postgresql+psycopg://127.0.0.1:{port}/x?user=me&password=s3cr3t": "refused",
        }
        for number, (url, words) in enumerate(faults.items()):
            out = run_file.parent / f"out{number}"
            line = refused(capsys, "search", run_file, "--out", out, "--quiet", storage=url)
            assert words in line
            assert not any(secret in line for secret in ("s3cr3t", "s3@cr3t", "cr3t@", server.password))
            assert ("***" in line) == (url != "somewhere")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    line = refused(capsys, "search", run_file, "--out", run_file.parent / "driver", storage=server.url())
    assert "psycopg is missing" in line
    assert "pip install 'se-nas[postgresql]'" in line
    assert files_with(run_file.parent, "s3cr3t") == files_with(run_file.parent, server.password) == []


def test_a_password_on_the_command_line_is_refused_before_anything_is_written(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql+psycopg://me:s3cr3t@host/x"
    for command in (("search", run_file, "--out", run_file.parent / "out"), ("worker", run_file.parent)):
        line = refused(capsys, *command, "--storage", url)
        assert "SE_NAS_STORAGE" in line
        assert "PGPASSWORD" in line
        assert "postgresql+psycopg://me:***@host/x" in line
        assert "s3cr3t" not in line
    assert not (run_file.parent / "out").exists()


def test_a_url_without_a_password_finds_it_in_the_environment(
    begun: tuple[Path, str], server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, storage = begun
    bare = storage.replace(f":{server.password}@", "@")
    name = read_json(out / "search/study.json")["study"]
    (out / "search/study.json").write_text(json.dumps({"study": name, "shared": False}))
    monkeypatch.setenv("PGPASSWORD", server.password)
    assert "--storage must not be given" in refused(capsys, "worker", out, "--storage", bare)
    monkeypatch.setenv("PGPASSWORD", "another")
    (out / "search/study.json").write_text(json.dumps({"study": name, "shared": True}))
    assert "password authentication failed" in refused(capsys, "worker", out, "--storage", bare)


def test_a_worker_says_why_it_cannot_join(
    begun: tuple[Path, str], run_file: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    out, storage = begun
    capsys.readouterr()
    assert "must be the storage" in refused(capsys, "worker", out)
    assert "no config.yaml" in refused(capsys, "worker", out.parent, storage=storage)
    # a database without the study must not become one with a second study
    empty = server.new_database()
    line = refused(capsys, "worker", out, storage=empty)
    assert read_json(out / "search/study.json")["study"] in line
    assert server.password not in line
    assert optuna.get_all_study_names(empty) == []

    study = out / "search/study.json"
    name = study.read_text()
    study.unlink()
    assert "has begun" in refused(capsys, "worker", out, storage=storage)
    study.write_text(name)

    other = yaml.safe_load((out / "space.yaml").read_text())
    other["stages"][0]["depth"] = [1]
    (out / "space.yaml").write_text(yaml.safe_dump(other))
    assert "space: must be that of this run" in refused(capsys, "worker", out, storage=storage)

    differentiable = write_run(run_file.parent / "differentiable", changed(RUN, "latency.table", False))
    setting = {"resume": False, "progress": False, "say": print}
    folder = make_setting(differentiable, load_run(differentiable), differentiable.parent / "out", **setting).run.path
    capsys.readouterr()
    assert "such as optuna, but is differentiable" in refused(capsys, "worker", folder, storage=storage)


def test_a_search_is_not_resumed_without_its_storage_nor_with_one_that_it_did_not_have(
    begun: tuple[Path, str], run_file: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    out, storage = begun
    capsys.readouterr()
    line = refused(capsys, "search", run_file, "--out", out, "--resume", "--quiet")
    assert "--storage must be given" in line
    assert not (out / "search/study.journal").exists()
    name = read_json(out / "search/study.json")["study"]
    (out / "search/study.json").write_text(json.dumps({"study": name, "shared": False}))
    for command in (("search", run_file, "--out", out, "--resume", "--quiet"), ("worker", out)):
        assert "--storage must not be given" in refused(capsys, *command, storage=storage)


@pytest.mark.slow
def test_a_storage_that_goes_away_in_the_middle_ends_the_search_with_one_line(run_file: Path) -> None:
    with running_postgresql() as server:
        storage = server.new_database()
        leader = start_search(run_file, storage)
        try:
            wait_for((run_file.parent / "out/search/study.json").exists, [leader])
            wait_for(lambda: at_work(run_file, storage, leader), [leader])
        except BaseException:
            stop([leader])
            raise
    _, errors = leader.communicate(timeout=240)
    assert leader.returncode == 2, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "the storage must be reachable" in line
    assert "Traceback" not in errors
    assert server.password not in errors


# ---- what shows a study


def test_optuna_dashboard_opens_the_study_in_a_runs_folder(tmp_path: Path, tiny_space: SearchSpace) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    file = tmp_path / "study.journal"
    config = OptunaConfig(objectives=("accuracy", "macs"), max_evaluations=6)
    result = search_architectures(tiny_space, (), lambda architecture: 0.5, config=config, file=file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", program, str(file), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def fetched(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    try:
        (summary,) = wait_for(lambda: fetched("studies"), [process])["study_summaries"]
        assert summary["study_name"] == tiny_space.name
        assert summary["directions"] == ["maximize", "minimize"]
        trials = fetched(f"studies/{summary['study_id']}?after=0")["trials"]
    finally:
        process.terminate()
        process.communicate()
    assert [trial["number"] for trial in trials] == [e.number for e in result.evaluations]
    assert {trial["state"] for trial in trials} == {"Complete"}
    for trial, evaluation in zip(trials, result.evaluations, strict=True):
        picks = {entry["name"]: entry["param_external_value"] for entry in trial["params"]}
        assert picks == {name: str(option) for name, option in evaluation.architecture.picks}
        assert [float(value) for value in trial["values"]] == [0.5, evaluation.costs["macs"]]
