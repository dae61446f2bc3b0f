from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nni
import pytest
from nni.runtime.msg_dispatcher import MsgDispatcher

from se_nas.nni_bridge.experiment.manager_client import Metric, TrialJob
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.nni_bridge.reconcile import reconcile
from tests.helpers.tiny_runs import SPACE, changed, write_yaml
from tests.nni_bridge.toy_tuner import ToyTuner, open_toy_study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_yaml(tmp_path / "space.yaml", SPACE)
    return tmp_path


def found(run: Path) -> dict[int, tuple[str, float | None]]:
    """State and accuracy of every proposal, as another process reads them."""
    return {e.number: (e.state, e.accuracy) for e in open_toy_study(run).evaluations()}


def job(
    parameters: dict[str, Any], status: str, final: Any = None, *, id: str = "id", by_hand: bool = False
) -> TrialJob:
    return TrialJob(id, status, parameters, None if by_hand else 0, final)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[TrialJob]:
    """What the manager says of its trials, to be filled; each reported 0.25, and an epoch of the supernet."""
    found: list[TrialJob] = []
    reports = [{"default": 0.25}, {"default": 0.9, "supernet_loss": 1.0}]
    client = SimpleNamespace(
        trials=lambda: found, metrics=lambda job: [Metric(job, "PERIODICAL", i, r) for i, r in enumerate(reports)]
    )
    monkeypatch.setattr("se_nas.nni_bridge.tuner.running", lambda run: SimpleNamespace(client=lambda: client))
    return found


def test_a_proposal_is_the_readable_picks_and_the_number_in_the_study(run: Path) -> None:
    tuner = ToyTuner(str(run))
    tuner.update_search_space({})
    first, second = tuner.generate_multiple_parameters([0, 1])
    assert [first.pop(PROPOSAL), second.pop(PROPOSAL)] == [0, 1]
    assert json.loads(json.dumps(first)) == first
    assert tuner.study.space.architecture(first) == tuner.study.evaluations()[0].architecture
    assert first["stage2.block1.se"] in ("none", "r2", "r4")
    assert first != second


def test_there_are_no_more_trials_when_every_architecture_was_proposed(run: Path) -> None:
    stages = [{"width": 8, "depth": 1, "kernel": [3, 5], "expansion": 2}]
    write_yaml(run / "space.yaml", changed(SPACE, "stages", stages))
    tuner = ToyTuner(str(run))
    assert len(tuner.generate_multiple_parameters([0, 1, 2, 3])) == 2
    with pytest.raises(nni.NoMoreTrialError):
        tuner.generate_parameters(4)


def test_results_and_failures_are_told_once_in_whatever_order_they_come(run: Path) -> None:
    tuner = ToyTuner(str(run))
    a, b, c, d, e = tuner.generate_multiple_parameters([0, 1, 2, 3, 4])
    tuner.receive_trial_result(0, a, {"default": 0.5, "seconds": 2.0})
    tuner.trial_end(0, True)
    tuner.trial_end(1, False)
    tuner.receive_trial_result(1, b, {"default": 0.6})  # NNI's two queues: the end overtook the result
    tuner.receive_trial_result(2, c, {"default": 0.7})
    tuner.receive_trial_result(2, c, {"default": 0.8})
    tuner.trial_end(2, False)
    tuner.trial_end(3, True)  # its result may still come
    tuner.receive_trial_result(4, e, {"default": float("nan")})
    assert found(run) == {
        0: ("complete", 0.5),
        1: ("failed", None),
        2: ("complete", 0.7),
        3: ("running", None),
        4: ("failed", None),
    }
    assert open_toy_study(run).evaluations()[0].seconds == 2.0
    assert d[PROPOSAL] == 3


