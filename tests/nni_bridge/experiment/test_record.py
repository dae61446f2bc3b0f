"""Whatever stands in `nni.json`, no process is signalled that is not marked as the experiment's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.errors import ConfigError, SeNasError
from se_nas.nni_bridge.experiment import manager, processes
from se_nas.nni_bridge.experiment.processes import MARK, Listed, Machine, Owner, Signal, end_all, find_manager, select
from se_nas.nni_bridge.experiment.record import ExperimentRecord, find_experiment, read_experiment, write_experiment
from tests.nni_bridge.conftest import se_nas

ID, HOME, ME = "abcd1234", Path("/runs/one/nni"), 1000
OWNER = Owner(ID, HOME, frozenset({ME}), made_here=True)
RECORD: dict[str, Any] = {
    "format": "se_nas nni experiment",
    "version": 2,
    "id": ID,
    "port": 8080,
    "host": "localhost",
    "address": "127.0.0.1",
    "told": None,
    "pid": 4321,
    "started": 1.5e9,
    "state": "RUNNING",
    "before": None,
    "log_begin": 0,
    "digest": "0" * 64,
}
#: As se_nas 0.1 wrote it.
VERSION_1 = {
    **{key: RECORD[key] for key in ("format", "id", "port", "told", "pid", "state", "before", "log_begin")},
    "host": "127.0.0.1",
    "version": 1,
}


def listed(pid: int = 4321, started: float = 1.5e9, user: int = ME, *command: str, **environment: str) -> Listed:
    return Listed(pid, started, user, command, environment)


def ssh_trial(**changes: str) -> dict[str, str]:
    output = f"/home/me/nni-experiments/{ID}/environments/env/trials/xYz12"
    return {"NNI_EXP_ID": ID, "NNI_OUTPUT_DIR": output, **changes}


KEEPER = ("/nni_node/node", f"/home/me/nni-experiments/{ID}/environments/env/nni_node/trial_keeper/main.js")


# ---- which processes are the experiment's


def test_a_copy_of_a_folder_ends_nothing_of_the_original() -> None:
    """It has the original's id; processes that SSH started have no mark that would tell the two apart."""
    there = [Listed(7, 1.0, ME, ("python", "trial"), ssh_trial()), Listed(8, 1.0, ME, KEEPER, {})]
    assert select(there, OWNER) == there
    assert select(there, Owner(ID, Path("/copy/nni"), frozenset({ME}), made_here=False)) == []


def test_an_editor_of_the_keepers_file_is_no_keeper() -> None:
    assert select([Listed(8, 1.0, ME, ("vim", KEEPER[1]), {})], OWNER) == []


@pytest.mark.parametrize(
    ("process", "belongs"),
    [
        (listed(**{MARK: f"{ID}@{HOME}"}), True),
        (listed(**{MARK: f"{ID}@/runs/a_copy/nni"}), False),
        (listed(**{MARK: f"{ID}@/runs/a_copy/nni"}, **ssh_trial()), False),
        (listed(**{MARK: ""}, **ssh_trial()), False),
        (listed(user=ME + 1, **{MARK: f"{ID}@{HOME}"}), False),
        (listed(), False),
        (listed(NNI_EXP_ID=""), False),
        (listed(**ssh_trial()), True),
        (listed(**ssh_trial(NNI_EXP_ID="other123")), False),
        (listed(**ssh_trial(NNI_OUTPUT_DIR="/home/me/nni-experiments/other123/environments/env/trials/a")), False),
        (listed(NNI_EXP_ID=ID), False),
        (listed(4321, 1.5e9, ME + 1, **ssh_trial()), False),
        (listed(4321, 1.5e9, ME, *KEEPER), True),
        (listed(4321, 1.5e9, ME + 1, *KEEPER), False),
        (listed(4321, 1.5e9, ME, "vim", KEEPER[1].replace("main.js", "notes.txt")), False),
        (listed(4321, 1.5e9, ME, "python", KEEPER[1].replace(ID, "other123")), False),
    ],
)
def test_a_process_is_the_experiments_by_its_mark_or_by_the_experiments_remote_folder(
    process: Listed, belongs: bool
) -> None:
    assert select([process], OWNER) == ([process] if belongs else [])


