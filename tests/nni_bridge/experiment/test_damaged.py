"""What NNI says or stored may be anything: it is used, or it is one clear error."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.errors import ConfigError, LaunchError, SeNasError
from se_nas.nni_bridge import launch, trial
from se_nas.nni_bridge.experiment import stored
from se_nas.nni_bridge.experiment.digest import PAGE_CHANGES, config_digest
from se_nas.nni_bridge.experiment.manager_client import ManagerClient, TrialJob
from se_nas.nni_bridge.experiment.secrets import find_secrets, without_secrets
from se_nas.nni_bridge.grid import changes_of, name_of
from se_nas.nni_bridge.own_parameters import OwnParameters, manager_urls
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.nni_bridge.reconcile import proposal_of
from se_nas.runs.run_file import load_run
from tests.helpers.tiny_runs import RUN, changed, write_run
from tests.nni_bridge.experiment.test_record import ID, JSON

CONFIG = {"experimentName": "toy", "trialConcurrency": 1, "trainingService": {"platform": "local"}, "x": [1.0, 0.5, 7]}
SHOWN = json.dumps({"parameter_id": 0, "parameters": {"x": 1}})
PROFILE = {"params": json.dumps(CONFIG), "id": ID, "revision": 1}
EVENT = {"trialJobId": "xYz12", "event": "SUCCEEDED", "data": SHOWN}
METRIC = {"trialJobId": "xYz12", "type": "FINAL", "data": json.dumps("0.5")}
TABLES = {"ExperimentProfile": PROFILE, "TrialJobEvent": EVENT, "MetricData": METRIC}

DEEP = "[" * 100_000 + "]" * 100_000
CELLS = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=5)
    | JSON.map(json.dumps)
    | st.sampled_from(["", "{", DEEP, ID, "1", *map(json.dumps, ("{", "[]"))])
)


def write_database(home: Path, changes: dict[tuple[str, str], Any]) -> Path:
    """NNI's database of one trial, whose cells, by table and column, hold something else."""
    path = home / ID / "db" / "nni.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        for table, row in TABLES.items():
            row = {column: changes.get((table, column), value) for column, value in row.items()}
            database.execute(f"create table {table} ({', '.join(row)})")
            database.execute(f"insert into {table} values ({', '.join('?' * len(row))})", list(row.values()))
        database.commit()
    return path


def read_all(home: Path) -> None:
    for read in (stored.config, stored.trial_counts, stored.jobs):
        with contextlib.suppress(SeNasError):
            read(ID, home)


def test_a_whole_database_is_read(tmp_path: Path) -> None:
    write_database(tmp_path, {})
    assert stored.config(ID, tmp_path) == CONFIG
    assert stored.trial_counts(ID, tmp_path) == {"SUCCEEDED": 1}
    assert stored.jobs(ID, tmp_path) == [TrialJob("xYz12", "SUCCEEDED", {"x": 1}, 0, 0.5)]


def test_a_result_on_the_way_may_be_no_number() -> None:
    """The page draws nothing for one; see `EpochMetrics`."""
    row = {"trialJobId": "a", "type": "PERIODICAL", "sequence": 0, "data": json.dumps('{"default": NaN}')}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ManagerClient, "_ask", lambda *_, **__: [row])
        (metric,) = ManagerClient("http://127.0.0.1:1").metrics()
    assert math.isnan(metric.value["default"])


PLACES = [(table, column) for table, row in TABLES.items() for column in row]


@given(changes=st.dictionaries(st.sampled_from(PLACES), CELLS, min_size=1, max_size=3))
def test_a_database_with_any_cell_is_read_or_is_one_error(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[tuple[str, str], Any]
) -> None:
    home = tmp_path_factory.getbasetemp() / "any_cell"
    write_database(home, changes)
    read_all(home)


@pytest.mark.parametrize(
    ("place", "cell"),
    [
        (("ExperimentProfile", "params"), "{"),
        (("ExperimentProfile", "params"), "[]"),
        (("ExperimentProfile", "params"), '{"trainingService": {}}'),
        (("ExperimentProfile", "params"), DEEP),
        (("TrialJobEvent", "event"), None),
        (("TrialJobEvent", "data"), "[1]"),
        (("MetricData", "data"), "{"),
        (("MetricData", "data"), json.dumps("{")),
    ],
)
def test_a_damaged_cell_names_the_database(tmp_path: Path, place: tuple[str, str], cell: Any) -> None:
    path = write_database(tmp_path, {place: cell})
    read = stored.config if place[0] == "ExperimentProfile" else stored.jobs
    with pytest.raises(LaunchError, match=str(path)) as caught:
        read(ID, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(position=st.integers(0, 4000), byte=st.integers(0, 255))
def test_a_database_with_any_byte_is_read_or_is_one_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    home = tmp_path_factory.getbasetemp() / "any_byte"
    path = write_database(home, {})
    content = bytearray(path.read_bytes())
    content[position % len(content)] = byte
    path.write_bytes(content)
    read_all(home)


JOB = {
    "trialJobId": "xYz12",
    "status": "SUCCEEDED",
    "hyperParameters": [SHOWN],
    "finalMetricData": [{"data": json.dumps("0.5")}],
}
ANSWERS: list[tuple[Callable[[ManagerClient], object], Any]] = [
    (ManagerClient.state, {"status": "RUNNING", "errors": []}),
    (ManagerClient.trials, [JOB]),
    (lambda client: client.trial("xYz12"), JOB),
    (ManagerClient.counts, [{"trialJobStatus": "RUNNING", "trialJobNumber": 1}]),
    (ManagerClient.metrics, [{"trialJobId": "xYz12", "type": "FINAL", "sequence": 0, "data": "1"}]),
]


@given(answer=st.sampled_from(ANSWERS), name=st.text(), value=JSON, whole=st.booleans(), data=st.data())
def test_any_answer_of_a_manager_is_read_or_is_one_error(
    answer: tuple[Callable[[ManagerClient], object], Any], name: str, value: Any, whole: bool, data: st.DataObject
) -> None:
    read, usual = answer
    row = usual[0] if isinstance(usual, list) else usual
    damaged = {**row, data.draw(st.sampled_from(sorted(row))): value}
    said = value if whole else [damaged] if isinstance(usual, list) else damaged
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ManagerClient, "_ask", lambda *_, **__: said)
        with contextlib.suppress(LaunchError):
            read(ManagerClient("http://127.0.0.1:1"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"managerCommandChannel": 5}', DEEP])
def test_a_keepers_damaged_configuration_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "trial_keeper_1").mkdir()
    (tmp_path / "trial_keeper_1" / "trial_keeper_config.json").write_text(text)
    environment = {"NNI_OUTPUT_DIR": str(tmp_path / "trials" / "xYz12"), "NNI_PLATFORM": "remote"}
    environment["NNI_TRIAL_COMMAND_CHANNEL"] = "http://127.0.0.1:9/env/me"
    assert manager_urls(environment) == ["http://127.0.0.1:9"]


