"""A real NNI manager is started, stopped, killed, viewed and resumed, here and over SSH, and leaves nothing behind."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from se_nas.errors import ConfigError, LaunchError
from se_nas.nni_bridge.experiment import addresses, manager, processes, stored
from se_nas.nni_bridge.experiment import status as experiment_status
from se_nas.nni_bridge.experiment.manager_client import ManagerClient, ManagerState
from se_nas.nni_bridge.experiment.record import ExperimentRecord, write_experiment
from tests.nni_bridge.live import free_port, left, listening, of_experiment, ssh_server, this_machine, until

# a trial that waits for the file `go` beside it
TRIAL = """
import pathlib, time, nni
x = nni.get_next_parameter()["x"]
nni.report_intermediate_result(x / 2)
while not pathlib.Path("go").exists():
    time.sleep(0.1)
nni.report_final_result({"default": x, "macs": 3})
"""

TUNER = """
import time
{before}
from nni.algorithms.hpo.random_tuner import RandomTuner
class Toy(RandomTuner):
    pass
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder with `code/trial.py` and a run folder, whose experiment is stopped whatever happens."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "trial.py").write_text(TRIAL)
    (tmp_path / "run").mkdir()
    yield tmp_path
    if (tmp_path / "run" / "nni.json").exists():
        manager.stop(tmp_path / "run")


def config(place: Path, **changes: Any) -> dict[str, Any]:
    return {
        "experiment_name": "toy",
        "search_space": {"x": {"_type": "uniform", "_value": [0, 1]}},
        "trial_command": f"{sys.executable} trial.py",
        "trial_code_directory": str(place / "code"),
        "trial_concurrency": 1,
        "max_trial_number": 2,
        "tuner": {"name": "Random"},
        "training_service": {"platform": "local"},
        **changes,
    }


