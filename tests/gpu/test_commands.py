"""Every command that computes on a device, done whole on a CUDA device: the one that there is, or a simulated one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from se_nas.runs.networks.teacher import Teacher, open_teacher
from se_nas.training.trained_network import DataCard
from tests.helpers.command_lines import Run, call
from tests.helpers.tiny_imagenet import EVERYTHING, NETWORK, write_job
from tests.helpers.tiny_runs import RUN, SPACE, changed, read_json, write_run, write_yaml

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ATTENTION = {"options": ["none", 2, "eca", "ese", "cbam/2", "spatial"]}
CAPTURED = {"cuda_graphs": True}  # which by itself is for longer ones
TRAINED = {"epochs": 2, "batch_size": 20, "average_decay": 0.9, "cutout": 2, "clip": 1.0, **CAPTURED}
ON_GPU: dict[str, Any] = {
    **RUN,
    "device": "cuda",
    "latency": {"table": False},
    "search": {**RUN["search"], **CAPTURED},
    "retrain": TRAINED,
}
QUICK = {"epochs": 1, "batch_size": 20, "calibration_images": 48}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A differentiable search, its answer retrained; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    file = write_run(folder, ON_GPU, changed(SPACE, "stages.0.se", ATTENTION))
    assert call("search", file, "--out", folder / "out", "--quiet") == 0
    return folder / "out"


def test_a_search_runs_to_its_report(run: Path) -> None:
    conditions = read_json(run / "certificate.json")["latency_conditions"]
    assert (conditions["device"].split()[0], conditions["runtime"]) == ("cuda", "cuda_graph")
    assert read_json(run / "environment.json")["device"] == "cuda"
    assert (run / "report.html").exists()


def test_a_search_decodes_again(run: Path, se_nas: Run) -> None:
    assert se_nas("decode", run, "--budget", "macs=85k", "--out", "again")[0] == 0


def test_a_retrained_network_is_evaluated(run: Path, se_nas: Run) -> None:
    code, _, said = se_nas("evaluate", run / "retrain", "--device", "cuda", "--quiet")
    assert code == 0, said


def test_a_retrained_network_is_exported_and_studied(run: Path, se_nas: Run) -> None:
    assert se_nas("export", run / "retrain", "--to", "plain", "--out", "plain")[0] == 0
    assert se_nas("excitation", run, "--device", "cuda", "--out", "excitation", "--quiet")[0] == 0


def test_evidence_is_gathered(run: Path, tmp_path: Path, se_nas: Run) -> None:
    words = ["--set", "seeds=[0]", "--set", "random=1", "--set", "best_of=2", "--set", "searches=[]"]
    parts = [word for part in ("controls", "latency", "ledger") for word in ("--part", part)]
    code, errors, _ = se_nas("evidence", run, "--quiet", "--device", "cuda", *words, *parts)
    assert code == 0, errors


@pytest.mark.parametrize("evaluator", ["supernet", pytest.param("stand_alone", marks=pytest.mark.slow)])
def test_optuna_searches(evaluator: str, tmp_path: Path, se_nas: Run) -> None:
    settings = {"supernet": {**QUICK, "epochs": 2}, "stand_alone": {"epochs": 1, "batch_size": 20}}
    search = {"strategy": "optuna", "max_evaluations": 4, "population": 2, "evaluator": evaluator}
    search[evaluator] = settings[evaluator]
    file = write_run(tmp_path, {**ON_GPU, "search": search, "retrain": None})
    code, errors, _ = se_nas("search", file, "--out", "out", "--quiet")
    assert code == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["strict_fairness", "uniform"])
def test_a_supernet_is_trained_in_each_way(sampling: str, tmp_path: Path, se_nas: Run) -> None:
    search = {"strategy": "optuna", "max_evaluations": 2, "population": 2, "supernet": {**QUICK, "sampling": sampling}}
    file = write_run(tmp_path, {**ON_GPU, "search": search, "retrain": None})
    assert se_nas("search", file, "--out", "out", "--quiet")[0] == 0


@pytest.mark.slow
def test_a_differentiable_search_trains_on_mixtures(tmp_path: Path, se_nas: Run) -> None:
    search = {"pretrain_epochs": 0, **QUICK, "weight_step": "mixture", "relaxation": "softmax", "restarts": 2}
    file = write_run(tmp_path, {**ON_GPU, "search": search, "retrain": None})
    assert se_nas("search", file, "--out", "out", "--quiet")[0] == 0


def test_a_network_is_trained_on_images_on_disk_and_evaluated(tmp_path: Path, se_nas: Run) -> None:
    words = [word if word != "cpu" else "cuda" for word in write_job(tmp_path, EVERYTHING)]
    code, errors, _ = se_nas(*words, "--out", "out")
    assert code == 0, errors
    assert se_nas("evaluate", "out", "--device", "cuda", "--data-dir", tmp_path / "images", "--quiet")[0] == 0


def test_a_network_learns_from_a_teacher(tmp_path: Path, se_nas: Run) -> None:
    one = write_yaml(tmp_path / "one.yaml", {k: v for k, v in NETWORK.items() if k != "scaling"} | {"resolution": 8})
    words = ["retrain", one, "--data", "digits", "--device", "cuda", "--quiet"]
    assert se_nas(*words, "--out", "teacher", "--epochs", 1, "--batch-size", 100)[0] == 0
    soft = {"alpha": 0.5, "temperature": 2.0}
    of_digits = {"source": "a test", "epochs": 1, "batch_size": 100, "learning_rate": 0.05}
    recipe = write_yaml(
        tmp_path / "recipe.yaml", {**of_digits, "weight_decay": 0.0, "crop": "padded", "distillation": soft}
    )
    code, errors, _ = se_nas(*words, "--out", "student", "--recipe", recipe, "--teacher", "teacher")
    assert code == 0, errors
    card, name = DataCard.load(tmp_path / "teacher"), Teacher(str(tmp_path / "teacher"))
    assert card is not None
    teacher = open_teacher(name, card.classes, card.mean, card.std, torch.device("cuda"))
    weight = teacher.get_parameter("stem.conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)  # as its images, or each call would convert it
    assert not weight.is_contiguous()


def test_a_space_is_timed_and_swept(tmp_path: Path, se_nas: Run) -> None:
    write_run(tmp_path, space={**SPACE, "stages": SPACE["stages"][:1]})
    words = ["--device", "cuda", "--dtype", "float16", "--quiet"]
    assert se_nas("latency", "space.yaml", *words)[0] == 0
    code, errors, _ = se_nas("space", "sweep", "space.yaml", "--set", "se=none,2", *words, "--out", "sweep")
    assert code == 0, errors
