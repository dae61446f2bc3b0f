"""NNI 3.0's faults, met in one real experiment: its tuner is killed half-way, it is stopped, resumed and finished."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from se_nas.nni_bridge.experiment import manager, status
from se_nas.nni_bridge.experiment.manager_client import UNFINISHED, Metric, TrialJob
from se_nas.nni_bridge.page_values import PROPOSAL, nni_search_space
from se_nas.nni_bridge.reconcile import reconcile
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.space.yaml.file import load_space
from tests.helpers.tiny_runs import SPACE, write_yaml
from tests.nni_bridge.live import free_port, kill_tuner, until
from tests.nni_bridge.toy_trial import FAILS, LATE, WAITS, WAITS_FOR, worth
from tests.nni_bridge.toy_tuner import open_toy_study

pytestmark = pytest.mark.timeout(900)  # all of the experiment is in the first test
ROOT = Path(__file__).resolve().parents[2]
TRIALS, CONCURRENCY = 8, 3


@dataclass
class Story:
    """What was seen of the experiment."""

    untold: set[int]  # finished while no tuner listened
    before: list[TrialJob]  # when it was stopped
    jobs: list[TrialJob]  # when it was done
    metrics: list[Metric]
    ran: list[dict[str, Any]]
    running: set[int]  # in the study, when it was done
    asked_only: set[int]  # of these, asked for and never submitted
    failed: list[int]  # told by the reconciliation
    failed_again: list[int]
    evaluations: list[Evaluation]
    told: Counter[int]


def ran(run: Path) -> list[dict[str, Any]]:
    """What each trial wrote down before it did anything else."""
    file = run / "ran.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def times_told(journal: Path) -> Counter[int]:
    """How often a trial, by its id in the journal (which is its number), was given a final state."""
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    return Counter(e["trial_id"] for e in entries if "trial_id" in e and e.get("state") in (1, 2, 3))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    run = tmp_path_factory.mktemp("faults")
    write_yaml(run / "space.yaml", SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(run))
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            yield play(run)
        finally:
            if (experiment := status.running(run)) is not None:
                kill_tuner(experiment.pid)  # NNI would wait seconds for it to end
            manager.stop(run)
            shutil.rmtree(run / "nni", ignore_errors=True)


def play(run: Path) -> Story:
    config = {
        "experiment_name": "faults",
        "search_space": nni_search_space(load_space(run / "space.yaml")),
        "trial_command": f"exec {sys.executable} -m tests.nni_bridge.toy_trial {run}",
        "trial_code_directory": str(ROOT),
        "trial_concurrency": CONCURRENCY,
        "max_trial_number": TRIALS,
        "tuner": {
            "class_name": "tests.nni_bridge.toy_tuner.ToyTuner",
            "code_directory": str(ROOT),
            "class_args": {"run": str(run)},
        },
        "training_service": {"platform": "local"},
    }
    experiment = manager.start(run, config, port=free_port())
    client = experiment.client()

    until(lambda: LATE in [row["own"][PROPOSAL] for row in ran(run)])
    kill_tuner(experiment.pid)
    (run / WAITS_FOR[LATE]).touch()
    until(lambda: sum(job.status in UNFINISHED for job in client.trials()) == 1)  # NNI goes on with what it has
    before = client.trials()
    untold = set(open_toy_study(run).running()) & {j.parameters[PROPOSAL] for j in before if j.status == "SUCCEEDED"}
    manager.stop(run)
    (run / WAITS_FOR[WAITS]).touch()
    client = manager.resume(run).client()
    assert status.wait_until_done(run).state == "DONE"
    jobs, metrics = client.trials(), client.metrics()
    study = open_toy_study(run)
    running = set(study.running())
    (failed, refused), (failed_again, _) = reconcile(study, jobs), reconcile(study, jobs)
    assert refused == []
    return Story(
        untold=untold,
        before=before,
        jobs=jobs,
        metrics=metrics,
        ran=ran(run),
        running=running,
        asked_only=running - {job.parameters[PROPOSAL] for job in jobs},
        failed=failed,
        failed_again=failed_again,
        evaluations=study.evaluations(),
        told=times_told(run / "study.journal"),
    )


def test_every_trial_runs_exactly_the_parameters_that_the_page_shows_for_its_id(story: Story) -> None:
    shown = {job.id: job.parameters for job in story.jobs}
    assert len(shown) == TRIALS
    assert {row["id"] for row in story.ran} == set(shown)
    assert [row["own"] for row in story.ran] == [shown[row["id"]] for row in story.ran]
    # which is not what NNI handed over
    assert any(row["handed"] != shown[row["id"]] for row in story.ran)


def test_every_result_on_the_page_is_that_of_the_parameters_beside_it(story: Story) -> None:
    succeeded = [job for job in story.jobs if job.status == "SUCCEEDED"]
    assert len(succeeded) == TRIALS - 1
    for job in succeeded:
        assert job.final["default"] == worth(job.parameters)
        assert job.final[PROPOSAL] == job.parameters[PROPOSAL]
        curve = [metric for metric in story.metrics if metric.trial == job.id and metric.kind == "PERIODICAL"]
        # two reports a moment apart may reach NNI's database in either order; its page draws them by their number
        assert sorted(metric.sequence for metric in curve) == [0, 1]


def test_the_ids_of_parameters_restart_after_a_resume_and_our_numbers_do_not(story: Story) -> None:
    ids = Counter(job.parameter_id for job in story.jobs)
    assert max(ids.values()) > 1
    assert len({job.parameters[PROPOSAL] for job in story.jobs}) == TRIALS


def test_a_killed_tuner_loses_no_result_and_none_is_told_twice(story: Story) -> None:
    assert LATE in story.untold
    assert not story.untold & story.running  # the resumed tuner was told
    by_number = {evaluation.number: evaluation for evaluation in story.evaluations}
    for job in story.jobs:
        evaluation = by_number[job.parameters[PROPOSAL]]
        assert evaluation.state == ("complete" if job.status == "SUCCEEDED" else "failed")
        assert evaluation.architecture.as_dict() == {k: v for k, v in job.parameters.items() if k != PROPOSAL}
        assert evaluation.accuracy == (job.final["default"] if job.final else None)
    assert set(story.told.values()) == {1}
    assert set(story.told) == set(by_number)


def test_the_study_keeps_what_a_trial_reported_on_the_way(story: Story) -> None:
    told = [j for j in story.before if j.status == "SUCCEEDED" and j.parameters[PROPOSAL] not in story.untold]
    assert told
    curves = {evaluation.number: evaluation.curve for evaluation in story.evaluations}
    for job in told:
        accuracy = worth(job.parameters)
        assert curves[job.parameters[PROPOSAL]] == [(0, accuracy / 2), (1, accuracy)]


def test_a_trial_that_fails_is_told_as_failed(story: Story) -> None:
    (job,) = [job for job in story.jobs if job.parameters[PROPOSAL] == FAILS]
    assert job.status == "FAILED"
    assert {e.number: e.state for e in story.evaluations}[FAILS] == "failed"


def test_what_nni_asked_for_and_never_submitted_is_reconciled_when_it_is_done(story: Story) -> None:
    assert story.asked_only
    assert set(story.failed) >= story.asked_only
    assert story.failed_again == []
    assert {e.state for e in story.evaluations} == {"complete", "failed"}


def test_a_trial_that_was_cut_off_runs_again_with_its_id_and_its_parameters(story: Story) -> None:
    (cut,) = [job for job in story.before if job.status in UNFINISHED]
    (done,) = [job for job in story.jobs if job.id == cut.id]
    assert cut.parameters[PROPOSAL] == WAITS
    assert done.parameters == cut.parameters
    assert done.status == "SUCCEEDED"
    assert sum(row["id"] == cut.id for row in story.ran) == 2