def ask(url: str, body: Any = None, method: str = "PUT", **headers: str) -> tuple[int, str]:
    """The status and the text that NNI's server answers."""
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, given, method="GET" if body is None else method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_an_experiment_is_stopped_viewed_resumed_killed_and_leaves_nothing_behind(place: Path) -> None:
    run, port = place / "run", free_port()
    first = manager.start(run, config(place), port=port)
    assert (first.url, first.host) == (f"http://127.0.0.1:{port}", "127.0.0.1")
    assert listening(port) == {"127.0.0.1"}
    assert os.getsid(first.pid) == first.pid  # closing the terminal does not reach it
    assert experiment_status.running(run) == first
    client = first.client()
    until(client.metrics)
    (cut,) = client.trials()
    assert [(m.trial, m.kind, m.value) for m in client.metrics()] == [(cut.id, "PERIODICAL", cut.parameters["x"] / 2)]
    assert stored.config(first.id, run / "nni")["experimentName"] == "toy"
    commands = [" ".join(command) for command in left(run, first.id)]
    assert {"main.js", "--exp_params", "trial.py"} <= {
        word for word in ("main.js", "--exp_params", "trial.py") if any(word in command for command in commands)
    }
    trial = next(process for process in of_experiment(run, first.id) if "trial.py" in process.command)
    ours = {"NODE_OPTIONS", "SE_NAS_NNI_HOST", "SE_NAS_NNI_NAMES", "SE_NAS_NNI_SECRETS"}
    assert not ours & trial.environment.keys()
    assert (run / "nni").stat().st_mode & 0o777 == 0o700
    page = f"http://localhost:{port}"
    profile = json.loads(ask(f"{page}/api/v1/nni/experiment")[1])
    profile["params"]["maxTrialNumber"] = 2
    change = f"{page}/api/v1/nni/experiment?update_type=MAX_TRIAL_NUM"
    assert ask(change, profile, Origin=page)[0] == 200  # as its own page does
    assert ask(change, profile, Origin="http://evil.example")[0] == 403
    assert ask(f"{page}/api/v1/nni/experiment", profile, "POST", Host=f"evil.example:{port}")[0] == 403
    assert ask(f"{page}/api/v1/nni/experiment", profile, "POST", Content_Type="text/plain")[0] == 415
    assert client.state() == ManagerState("RUNNING", ())
    with pytest.raises(LaunchError, match=f"must not be running, but it is, at {first.url}"):
        manager.resume(run)

    manager.stop(run)
    assert left(run, first.id) == []
    assert listening(port) == set()
    assert experiment_status.status(run) == experiment_status.Status(first.id, "STOPPED", {"INTERRUPTED": 1}, None)
    with pytest.raises(LaunchError, match="already; resume it"):
        manager.start(run, config(place), port=port)

    viewed = manager.view(run, host="127.0.0.2")
    assert viewed.id == first.id
    assert listening(port) == {"127.0.0.1", "127.0.0.2"}
    assert experiment_status.status(run) == experiment_status.Status(first.id, "VIEWED", {"INTERRUPTED": 1}, viewed.url)
    assert [trial.id for trial in viewed.client().trials()] == [cut.id]
    manager.stop(run)
    assert experiment_status.status(run).state == "STOPPED"

    ours = stored.config(first.id, run / "nni")
    theirs = {**ours, "tuner": {"className": "theirs.Tuner", "codeDirectory": str(place)}}
    stored.replace_config(first.id, run / "nni", json.dumps(theirs))  # as a POST to the page could
    for act in (manager.resume, manager.view):
        with pytest.raises(LaunchError, match=r"must be the one that se-nas launch wrote.* so nothing is started"):
            act(run)
    stored.replace_config(first.id, run / "nni", json.dumps(ours))

    (place / "code" / "go").touch()
    before = (run / "nni.json").read_text()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(LaunchError, match=r"must be free, but something listens there; give another --port"):
            manager.resume(run, port=other.getsockname()[1])
    assert (run / "nni.json").read_text() == before

    resumed = manager.resume(run, host="127.0.0.2")  # where its tuner and trials still connect to localhost
    assert (resumed.id, resumed.port) == (first.id, port)
    seen: list[experiment_status.Status] = []
    done = experiment_status.wait_until_done(run, seen.append, poll=0.2)
    assert (done.state, done.trials, done.finished) == ("DONE", {"SUCCEEDED": 2}, 2)
    assert seen[-1] == done
    again, _ = resumed.client().trials()
    assert (again.id, again.parameters) == (cut.id, cut.parameters)
    assert again.final == {"default": cut.parameters["x"], "macs": 3}

    os.kill(resumed.pid, signal.SIGKILL)
    until(lambda: experiment_status.status(run).state == "DIED")
    assert any("--exp_params" in command for command in map(" ".join, left(run, first.id)))
    manager.stop(run)
    assert left(run, first.id) == []
    assert experiment_status.status(run) == experiment_status.Status(first.id, "STOPPED", {"SUCCEEDED": 2}, None)
    listed = json.loads((place / "nni-experiments" / ".experiment").read_text())
    assert listed[first.id]["status"] == "STOPPED"  # for nnictl and for the page of other experiments


@pytest.mark.slow
def test_a_stopped_experiment_whose_folder_was_moved_goes_on_there(place: Path) -> None:
    run, moved = place / "run", place / "elsewhere" / "run of before"
    shutil.copy(place / "code" / "trial.py", run)
    command = f"{sys.executable} trial.py {run}"
    first = manager.start(run, config(place, trial_command=command, trial_code_directory=str(run)), port=free_port())
    until(first.client().metrics)
    manager.stop(run)
    moved.parent.mkdir()
    run.rename(moved)
    (moved / "go").touch()
    try:
        resumed = manager.resume(moved)
        done = experiment_status.wait_until_done(moved, poll=0.2)
        assert (resumed.id, done.state, done.trials) == (first.id, "DONE", {"SUCCEEDED": 2})
        now = stored.config(first.id, moved / "nni")
        assert now["trialCommand"] == f"{sys.executable} trial.py '{moved}'"
        assert now["trialCodeDirectory"] == str(moved)
        assert str(run) + "/" not in json.dumps(now) + "/"
    finally:
        manager.stop(moved)
    assert not run.exists()


def test_of_a_moved_run_our_own_paths_are_the_new_ones_and_those_of_others_stay() -> None:
    config = {
        "trialCommand": "exec python -m se_nas.nni_bridge.trial '/old place/run'",
        "trialCodeDirectory": "/old place/run/nni_code",
        "tuner": {"codeDirectory": "/old place/run", "classArgs": {"run": "/old place/run"}},
        "trainingService": {"platform": "local"},
        "logCollection": "/old place/runner",
    }
    assert manager.moved(config, Path("/old place/run"), Path("/new")) == {
        "trialCommand": "exec python -m se_nas.nni_bridge.trial /new",
        "trialCodeDirectory": "/new/nni_code",
        "tuner": {"codeDirectory": "/new", "classArgs": {"run": "/new"}},
        "trainingService": {"platform": "local"},
        "logCollection": "/old place/runner",
    }
    elsewhere = {**config, "trialCommand": "exec python trial.py .", "trialCodeDirectory": "/old place/runner"}
    kept = manager.moved(elsewhere, Path("/old place/run"), Path("/new"))
    assert (kept["trialCommand"], kept["trialCodeDirectory"]) == ("exec python trial.py .", "/old place/runner")


