"""Of a run file, what is known to be harmless is shown, and nothing else: in the report, in errors, in its own file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from se_nas.errors import ConfigError
from se_nas.report.pages.run import write_report
from se_nas.runs.run_file import RunConfig, load_run
from se_nas.runs.run_folder import RunFolder
from se_nas.runs.shown import HIDDEN, shown, shown_configuration
from se_nas.training.recipe_files import load_recipe
from tests.report.fake_run import make_fake_run

RUNS = sorted((Path(__file__).resolve().parents[2] / "runs").glob("*.yaml"))
#: A folded and a literal scalar take several lines each.
SECRETS = """
name: tiny
space: space.yaml
api_key: s3cret1
nni:
  concurrency: 2
  training_service:
    platform: remote
    trial_command: env TOKEN=s3cret2 python trial.py
    machine_list:
    - {host: somewhere, port: 22, user: me, password: s3cret3, ssh_passphrase: 1234567}
  experiment:
    max_trial_number: 7
    shared_storage:
      storage_type: AzureBlob
      storage_account_key: s3cret4
      access_key: >-
        folded
        s3cret5
      pwd: |
        s3cret6
        s3cret7
      credentials: [s3cret8, {host: s3cret9}]
"""


@pytest.fixture
def secrets() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SECRETS)
    return found


def test_the_report_shows_no_secret_and_what_is_harmless(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False)
    (folder / "config.yaml").write_text(SECRETS)
    text = write_report(folder, shown_configuration(folder / "config.yaml")).read_text()
    assert "s3cret" not in text
    assert "1234567" not in text
    assert "folded" not in text
    for harmless in ("somewhere", "user: me", "port: 22", "platform: remote", "max_trial_number: 7", "concurrency: 2"):
        assert harmless in text
    assert f"storage_account_key: {HIDDEN}" in text or f"shared_storage: {HIDDEN}" in text
    assert f"password: {HIDDEN}" in text


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_a_run_file_that_holds_no_secret_is_shown_whole(path: Path) -> None:
    resolved = load_run(path).model_dump(mode="json")
    assert shown(resolved) == resolved


@pytest.mark.parametrize("name", ["network", "recipe", "teacher"])
def test_a_retrainings_own_parts_are_shown_at_the_top_alone(name: str) -> None:
    hidden = {"nni": {"training_service": {name: {"auth": "s3cret"}}}}
    assert "s3cret" not in str(shown(hidden))


@pytest.mark.parametrize("value", ["me:s3cret@host", "https://me:s3cret@host/path", "ssh://me:s3cret@[::1]:22"])
def test_an_account_with_its_password_is_hidden_under_any_name(value: str) -> None:
    assert "s3cret" not in str(shown({"nni": {"training_service": {"machine_list": [{"host": value}]}}}))
    assert shown({"data": {"dir": "/images/at:noon"}}) == {"data": {"dir": "/images/at:noon"}}


def test_a_resume_of_a_retraining_with_another_recipe_says_both_values(tmp_path: Path) -> None:
    resolved: dict[str, Any] = {
        "network": {"stem": {"width": 8}},
        "data": {"name": "imagenet", "dir": "/images", "train": 8, "val": 2, "digest": "ab"},
        "recipe": load_recipe("mobile-150").model_dump(mode="json"),
        "teacher": {"source": "timm:resnet18", "checkpoint": None},
        "weights": None,
        "seed": 0,
    }
    assert shown(resolved) == resolved
    run = RunFolder(tmp_path)
    run.begin(resolved)
    with pytest.raises(
        ConfigError, match=r"recipe\.epochs: must be as in the run that --resume continues, \d+, but got 7"
    ):
        run.corrections({**resolved, "recipe": {**resolved["recipe"], "epochs": 7}}, lambda began: began, None)


@pytest.mark.parametrize(("content", "page"), [("[a, b]", HIDDEN), ("s3cret", HIDDEN), ("", HIDDEN)])
def test_what_is_no_run_file_is_not_shown(tmp_path: Path, content: str, page: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    assert yaml.safe_load(shown_configuration(tmp_path / "config.yaml")) == page


def test_only_its_owner_may_read_the_configuration_of_a_run_that_may_hold_a_secret(
    tmp_path: Path, secrets: dict[str, Any]
) -> None:
    plain = RunConfig(name="tiny", space="space.yaml").model_dump(mode="json")
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    for name, resolved, mode in (("plain", plain, usual), ("secret", {**plain, "nni": secrets["nni"]}, 0o600)):
        RunFolder(tmp_path / name).begin(resolved)
        assert stat.S_IMODE((tmp_path / name / "config.yaml").stat().st_mode) == mode


def test_a_resume_with_another_password_shows_neither(tmp_path: Path, secrets: dict[str, Any]) -> None:
    run = RunFolder(tmp_path)
    run.begin(secrets)
    other = yaml.safe_load(SECRETS.replace("s3cret", "0ther") + "seed: 4\n")
    with pytest.raises(ConfigError) as refused:
        run.corrections(other, lambda began: began, None)
    words = str(refused.value)
    assert "nni.training_service.machine_list: must be as in the run" in words
    assert "seed: must be as in the run that --resume continues, None, but got 4" in words
    assert not any(secret in words for secret in ("s3cret", "0ther", "1234567"))