def test_after_a_resume_ids_restart_and_results_go_to_their_own_proposals(run: Path) -> None:
    before = ToyTuner(str(run)).generate_multiple_parameters([0, 1, 2])
    tuner = ToyTuner(str(run))
    (after,) = tuner.generate_multiple_parameters([0])
    assert [p[PROPOSAL] for p in [*before, after]] == [0, 1, 2, 3]
    data = [{"parameter": before[0], "value": {"default": 0.25}}, {"parameter": before[1], "value": {"default": 0.5}}]
    tuner.import_data(data)
    tuner.import_data(data)
    tuner.receive_trial_result(0, after, {"default": 0.75})
    tuner.trial_end(2, False)  # of another process
    assert found(run) == {0: ("complete", 0.25), 1: ("complete", 0.5), 2: ("running", None), 3: ("complete", 0.75)}


def test_nnis_dispatcher_gives_the_result_of_a_trial_that_was_run_again_to_its_proposal(run: Path) -> None:
    (old,) = ToyTuner(str(run)).generate_multiple_parameters([7])
    dispatcher = MsgDispatcher("ws://_unittest_placeholder_", ToyTuner(str(run)))
    dispatcher.handle_import_data([])
    dispatcher.handle_add_customized_trial([{"parameter_id": 7, "parameters": old}])
    value = json.dumps(json.dumps({"default": 0.5, PROPOSAL: 0}))
    metric = {"parameter_id": 7, "trial_job_id": "x", "type": "FINAL", "sequence": 0, "value": json.loads(value)}
    dispatcher.handle_report_metric_data(metric)
    dispatcher.handle_trial_end({"trial_job_id": "x", "event": "FAILED", "hyper_params": '{"parameter_id": 7}'})
    assert found(run) == {0: ("complete", 0.5)}


def test_a_result_says_itself_whose_it_is(run: Path) -> None:
    """Where a trial could not read its own job, the parameters beside its result can be those of another."""
    tuner = ToyTuner(str(run))
    a, b = tuner.generate_multiple_parameters([0, 1])
    tuner.import_data(
        [
            {"parameter": a, "value": {"default": 0.2, PROPOSAL: 1}},
            {"parameter": b, "value": {"default": 0.1, PROPOSAL: 0}},
        ]
    )
    assert found(run) == {0: ("complete", 0.1), 1: ("complete", 0.2)}


def test_trials_that_a_user_made_up_on_the_page_tell_nothing(run: Path) -> None:
    tuner = ToyTuner(str(run))
    a, b = tuner.generate_multiple_parameters([0, 1])
    made_up = [
        {**b, PROPOSAL: 0},
        {**a, "stage2.block1.se": "r99"},
        {PROPOSAL: 0},
        {**a, PROPOSAL: 17},
        {k: v for k, v in a.items() if k != PROPOSAL},
        {"learning_rate": 1},
    ]
    tuner.import_data([{"parameter": parameters, "value": {"default": 0.9}} for parameters in made_up])
    assert found(run) == {0: ("running", None), 1: ("running", None)}


def test_a_trial_that_was_added_by_hand_is_in_the_study_like_any_other(run: Path, jobs: list[TrialJob]) -> None:
    tuner = ToyTuner(str(run))
    (proposed,) = tuner.generate_multiple_parameters([0])
    made = next(a for a in tuner.study.space.enumerate() if a != tuner.study.evaluations()[0].architecture)
    dispatcher = MsgDispatcher("ws://_unittest_placeholder_", tuner)
    added = {"parameter_id": None, "parameter_source": "customized", "parameters": {**made.as_dict(), PROPOSAL: 0}}
    final = {"default": 0.75, "seconds": 2.0}
    metric = {"parameter_id": None, "trial_job_id": "x", "type": "FINAL", "sequence": 0, "value": json.dumps(final)}
    dispatcher.handle_report_metric_data(metric)
    jobs += [job(added["parameters"], "SUCCEEDED", final, id="x", by_hand=True)]
    for _ in range(2):  # told once
        dispatcher.handle_trial_end({"trial_job_id": "x", "event": "SUCCEEDED", "hyper_params": json.dumps(added)})
    assert found(run) == {0: ("running", None), 1: ("complete", 0.75)}
    imported = open_toy_study(run).evaluations()[1]
    assert (imported.architecture, imported.seconds, imported.curve) == (made, 2.0, [(0, 0.25)])
    assert open_toy_study(run).count() == 1
    assert proposed[PROPOSAL] == 0
    later = [tuner.study.space.architecture(_picks(p)) for p in tuner.generate_multiple_parameters(range(1, 200))]
    assert made not in later  # it is not proposed again