@pytest.mark.slow
def test_a_resume_ends_what_a_killed_manager_left_and_takes_the_next_configuration(place: Path) -> None:
    run = place / "run"
    killed = manager.start(run, config(place), port=free_port())
    until(killed.client().metrics)
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: experiment_status.status(run).state == "DIED")  # a busy machine takes its time over a killed process
    orphans = of_experiment(run, killed.id)
    assert any("trial.py" in process.command for process in orphans)
    (place / "code" / "toy.py").write_text(TUNER.format(before="import nothing_of_this_name"))
    broken = config(place, tuner={"class_name": "toy.Toy", "code_directory": str(place / "code")})
    with pytest.raises(LaunchError, match="nothing_of_this_name"):
        manager.start(run, broken, port=free_port(), action="resume")
    assert not any(processes.look(process.pid) == process for process in orphans)
    assert experiment_status.status(run) == experiment_status.Status(killed.id, "STOPPED", {"INTERRUPTED": 1}, None)
    assert stored.config(killed.id, run / "nni")["tuner"] == {"name": "Random"}  # as it was

    (place / "code" / "go").touch()
    manager.start(run, config(place, max_trial_number=1), port=free_port(), action="resume")
    done = experiment_status.wait_until_done(run, poll=0.2)
    assert (done.id, done.state, done.trials) == (killed.id, "DONE", {"SUCCEEDED": 1})
    manager.stop(run)
    assert experiment_status.status(run).state == "DONE"


def test_a_tuner_that_fails_is_told_in_one_line_and_recorded_nowhere(place: Path) -> None:
    (place / "code" / "toy.py").write_text(TUNER.format(before="import nothing_of_this_name"))
    tuner = {"class_name": "toy.Toy", "code_directory": str(place / "code")}
    with pytest.raises(LaunchError, match=r"did not start: ModuleNotFoundError: .*nothing_of_this_name") as caught:
        manager.start(place / "run", config(place, tuner=tuner), port=free_port())
    assert "\n" not in str(caught.value)
    assert not (place / "run" / "nni.json").exists()
    assert json.loads((place / "nni-experiments" / ".experiment").read_text()) == {}
    (experiment,) = (path.name for path in (place / "run" / "nni").iterdir())
    assert left(place / "run", experiment) == []


@pytest.mark.slow
def test_a_tuner_may_take_longer_to_import_than_the_10_seconds_that_nni_gives_it(place: Path) -> None:
    (place / "code" / "toy.py").write_text(TUNER.format(before="time.sleep(11)"))
    tuner = {"class_name": "toy.Toy", "code_directory": str(place / "code")}
    manager.start(place / "run", config(place, tuner=tuner), port=free_port())
    assert experiment_status.status(place / "run").state == "RUNNING"


@pytest.fixture
def ssh_port(place: Path) -> Iterator[int]:
    """See `ssh_server`."""
    with ssh_server(place) as port:
        yield port


PASSPHRASE = "correct horse battery"


