"""NNI's tuner and trials import a run's plugin from its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from se_nas.nni_bridge.experiment import status
from tests.helpers.plugins import no_plugins
from tests.helpers.tiny_runs import read_json
from tests.nni_bridge.conftest import Told, close, se_nas, study
from tests.nni_bridge.live import free_port
from tests.test_plugin_example import EXAMPLES


@pytest.mark.slow
def test_a_search_by_what_a_plugin_adds_runs_under_nni_and_shows_the_objective_by_its_name(
    nni_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    told = Told(tmp_path / "run", free_port())
    words = ("--set", "search.max_evaluations=2", "--set", "retrain=null", "--port", told.port, "--quiet")
    try:
        with no_plugins():
            said = se_nas("launch", tmp_path / "examples" / "plugin_run.yaml", "--out", told.folder, *words, "--detach")
            assert said.code == 0, said
            shutil.rmtree(tmp_path / "examples")  # the folder is complete
        with no_plugins():
            assert se_nas("resume", told.folder).code == 0
        with no_plugins():
            assert se_nas("stop", told.folder).code == 0
    finally:
        close(told)
    result = read_json(told.folder / "result.json")["search"]
    assert (result["sampler"], result["evaluations"], result["failed"]) == ("chance", 2, 0)
    rows = study(told.folder)
    assert all(row["accuracy"] == abs(row["costs"]["params"] - 2000) for row in rows if row["state"] == "complete")
    finals = [job.final for job in status.jobs(told.folder)]
    assert sorted(final["miss"] for final in finals) == sorted(row["accuracy"] for row in rows)