@pytest.mark.parametrize("parameters", [{}, {"seed": "../../..", "budgets": ""}, {"seed": True, "budgets": ""}])
def test_parameters_that_a_user_made_up_name_no_folder(parameters: dict[str, Any]) -> None:
    for read in (changes_of, name_of):
        with pytest.raises(ConfigError, match=r"the trial's parameters: must be a seed"):
            read(parameters)


def test_a_proposal_that_a_user_made_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"proposal: must be a whole number, but got '\.\.'"):
        trial.evaluate(tmp_path, OwnParameters({PROPOSAL: ".."}), lambda epoch, metrics: None)
    assert proposal_of({PROPOSAL: []}, {PROPOSAL: {}}) is None


# ---- the configuration that a resume takes from the database


def test_the_digest_is_the_same_after_a_way_through_javascript() -> None:
    assert config_digest({"a": 1.0, "b": [2**60 + 1, -0.0]}) == config_digest({"b": [float(2**60), 0], "a": 1})


@given(value=JSON, name=st.sampled_from(PAGE_CHANGES))
def test_the_digest_leaves_out_what_the_page_changes(value: Any, name: str) -> None:
    assert config_digest({**CONFIG, name: value}) == config_digest(CONFIG)


@pytest.mark.parametrize("name", ["trialCommand", "trialCodeDirectory", "tuner", "trainingService", "assessor", "x"])
def test_the_digest_is_another_where_a_program_could_be(name: str) -> None:
    assert config_digest({**CONFIG, name: "theirs"}) != config_digest(CONFIG)


def test_the_copy_for_other_machines_is_not_made_through_a_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "kept").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / launch.CODE).symlink_to(theirs)
    with pytest.raises(SeNasError, match="must be a folder that can be made anew"):
        launch._code(tmp_path / "run")
    assert [path.name for path in theirs.iterdir()] == ["kept"]


# ---- secrets


def remote(**changes: Any) -> dict[str, Any]:
    return {"platform": "remote", "machine_list": [{"host": "gpu", "user": "me", **changes}]}


@pytest.mark.parametrize("key", ["password", "ssh_passphrase", "sshPassphrase", "token", "storage_account_key"])
@pytest.mark.parametrize("secret", ["hunter22", 123456789])
def test_a_secret_in_a_run_file_is_refused_and_not_shown(tmp_path: Path, key: str, secret: object) -> None:
    run_file = write_run(tmp_path, changed(RUN, "nni", {"training_service": remote(**{key: secret})}))
    with pytest.raises(ConfigError) as caught:
        load_run(run_file)
    (problem,) = caught.value.problems
    assert problem.startswith(f"nni.training_service.machine_list[0].{key}: must be ${{env:NAME}} or ${{file:/PATH}}")
    assert str(secret) not in str(caught.value)


def test_references_and_what_is_no_secret_are_taken(tmp_path: Path) -> None:
    service = remote(password="${env:A}", ssh_passphrase="${file:/b}", ssh_key_file="~/.ssh/id", python_path="/p")
    run_file = write_run(tmp_path, changed(RUN, "nni", {"training_service": service}))
    assert load_run(run_file).nni.training_service == service


def test_a_secret_is_found_in_the_environment_or_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD_OF_GPU", "hunter22")
    (tmp_path / "phrase").write_text("correct horse\n")
    file = f"${{file:{tmp_path}/phrase}}"
    config = {"trainingService": {"machineList": [{"password": "${env:PASSWORD_OF_GPU}", "sshPassphrase": file}]}}
    secrets = find_secrets(config)
    assert secrets == {"${env:PASSWORD_OF_GPU}": "hunter22", file: "correct horse"}
    assert without_secrets({"PASSWORD_OF_GPU": "hunter22", "HOME": "/"}, secrets) == {"HOME": "/"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"trainingService": {"token": "${env:NOT_SET}"}}, "the environment variable NOT_SET must hold the secret"),
        ({"trainingService": {"token": "${file:here}"}}, "must have an absolute path, but got here"),
        ({"trainingService": {"token": "${file:/no/such}"}}, "/no/such must hold the secret, but got: No such file"),
        ({"tuner": {"classArgs": {"token": "${env:HOME}"}}}, r"tuner\.classArgs\.token: must be no reference"),
    ],
)
def test_a_secret_that_is_not_there_is_told_in_one_line(config: dict[str, Any], words: str) -> None:
    with pytest.raises(LaunchError, match=words):
        find_secrets(config)