@pytest.mark.slow
def test_trials_run_over_ssh_on_this_machine_with_the_page_on_loopback_alone(
    place: Path, ssh_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with a key whose passphrase is written nowhere and told to nobody but NNI's SSH."""
    (place / "code" / "go").touch()
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", PASSPHRASE, "-f", place / "key"], check=True)
    monkeypatch.setenv("KEY_PASSPHRASE", PASSPHRASE)
    machine = {**this_machine(place, ssh_port), "ssh_passphrase": "${env:KEY_PASSPHRASE}"}
    remote = {"platform": "remote", "machine_list": [machine]}
    run, port = place / "run", free_port()
    started = manager.start(run, config(place, trial_command="python3 trial.py", training_service=remote), port=port)
    assert listening(port) == {"127.0.0.1"}
    until(lambda: any("trial.py" in command for command in left(run, started.id)))
    seen = of_experiment(run, started.id)
    told = [base64.b64decode(process.command[-1]).decode() for process in seen if "--exp_params" in process.command]
    assert any("${env:KEY_PASSPHRASE}" in text for text in told)
    for process in seen:
        assert PASSPHRASE not in " ".join([*process.command, *told])
        assert "KEY_PASSPHRASE" not in process.environment
        if process.pid != started.pid:
            assert PASSPHRASE not in str(process.environment)
    done = experiment_status.wait_until_done(run, poll=0.2)
    assert (done.state, done.trials) == ("DONE", {"SUCCEEDED": 2})
    for trial in started.client().trials():
        assert trial.final == {"default": trial.parameters["x"], "macs": 3}
    (keeper,) = (place / "remote").glob("nni-experiments/*/environments/*/trial_keeper/trial_keeper_config.json")
    assert json.loads(keeper.read_text())["managerCommandChannel"].startswith(f"ws://127.0.0.1:{port}/")
    assert any("trial_keeper" in " ".join(command) for command in left(run, started.id))
    manager.stop(run)
    assert left(run, started.id) == []
    for file in place.rglob("*"):
        assert not file.is_file() or PASSPHRASE.encode() not in file.read_bytes(), file
    monkeypatch.delenv("KEY_PASSPHRASE")
    must = "sshPassphrase: the environment variable KEY_PASSPHRASE must hold the secret, but it is not set"
    with pytest.raises(LaunchError, match=must):
        manager.resume(run)


def remote_config(host: str, **changes: Any) -> dict[str, Any]:
    return {"trainingService": {"platform": "remote", "machineList": [{"host": host}], **changes}}


def test_a_remote_machine_cannot_reach_loopback() -> None:
    with pytest.raises(
        LaunchError, match=r"trials on 192\.0\.2\.7 must reach the manager.*on 127\.0\.0\.1 only; give --host"
    ):
        addresses.check_reachable(remote_config("192.0.2.7"), "127.0.0.1")
    addresses.check_reachable(remote_config("192.0.2.7"), "192.0.2.1")
    addresses.check_reachable(remote_config("192.0.2.7"), "0.0.0.0")
    addresses.check_reachable(remote_config("127.0.0.1"), "127.0.0.1")
    addresses.check_reachable(remote_config("localhost"), "127.0.0.1")
    addresses.check_reachable(remote_config("192.0.2.7", nniManagerIp="127.0.0.1"), "127.0.0.1")  # by a tunnel
    addresses.check_reachable({"trainingService": {"platform": "local"}}, "127.0.0.1")
    hybrid = [{"platform": "local"}, {"platform": "kubeflow"}]
    with pytest.raises(LaunchError, match="trials on the kubeflow service must reach"):
        addresses.check_reachable({"trainingService": hybrid}, "127.0.0.1")


def test_other_machines_are_told_the_address_that_the_manager_listens_on() -> None:
    assert addresses.manager_ip(remote_config("192.0.2.7"), "192.0.2.1") == "192.0.2.1"
    assert addresses.manager_ip({"trainingService": {"platform": "local"}}, "192.0.2.1") is None
    assert addresses.needs_next_port(remote_config("192.0.2.7"))
    assert not addresses.needs_next_port({"trainingService": {"platform": "local"}})


def test_where_no_address_leads_outside_the_host_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Alone)
    with pytest.raises(LaunchError, match=r"none leads outside \(Network is unreachable\); give --host") as caught:
        addresses.manager_ip(remote_config("192.0.2.7"), "0.0.0.0")
    assert "\n" not in str(caught.value)


def test_addresses_are_told_as_a_browser_takes_them() -> None:
    assert addresses.url("0.0.0.0", 8080) == "http://127.0.0.1:8080"
    assert addresses.url("::1", 8080) == "http://[::1]:8080"
    assert addresses.resolve("localhost") == "127.0.0.1"
    with pytest.raises(LaunchError, match="must be a name or an address of this machine, but got 'no such host'"):
        addresses.resolve("no such host")


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(LaunchError, match=f"port must be from 1 to 65535, but got {port}"):
        addresses.check_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"cannot listen at port \d+ of 203\.0\.113\.9"):
        addresses.check_free("203.0.113.9", free_port())