@pytest.mark.parametrize("experiment", ["", "abc", "../../..", "abcd1234\n", "abcd 123", "a" * 9])
def test_there_is_no_owner_without_a_whole_id(experiment: str) -> None:
    with pytest.raises(ValueError, match="8 letters and digits"):
        Owner(experiment, HOME, frozenset({ME}), made_here=True)


class MadeUp:
    """A machine whose processes are made up; signals are written down, and end nothing unless told so."""

    def __init__(self, *now: Listed, ends: Signal | None = None) -> None:
        self.now = {process.pid: process for process in now}
        self.ends = ends
        self.sent: list[tuple[int, Signal]] = []

    def send(self, process: Listed, signal: Signal) -> None:
        self.sent.append((process.pid, signal))
        if signal == self.ends:
            del self.now[process.pid]

    def machine(self, *listing: Listed) -> Machine:
        return Machine(lambda: listing or tuple(self.now.values()), self.now.get, self.send)


MARKED = listed(**{MARK: f"{ID}@{HOME}"})


def test_a_process_that_ends_when_asked_is_not_killed() -> None:
    made_up = MadeUp(MARKED, listed(1234), ends="terminate")
    assert end_all(OWNER, made_up.machine(), patience=0.0) == []
    assert made_up.sent == [(MARKED.pid, "terminate")]


def test_a_process_that_does_not_end_is_killed_and_told_where_that_fails() -> None:
    made_up = MadeUp(MARKED)
    assert end_all(OWNER, made_up.machine(), patience=0.0, rounds=1) == [MARKED]
    assert made_up.sent == [(MARKED.pid, "terminate"), (MARKED.pid, "kill")]


@pytest.mark.parametrize("now", [listed(started=1.6e9, **MARKED.environment), listed()])
def test_a_number_that_is_another_processs_by_now_is_not_signalled(now: Listed) -> None:
    made_up = MadeUp(now)
    end_all(OWNER, made_up.machine(MARKED), patience=0.0)
    assert made_up.sent == []


@pytest.mark.parametrize(
    ("process", "started", "found"),
    [
        (listed(4321, 1.5e9, ME, "node", "main.js", ID, str(HOME), **MARKED.environment), 1.5e9, True),
        (listed(4321, 1.5e9, ME, "node", "main.js", ID, str(HOME), **MARKED.environment), None, True),
        (listed(4321, 1.5e9, ME, "node", "main.js", ID, str(HOME), **MARKED.environment), 1.5e9 + 60, False),
        (listed(4321, 1.5e9, ME, "node", "main.js", ID, str(HOME)), 1.5e9, False),
        (listed(4321, 1.5e9, ME, "node", "main.js", ID, "/runs/a_copy/nni", **MARKED.environment), 1.5e9, False),
        (listed(4321, 1.5e9, ME, "bash", **MARKED.environment), 1.5e9, False),
    ],
)
def test_the_manager_is_the_process_that_was_started_then(
    monkeypatch: pytest.MonkeyPatch, process: Listed, started: float | None, found: bool
) -> None:
    monkeypatch.setattr(processes, "look", MadeUp(process).now.get)
    assert find_manager(4321, started, OWNER) == (process if found else None)
    assert find_manager(None, started, OWNER) is None


# ---- what the file may hold

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=8), parts, max_size=3),
    max_leaves=6,
)
#: A record one of whose values, or more, are anything.
DAMAGED = st.builds(
    lambda record, changes: {**record, **changes},
    st.sampled_from([RECORD, VERSION_1]),
    st.dictionaries(st.sampled_from(sorted(RECORD)), JSON | st.sampled_from(["", "-1", 0, -1, 1, None]), max_size=3),
)
WORDS = st.sampled_from(["", "None", "null", ID, f"{ID}@{HOME}", "other123", f"@{HOME}", *ssh_trial().values()])
LISTINGS = st.lists(
    st.builds(
        Listed,
        pid=st.integers(1, 2**22),
        started=st.floats(0, 2e9),
        user=st.integers(0, 3),
        command=st.lists(WORDS | st.sampled_from(["node", "main.js", *KEEPER]), max_size=3).map(tuple),
        environment=st.dictionaries(st.sampled_from([MARK, "NNI_EXP_ID", "NNI_OUTPUT_DIR", "HOME"]), WORDS),
    ),
    max_size=6,
)