def _picks(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: option for name, option in parameters.items() if name != PROPOSAL}


def test_of_trials_that_were_added_by_hand_some_failed_some_wait_and_some_are_refused(
    run: Path, jobs: list[TrialJob]
) -> None:
    tuner = ToyTuner(str(run))
    at_work, known = tuner.generate_multiple_parameters([0, 1])
    tuner.receive_trial_result(1, known, {"default": 0.5})
    fresh = next(
        a for a in tuner.study.space.enumerate() if a not in {e.architecture for e in tuner.study.evaluations()}
    )
    jobs += [
        job(at_work, "SUCCEEDED", {"default": 0.9}, id="twin", by_hand=True),
        job(known, "SUCCEEDED", {"default": 0.1}, id="again", by_hand=True),
        job(fresh.as_dict(), "FAILED", id="failed", by_hand=True),
        job(fresh.as_dict(), "RUNNING", id="running", by_hand=True),
        job({**known, "stage2.block1.se": "r99"}, "FAILED", id="wrong", by_hand=True),
    ]
    tuner.trial_end(None, True)
    assert found(run) == {0: ("running", None), 1: ("complete", 0.5), 2: ("complete", 0.5), 3: ("failed", None)}
    assert open_toy_study(run).evaluations()[2].same_as == 1
    study = open_toy_study(run)
    failed, (refused,) = reconcile(study, [*jobs, job(at_work, "FAILED")])
    assert failed == []  # what was at work is known now, by whichever of the two
    assert "wrong" in refused
    assert "r99" in refused
    assert found(run)[0] == found(run)[4] == ("complete", 0.9)
    assert study.evaluations()[4].same_as == 0
    assert study.count() == 2


def test_at_the_end_every_proposal_is_complete_or_failed_and_none_told_twice(run: Path) -> None:
    tuner = ToyTuner(str(run))
    told, untold, failed, never, live = tuner.generate_multiple_parameters(range(5))
    tuner.receive_trial_result(0, told, {"default": 0.5})
    jobs = [
        job(told, "SUCCEEDED", {"default": 0.9}),
        job(untold, "SUCCEEDED", {"default": 0.6}),
        job(failed, "FAILED"),
        job(live, "RUNNING"),
    ]
    study = open_toy_study(run)
    assert reconcile(study, jobs) == ([2, 3], [])
    assert study.running() == [4]
    assert reconcile(study, jobs) == ([], [])
    assert study.running() == [4]
    jobs[-1] = job(live, "SUCCEEDED", 0.125)
    assert reconcile(study, jobs) == ([], [])
    assert found(run) == {
        0: ("complete", 0.5),
        1: ("complete", 0.6),
        2: ("failed", None),
        3: ("failed", None),
        4: ("complete", 0.125),
    }
    assert never[PROPOSAL] == 3


def test_a_tuner_that_fails_ends_its_process() -> None:
    """NNI would keep it, and the experiment would wait for it for ever."""
    code = """
import logging
from se_nas.nni_bridge.tuner import SeNasTuner

class Broken(SeNasTuner):
    study = property(lambda self: open("/nowhere/study"))

logging.basicConfig()
Broken("run").update_search_space({})
print("still there")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "/nowhere/study" in done.stderr
    assert "still there" not in done.stdout


def test_the_tuner_connects_before_it_imports_torch() -> None:
    code = (
        "import sys; from se_nas.nni_bridge.tuner import SeNasTuner; SeNasTuner('run'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "False", done.stderr