def test_a_configuration_that_nni_refuses_is_told_in_one_line_and_writes_nothing(place: Path) -> None:
    faults = {"trial_concurrency": 0, "trial_code_directory": str(place / "nowhere"), "no_such_field": 1}
    for name, value in faults.items():
        with pytest.raises(LaunchError, match=r"NNI refuses the configuration: .") as caught:
            manager.start(place / "run", config(place, **{name: value}), port=free_port())
        assert "\n" not in str(caught.value)
    assert list((place / "run").iterdir()) == []


def test_a_port_in_use_writes_nothing(place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(LaunchError, match="must be free"):
            manager.start(place / "run", config(place), port=other.getsockname()[1])
    assert list((place / "run").iterdir()) == []


@pytest.mark.parametrize("act", [manager.stop, manager.resume, manager.view, experiment_status.status])
def test_a_folder_without_an_experiment_is_refused(act: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"holds no NNI experiment \(no nni\.json\); launch one first"):
        act(tmp_path)
    assert experiment_status.running(tmp_path) is None


def test_a_manager_that_is_silent_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = experiment_status.Status("abc", "DONE", {}, None)
    answers: list[experiment_status.Status | None] = [None, None, done]

    def status(folder: Path) -> experiment_status.Status:
        if (answer := answers.pop(0)) is None:
            raise LaunchError("the NNI manager does not answer")
        return answer

    alive = experiment_status.Experiment("abc", 1, "127.0.0.1", "", 1)
    monkeypatch.setattr(experiment_status, "status", status)
    monkeypatch.setattr(experiment_status, "running", lambda folder: alive)
    assert experiment_status.wait_until_done(tmp_path, poll=0.0) == done
    for name, value in (("SILENCE_SECONDS", -1.0), ("running", lambda folder: None)):
        answers[:] = [None, done]
        with monkeypatch.context() as patch:
            patch.setattr(experiment_status, name, value)
            with pytest.raises(LaunchError, match="does not answer"):
                experiment_status.wait_until_done(tmp_path, poll=0.0)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "se_nas nni experiment", "version": 99}'])
def test_a_record_of_another_program_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "nni.json").write_text(text)
    with pytest.raises(ConfigError, match=r"nni\.json: "):
        experiment_status.status(tmp_path)


def test_a_record_without_its_database_is_refused(tmp_path: Path) -> None:
    record = ExperimentRecord(
        id="abcd1234", port=1, host="localhost", address="127.0.0.1", told=None, state="STOPPED", before=None
    )
    write_experiment(tmp_path, record)
    for act in (experiment_status.status, manager.resume):
        with pytest.raises(LaunchError, match=r"nni\.sqlite: must be the database of an NNI experiment"):
            act(tmp_path)


def test_a_trial_whose_resume_was_cut_off_is_resumed_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "abc" / "db").mkdir(parents=True)
    events = [("a", "WAITING"), ("b", "WAITING"), ("a", "RUNNING"), ("b", "RUNNING"), ("b", "SUCCEEDED")]
    events += [("a", "ADD_RESUMED"), ("", "IMPORT_DATA"), ("c", "WAITING"), ("c", "USER_TO_CANCEL")]
    with contextlib.closing(sqlite3.connect(tmp_path / "abc" / "db" / "nni.sqlite")) as database:
        database.execute("create table TrialJobEvent (trialJobId text, event text)")
        database.executemany("insert into TrialJobEvent values (?, ?)", events)
        database.commit()
        counts = {"INTERRUPTED": 1, "SUCCEEDED": 1, "USER_CANCELED": 1}
        assert stored.trial_counts("abc", tmp_path) == counts
        stored.forget_cut_off_resumes("abc", tmp_path)
        assert stored.trial_counts("abc", tmp_path) == counts
        last = "select event from TrialJobEvent where trialJobId = 'a' order by rowid desc"
        assert database.execute(last).fetchone() == ("RUNNING",)  # which NNI looks for


@pytest.mark.parametrize(("module", "remedy"), [("nni", r"se-nas\[nni\]"), ("pkg_resources", r"se-nas\[nni\]")])
def test_a_missing_module_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("nni.") and module == "nni"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(LaunchError, match=f"{module}.*{remedy}") as caught:
        experiment_status.status(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_manager_that_does_not_answer_is_told_in_one_line() -> None:
    with pytest.raises(LaunchError, match=r"the NNI manager at http://127\.0\.0\.1:\d+ does not answer: ."):
        ManagerClient(f"http://127.0.0.1:{free_port()}").trials()