def is_marked(process: Listed, experiment: str) -> bool:
    """As the law has it: the mark itself, or the experiment's own folder on a machine reached by SSH."""
    if MARK in process.environment:
        return process.environment[MARK] == f"{experiment}@{HOME}"
    remote = f"/nni-experiments/{experiment}/environments/"
    return remote in process.environment.get("NNI_OUTPUT_DIR", "") or remote in " ".join(process.command)


@given(value=JSON | DAMAGED, processes=LISTINGS, user=st.integers(0, 3))
def test_whatever_the_record_holds_nothing_is_signalled_that_is_not_marked(
    tmp_path_factory: pytest.TempPathFactory, value: Any, processes: list[Listed], user: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "nni.json").write_text(json.dumps(value))
    made_up = MadeUp(*processes)
    try:
        record = read_experiment(folder)
    except ConfigError:
        return
    finally:
        shutil.rmtree(folder)
    end_all(Owner(record.id, HOME, frozenset({user}), made_here=True), made_up.machine(), patience=0.0, rounds=1)
    for pid, _ in made_up.sent:
        assert made_up.now[pid].user == user
        assert is_marked(made_up.now[pid], record.id)


@given(value=DAMAGED)
def test_a_damaged_record_stops_nothing_and_is_one_error(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]
) -> None:
    asked: list[Owner] = []

    def end_none(own: Owner, **_: Any) -> list[Listed]:
        asked.append(own)
        return []

    folder = tmp_path_factory.mktemp("run")
    (folder / "nni.json").write_text(json.dumps(value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "end_all", end_none)
        patch.setattr(processes, "end", lambda *_: pytest.fail("the manager is not marked"))
        patch.setattr(manager, "note_in_nnis_list", lambda change: None)
        try:
            manager.stop(folder)
        except SeNasError:
            assert asked == []
        else:
            assert [own.experiment for own in asked] == [value["id"]]
            assert find_experiment(folder) is not None
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"id": None}, "id: must be text, but got None"),
        ({"id": ""}, "id: must be 8 letters and digits"),
        ({"id": "../../.."}, "id: must be 8 letters and digits"),
        ({"pid": 1}, "pid: must be greater than or equal to 2"),
        ({"pid": -1}, "pid: must be greater than or equal to 2"),
        ({"pid": "4321"}, "pid: must be a whole number"),
        ({"port": 0}, "port: "),
        ({"address": "nowhere"}, "address: "),
        ({"state": "WHAT"}, "state: "),
        ({"state": "VIEWED"}, "file: a page that only shows"),
        ({"format": "se_nas run"}, "format: "),
        ({"version": 3}, "version: "),
        ({"more": 1}, "more: unknown key"),
    ],
)
def test_a_damaged_record_is_told_in_one_line_by_every_command(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    (tmp_path / "nni.json").write_text(json.dumps({**RECORD, **changes}))
    for command in ("stop", "resume", "view"):
        said = se_nas(command, tmp_path)
        assert said.code == 2
        (line,) = said.errors
        assert line.startswith(f"error: {tmp_path}/nni.json: {fault}")


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = ExperimentRecord.model_validate(RECORD)
    write_experiment(tmp_path, record)
    assert read_experiment(tmp_path) == record


def test_a_record_of_version_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "nni.json").write_text(json.dumps(VERSION_1))
    record = read_experiment(tmp_path)
    assert (record.id, record.pid, record.started, record.digest) == (ID, 4321, None, None)
    assert (record.host, record.address) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.slow
def test_the_real_command_ends_no_bystander(tmp_path: Path) -> None:
    """In a PID namespace of its own, out of which no signal leads."""
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("no PID namespace can be made here")
    (tmp_path / "nni.json").write_text(json.dumps({**VERSION_1, "id": None}))
    script = 'sleep 60 & "$0" -m se_nas stop "$1"; echo "code $?"; kill -0 $! && echo "the bystander lives"'
    found = subprocess.run(
        [*namespace, "sh", "-c", script, sys.executable, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        check=False,
    )
    assert found.stdout.splitlines()[-2:] == ["code 2", "the bystander lives"]
    assert "id: must be text" in found.stderr
