"""Retraining on ImageNet's layout and evaluating what came of it, from the command line."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from se_nas.cost.latency.timing import Measurement
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.sources import DATASETS, OnDiskSource
from se_nas.layers.network import Network
from se_nas.layers.torchvision_guard import import_timm
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.run_log import read_log
from se_nas.runs.networks.open_architecture import open_architecture
from se_nas.runs.retraining import on_disk
from se_nas.runs.verbs import evaluate
from se_nas.search import certificate
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.yaml.file import parse_space
from se_nas.training.trained_network import DataCard, load_trained, save_weights
from tests.helpers.command_lines import Run, assert_refused, call
from tests.helpers.rank_processes import run_cli, start_ranks
from tests.helpers.tiny_imagenet import EVERYTHING, NETWORK, RECIPE, epochs_in, tiny_network, write_job
from tests.helpers.tiny_runs import began_elsewhere, changed, read_json, write_yaml

AVERAGED = {**RECIPE, "epochs": 3, "average_decay": 0.5, "label_smoothing": 0.1}


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    """The words of a retraining that works, to which a test adds its fault."""
    return write_job(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images`, a baseline and, in `out`, its retraining; to be copied, not changed."""
    home = tmp_path_factory.mktemp("trained")
    words = write_job(home, AVERAGED)
    assert call(*words, "--out", home / "out", "--keep-every", "2", "--seed", "1") == 0
    return home


# --- what a retraining leaves -------------------------------------------------------------------


def test_a_retraining_leaves_all_its_files_and_they_agree(trained: Path) -> None:
    out = trained / "out"
    history, result = read_json(out / "history.json"), read_json(out / "result.json")
    found, ledger = result["retrain"], result["ledger"]
    last = history[-1]
    assert [entry["epoch"] for entry in history] == [0, 1, 2]
    assert (found["top1"], found["top5"]) == (last["val_top1"], last["val_top5"])
    assert (found["ema_top1"], found["ema_top5"]) == (last["ema_val_top1"], last["ema_val_top5"])
    assert found["train_accuracy"] == last["accuracy"]
    assert (found["held_out_images"], found["damaged_images"], found["classes"]) == (12, 0, 4)
    assert (found["epochs"], found["seed"], found["source"]) == (3, 1, "a test")
    best = load_checkpoint(out / "best.pt")
    assert found["best"] == {name: best[name] for name in ("epoch", "weights", "top1")}
    assert [path.name for path in (out / "epochs").iterdir()] == ["0002.pt"]
    # the ledger
    assert ledger["images"] == 3 * 24
    assert ledger["images_per_second"] == pytest.approx(ledger["images"] / ledger["seconds"])
    assert ledger["device_hours"] == pytest.approx(ledger["seconds"] / 3600)
    assert (ledger["ranks"], ledger["device"]) == (1, "cpu")
    assert result["environment"] == read_json(out / "environment.json")
    # the network, with the classes of the data
    architecture = load_architecture(out / "architecture.json")
    assert architecture.network == tiny_network(classes=4)
    assert DataCard.load(out).classes == ("class00", "class01", "class02", "class03")  # type: ignore[union-attr]
    assert [line["event"] for line in read_log(out / "log.jsonl")] == ["epoch"] * 3
    assert list((out / "tensorboard").rglob("events.*"))


def test_the_certificate_counts_the_network_that_was_trained(trained: Path) -> None:
    retrained = read_json(trained / "out/certificate.json")["retrained"]
    costs = {cost["metric"]: cost for cost in retrained["costs"]}
    network = Network(tiny_network(classes=4))
    assert costs["params"]["value"] == sum(parameter.numel() for parameter in network.parameters())
    assert costs["macs"]["value"] > 0
    low, high = costs["latency_ms"]["ci95"]
    assert low <= costs["latency_ms"]["value"] <= high
    assert retrained["cross_check"]["agree"]
    assert (retrained["resolution"], retrained["classes"]) == (16, 4)
    assert retrained["trained"] == read_json(trained / "out/result.json")["retrain"]


def test_a_searched_architecture_is_scaled_and_its_certificate_extended(
    tmp_path: Path, se_nas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = write_job(tmp_path)
    searched = {**NETWORK, "resolution": 8, "scaling": {"imagenet": {"resolution": 24, "classes": 1000, "width": 2}}}
    space = parse_space(searched, "searched")
    save_architecture(tmp_path / "architecture.json", ArchitectureFile.of(space, next(space.enumerate())))
    cost = {"metric": "macs", "unit": "MACs", "value": 1, "how": "counted", "n": 1, "ci95": None}
    kept = {**cost, "limit": 2.0, "holds": True}
    budget = {"format": "se_nas certificate", "version": 1, "budgets": [kept], "costs": [cost]}
    (tmp_path / "certificate.json").write_text(json.dumps(budget))
    words[1] = str(tmp_path / "architecture.json")
    monkeypatch.setattr(certificate, "measure_network", lambda spec, key: Measurement(1.0, 1.0, (0.9, 1.1), 40))
    code, errors, _ = se_nas(*words)
    assert code == 0, errors
    network = load_architecture(tmp_path / "retrain-imagenet/architecture.json").network
    assert (network.resolution, network.stem.out_channels, network.head.classes) == (24, 16, 4)
    extended = read_json(tmp_path / "retrain-imagenet/certificate.json")
    assert extended["budgets"] == budget["budgets"]
    assert extended["retrained"]["resolution"] == 24


def test_a_data_set_on_disk_of_a_users_own_is_retrained_scaled_evaluated_and_reported(
    job: list[str], tmp_path: Path, se_nas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images lie elsewhere below the folder than ImageNet's."""
    monkeypatch.setitem(
        DATASETS, "photos", OnDiskSource(lambda folder, *how: open_encoded_images(folder / "images", *how))
    )
    space = parse_space({**NETWORK, "scaling": {"photos": {"resolution": 24}}}, "searched")
    save_architecture(tmp_path / "architecture.json", ArchitectureFile.of(space, next(space.enumerate())))
    job[1], job[3], job[5] = "architecture.json", "photos", "."
    code, errors, _ = se_nas(*job, "--out", "out")
    assert code == 0, errors
    assert load_architecture(tmp_path / "out/architecture.json").network.resolution == 24
    top1 = read_json(tmp_path / "out/result.json")["retrain"]["top1"]
    code, errors, said = se_nas("evaluate", "out", "--data-dir", ".", "--quiet", "--workers", "0", "--device", "cpu")
    assert (code, f"top-1 {top1:.2%}" in said) == (0, True), (errors, said)
    assert "on photos" in (tmp_path / "out/report.html").read_text()
    assert evaluate(tmp_path / "out", data_dir=tmp_path, device="cpu").top1 == pytest.approx(top1)


def test_it_starts_from_given_weights(trained: Path, job: list[str], tmp_path: Path, se_nas: Run) -> None:
    torch.save(load_trained(trained / "out")[0].state_dict(), tmp_path / "weights.pth")
    code, errors, _ = se_nas(*job, "--weights", "weights.pth", "--learning-rate", "1e-9", "--out", "out")
    assert code == 0, errors
    first, second = (dict(load_trained(folder / "out")[0].named_parameters()) for folder in (trained, tmp_path))
    assert all(torch.allclose(value, second[name], atol=1e-6) for name, value in first.items())


def test_what_is_said(trained: Path, tmp_path: Path, se_nas: Run) -> None:
    words = write_job(tmp_path, AVERAGED)
    code, errors, out = se_nas(*words, "--out", tmp_path / "out")
    assert code == 0
    assert [line.partition(":")[0] for line in errors[-3:]] == ["retrain"] * 3
    text = " ".join(out.split())
    found = read_json(tmp_path / "out/result.json")["retrain"]
    assert "24 training and 12 held-out images of 4 classes, 3 epochs in batches of 8 on cpu (1 process)" in text
    assert f"top-1 {found['top1']:.2%}, top-5 {found['top5']:.2%} on 12 held-out images" in text
    assert f"with the averaged weights: top-1 {found['ema_top1']:.2%}" in text
    assert f"in epoch {found['best']['epoch'] + 1} ({found['best']['weights']} weights)" in text


def test_overrides_come_after_the_recipe(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    words = [*job, "--set", "mixup=0.3", "--epochs", "1", "--batch-size", "12"]
    assert se_nas(*words, "--out", tmp_path / "out")[0] == 0
    recipe = yaml.safe_load((tmp_path / "out/config.yaml").read_text())["recipe"]
    assert (recipe["epochs"], recipe["batch_size"], recipe["mixup"]) == (1, 12, 0.3)
    assert read_json(tmp_path / "out/history.json")[0]["lr"] <= 0.05 * 12 / 8


# --- evaluating ---------------------------------------------------------------------------------


def evaluated(se_nas: Run, *words: object) -> tuple[str, str, str]:
    """Top-1, top-5, and the rest of the line."""
    code, errors, out = se_nas("evaluate", *words, "--workers", "0", "--device", "cpu", "--quiet")
    assert code == 0, errors
    assert re.search(r"weights: the (last|averaged) ones of \S+", " ".join(out.split()))
    found = re.search(r"top-1 (\S+), top-5 (\S+) on (.*)", " ".join(out.split()))
    assert found, out
    return found[1], found[2], found[3]


def test_evaluating_gives_what_the_training_said(trained: Path, se_nas: Run) -> None:
    out, data = trained / "out", ("--data-dir", trained / "images")
    found = read_json(out / "result.json")["retrain"]
    history = read_json(out / "history.json")
    last = {name: f"{found[name]:.2%}" for name in ("top1", "top5", "ema_top1", "ema_top5")}
    assert evaluated(se_nas, out, *data)[:2] == (last["ema_top1"], last["ema_top5"])
    assert evaluated(se_nas, out, *data, "--no-average")[:2] == (last["top1"], last["top5"])
    assert evaluated(se_nas, out, *data, "--batch-size", 5)[2] == "12 images at 16x16"
    best = history[found["best"]["epoch"]]
    for word, name in (("--average", "ema_val_top1"), ("--no-average", "val_top1")):
        assert evaluated(se_nas, out, *data, "--weights", out / "best.pt", word)[0] == f"{best[name]:.2%}"


def test_another_resolution_and_crop_look_at_other_pixels(
    trained: Path, se_nas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[tuple[int, ...], float]] = []
    top_accuracies = on_disk.top_accuracies

    def noted(network: Any, batches: Any, *rest: Any) -> Any:
        kept = list(batches)
        seen.append((tuple(kept[0][0].shape), float(kept[0][0].float().mean())))
        return top_accuracies(network, kept, *rest)

    monkeypatch.setattr(on_disk, "top_accuracies", noted)
    words = (trained / "out", "--data-dir", trained / "images")
    assert evaluated(se_nas, *words, "--resolution", 32)[2] == "12 images at 32x32"
    assert evaluated(se_nas, *words, "--crop", 0.5)[2] == "12 images at 16x16"
    assert evaluated(se_nas, *words)[2] == "12 images at 16x16"
    assert [shape for shape, _ in seen] == [(12, 3, 32, 32), (12, 3, 16, 16), (12, 3, 16, 16)]
    assert seen[1][1] != seen[2][1]


def test_several_ranks_evaluate_and_train_by_the_same_commands(trained: Path, tmp_path: Path) -> None:
    found = read_json(trained / "out/result.json")["retrain"]
    words = ["evaluate", str(trained / "out"), "--data-dir", str(trained / "images"), "--workers", "0"]
    ended = start_ranks(3, tmp_path / "evaluating", run_cli, [*words, "--device", "cpu"]).join()
    assert [rank.code for rank in ended] == [0] * 3, ended
    assert f"top-1 {found['ema_top1']:.2%}" in ended[0].out
    assert "on 12 images" in ended[0].out
    assert [rank.out for rank in ended[1:]] == ["", ""]
    words = [*write_job(tmp_path), "--out", str(tmp_path / "out")]
    ended = start_ranks(2, tmp_path / "training", run_cli, words).join()
    assert [rank.code for rank in ended] == [0] * 2, ended
    assert "(2 ranks)" in ended[0].out
    assert ended[1].out == ""
    ledger = read_json(tmp_path / "out/result.json")["ledger"]
    assert (ledger["ranks"], ledger["images"]) == (2, 48)
    assert ledger["device_hours"] == pytest.approx(2 * ledger["seconds"] / 3600)


def test_evaluating_leaves_damaged_images_out_and_counts_them(trained: Path, tmp_path: Path, se_nas: Run) -> None:
    shutil.copytree(trained / "images", tmp_path / "images")
    (tmp_path / "images/val/class01/0.jpg").write_bytes(b"no image")
    said = evaluated(se_nas, trained / "out", "--data-dir", tmp_path / "images")
    assert said[2] == "11 images at 16x16, 1 damaged image left out"


# --- going on -----------------------------------------------------------------------------------


def test_killed_from_the_command_line_and_resumed_ends_as_one_never_stopped(tmp_path: Path) -> None:
    words = write_job(tmp_path, {**EVERYTHING, "epochs": 8})
    ended = start_ranks(1, tmp_path / "whole.job", run_cli, [*words, "--out", str(tmp_path / "whole")]).join()
    assert ended[0].code == 0, ended
    out = tmp_path / "killed"
    process = start_ranks(1, tmp_path / "killed.job", run_cli, [*words, "--out", str(out)])
    assert process.wait_until(lambda: len(epochs_in(out)) >= 2)
    process.send(0, signal.SIGKILL)
    assert process.join()[0].code == -signal.SIGKILL
    ended = start_ranks(1, tmp_path / "again.job", run_cli, [*words, "--out", str(out), "--resume"]).join()
    assert ended[0].code == 0, ended
    assert "resumed at step" in ended[0].err
    assert read_json(out / "history.json") == read_json(tmp_path / "whole/history.json")
    first, second = (load_checkpoint(folder / "network.pt") for folder in (out, tmp_path / "whole"))
    for part in ("network", "average"):
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())
    assert epochs_in(out) == epochs_in(tmp_path / "whole")


def test_a_finished_training_is_not_begun_again_but_may_be_resumed(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    words = [*job, "--out", str(tmp_path / "out")]
    assert se_nas(*words)[0] == 0
    before = read_json(tmp_path / "out/history.json")
    assert_refused(se_nas(*words), f"{tmp_path / 'out'}: the folder must hold no run yet")
    began_elsewhere(tmp_path / "out")
    code, _, out = se_nas(*words, "--resume")
    assert (code, "resumed otherwise than it began: threads " in out) == (0, True)
    assert read_json(tmp_path / "out/history.json") == before
    assert_refused(
        se_nas(*words, "--resume", "--set", "weight_decay=0.5"),
        f"{tmp_path / 'out/config.yaml'}: recipe.weight_decay: must be as in the run",
    )
    for half in ("train", "val"):  # as many images, of other classes
        (tmp_path / "images" / half / "class03").rename(tmp_path / "images" / half / "zebra")
    assert_refused(se_nas(*words, "--resume"), f"{tmp_path / 'out/config.yaml'}: data.digest: must be as in the run")


# --- distillation -------------------------------------------------------------------------------

DISTILLED = {**RECIPE, "epochs": 1, "distillation": {"alpha": 0.5, "temperature": 2.0}}


def test_a_retrained_network_and_a_timm_model_teach(trained: Path, tmp_path: Path, se_nas: Run) -> None:
    words = write_job(tmp_path, DISTILLED)
    code, errors, _ = se_nas(*words, "--out", tmp_path / "ours", "--teacher", trained / "out")
    assert code == 0, errors
    timm = import_timm()
    model = timm.create_model("resnet10t", num_classes=4)
    torch.save(model.state_dict(), tmp_path / "teacher.pth")
    code, errors, _ = se_nas(
        *words, "--out", tmp_path / "timms", "--teacher", "resnet10t", "--teacher-checkpoint", tmp_path / "teacher.pth"
    )
    assert code == 0, errors
    losses = [read_json(tmp_path / name / "history.json")[0]["loss"] for name in ("ours", "timms")]
    assert losses[0] != losses[1]
    assert all(map(math.isfinite, losses))


def test_teacher_and_recipe_must_go_together(trained: Path, tmp_path: Path, se_nas: Run) -> None:
    words, distilled = write_job(tmp_path), write_yaml(tmp_path / "distilled.yaml", DISTILLED)
    assert_refused(se_nas(*words, "--teacher", trained / "out"), "recipe: distillation: a teacher needs `distillation`")
    words[words.index("--recipe") + 1] = str(distilled)
    assert_refused(se_nas(*words), "recipe: distillation: a recipe with `distillation` needs a teacher")
    assert_refused(
        se_nas(*words, "--teacher", "resnet18"), "--teacher: must be a folder that a retraining left, or a timm model"
    )
    missing = tmp_path / "no.pth"
    assert_refused(
        se_nas(*words, "--teacher", "resnet18", "--teacher-checkpoint", missing),
        f"{missing}: the teacher's checkpoint must hold",
    )
    shutil.copytree(trained / "out", tmp_path / "cifar")
    facts = DataCard.load(tmp_path / "cifar")
    assert facts is not None
    replace(facts, name="cifar10", mean=(0.5, 0.5, 0.5)).save(tmp_path / "cifar")
    assert_refused(se_nas(*words, "--teacher", tmp_path / "cifar"), "--teacher: must be trained on images that were")
    for half in ("train", "val"):  # as many classes, but others
        (tmp_path / "images" / half / "class03").rename(tmp_path / "images" / half / "zebra")
    assert_refused(
        se_nas(*words, "--teacher", trained / "out"),
        f"{trained / 'out'}: the images must be of the classes that the network was trained on, but 'zebra' is not",
    )


# --- bad input ----------------------------------------------------------------------------------


def replaced(words: list[str], option: str, value: object) -> list[str]:
    found = list(words)
    found[found.index(option) + 1] = str(value)
    return found


def test_a_network_or_teacher_for_images_of_other_channels_is_refused(
    tmp_path: Path, job: list[str], se_nas: Run
) -> None:
    five = write_yaml(tmp_path / "five.yaml", {**NETWORK, "channels": 5})
    code, errors, _ = se_nas(*(str(five) if word == job[1] else word for word in job))
    assert code == 2
    assert errors[-1].endswith("class00/0.jpg is not: the image has 3 channels where the network takes 5")
    must = "channels must be 3, as the images have, but the network's are 1"
    grey = write_yaml(tmp_path / "grey.yaml", {**NETWORK, "channels": 1})
    file = open_architecture(grey)
    save_architecture(tmp_path / "teacher/architecture.json", file)
    save_weights(tmp_path / "teacher/network.pt", Network(file.network), None)
    distilled = replaced(job, "--recipe", write_yaml(tmp_path / "distilled.yaml", DISTILLED))
    assert_refused(se_nas(*distilled, "--teacher", tmp_path / "teacher"), f"{tmp_path / 'teacher'}: {must}")


def test_faults_of_the_images_are_one_line(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    at = job.index("--data-dir")
    assert_refused(se_nas(*job[:at], *job[at + 2 :]), "the data set imagenet needs the folder of its images")
    assert_refused(se_nas(*replaced(job, "--data-dir", tmp_path / "none")), f"{tmp_path / 'none'}: --data-dir must")
    shutil.rmtree(tmp_path / "images/val/class02")
    assert_refused(
        se_nas(*job), f"{tmp_path / 'images'}: every class of train must have an image in val, but class02 is"
    )
    (tmp_path / "images/val/klass02").mkdir()
    assert_refused(se_nas(*job), f"{tmp_path / 'images/val'}: every class must be in train as well, but klass02 is not")
    assert not (tmp_path / "one-imagenet").exists()


def test_too_many_damaged_images_are_one_line_and_fewer_are_named(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    for number in range(3):
        (tmp_path / f"images/train/class00/{number}.jpg").write_bytes(b"\xff\xd8 cut off")
    code, errors, _ = se_nas(*job, "--max-damaged", 2, "--out", tmp_path / "few")
    assert code == 2
    (error,) = [line for line in errors if line.startswith("error:")]
    assert error.startswith("error: at most 2 images may be damaged (max_damaged), but 3 are, the last train/class00/")
    assert not any("Traceback" in line for line in errors)
    code, errors, out = se_nas(*job, "--max-damaged", 3, "--out", tmp_path / "enough")
    assert code == 0
    assert sum("the image is damaged and left out" in line for line in errors) == 3
    assert list(read_json(tmp_path / "enough/damaged.json")) == [f"train/class00/{number}.jpg" for number in range(3)]
    assert read_json(tmp_path / "enough/result.json")["retrain"]["damaged_images"] == 3
    assert "left out as damaged: 3 images" in " ".join(out.split())


def test_faults_of_the_recipe_are_one_line_each(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    assert_refused(se_nas(*replaced(job, "--recipe", "mobil-150")), "mobil-150: a recipe must be one of a2, ")
    code, errors, _ = se_nas(*replaced(job, "--recipe", "mobil-150"))
    assert "mobile-150" in errors[0].split("YAML file")[1]
    typo = write_yaml(tmp_path / "typo.yaml", {**RECIPE, "label_smothing": 0.1, "epochs": 0})
    code, errors, _ = se_nas(*replaced(job, "--recipe", typo))
    assert code == 2
    assert len(errors) == 2
    assert all(line.startswith(f"error: {typo}: ") for line in errors)
    assert any("label_smothing: unknown key" in line and "label_smoothing" in line for line in errors)
    assert_refused(se_nas(*job, "--set", "mixup"), "--set: a change must be PATH=VALUE")
    assert_refused(
        se_nas(*job, "--batch-size", 1000),
        "recipe: batch_size: must be at most the number of training images, 24, but got 1000",
    )
    assert_refused(
        se_nas(*job, "--batch-size", 2, "--set", "accumulate=2"),
        "recipe: batch_size: each part must have at least 2 images, for batch norm, over ranks (1) times ",
    )
    assert_refused(se_nas(*job, "--set", "train_resolution=100000"), f"{job[job.index('--recipe') + 1]}: train_resol")
    assert se_nas(*job, "--seed", -1)[0] == 2
    assert not (tmp_path / "one-imagenet").exists()  # what is refused leaves no mark


def test_options_for_imagenet_alone_are_refused_elsewhere(job: list[str], se_nas: Run) -> None:
    assert_refused(se_nas(*job, "--download"), "--download: must be left out")
    elsewhere = replaced(job, "--data", "digits")
    assert_refused(se_nas(*elsewhere, "--space", job[1]), "--space: must be left out for images in memory")
    assert_refused(se_nas(*job, "--teacher-checkpoint", "x.pth"), "--teacher-checkpoint: must be left out")
    assert_refused(se_nas(*job, "--set", "crop=padded"), "recipe: crop: must be random_size for images on disk")


def test_faults_of_the_architecture_are_one_line(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    several = write_yaml(tmp_path / "several.yaml", changed(NETWORK, "stages.0.kernel", [3, 5]))
    assert_refused(se_nas(*job[:1], several, *job[2:]), f"{several}: a space to be trained must hold one network")
    small = write_yaml(tmp_path / "small.yaml", {k: v for k, v in NETWORK.items() if k != "scaling"})
    assert_refused(
        se_nas(*job[:1], small, *job[2:]), "an architecture to be trained on imagenet must be scaled to it or be of"
    )
    missing = tmp_path / "architecture.json"
    assert_refused(se_nas(*job[:1], missing, *job[2:]), f"{missing}: ")
    space = parse_space({k: v for k, v in NETWORK.items() if k != "scaling"}, "small")
    save_architecture(missing, ArchitectureFile.of(space, next(space.enumerate())))
    assert_refused(se_nas(*job[:1], missing, *job[2:]), "an architecture to be trained on imagenet must be scaled")
    # what --space then gives
    words = [*job[:1], str(missing), *job[2:], "--space", str(tmp_path / "one.yaml"), "--epochs", "1"]
    assert se_nas(*words)[0] == 0
    other = write_yaml(tmp_path / "other.yaml", changed(NETWORK, "stages.0.kernel", 5))
    code, errors, _ = se_nas(*job[:1], missing, *job[2:], "--space", other)
    assert (code, len(errors)) == (2, 1)


def test_faults_on_several_ranks_are_said_once(tmp_path: Path, job: list[str]) -> None:
    words = [*job, "--out", str(tmp_path / "out"), "--batch-size", "8"]
    ended = start_ranks(3, tmp_path / "job", run_cli, words).join()
    assert [rank.code for rank in ended] == [2] * 3
    assert "".join(rank.err for rank in ended).splitlines() == [
        "error: recipe: batch_size: must be a multiple of ranks (3) times accumulate (1), but got 8"
    ]
    shutil.rmtree(tmp_path / "images/val/class02")
    ended = start_ranks(2, tmp_path / "images.job", run_cli, words).join()
    assert [rank.code for rank in ended] == [2] * 2
    (line,) = "".join(rank.err for rank in ended).splitlines()
    assert line.startswith(f"error: {tmp_path / 'images'}: every class of train")
    ended = start_ranks(2, tmp_path / "usage.job", run_cli, [*words, "--no-such-option"]).join()
    assert [rank.code for rank in ended] == [2] * 2
    assert len("".join(rank.err for rank in ended).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_faults_in_evaluating_are_one_line(trained: Path, tmp_path: Path, se_nas: Run) -> None:
    shutil.copytree(trained / "out", tmp_path / "out")
    out, data = tmp_path / "out", ("--data-dir", trained / "images", "--device", "cpu", "--workers", 0)
    assert_refused(se_nas("evaluate", tmp_path, *data), f"{tmp_path}: must be the folder of a run")
    assert_refused(se_nas("evaluate", out), "the data set imagenet needs the folder of its images")
    assert_refused(se_nas("evaluate", out, *data, "--crop", 1.5), "--crop: must be above 0 and at most 1, but got 1.5")
    other = tmp_path / "other.pt"
    save_weights(other, Network(tiny_network(classes=7)), None)
    assert_refused(
        se_nas("evaluate", out, *data, "--weights", other),
        f"{other}: the weights must be of this architecture, with head.classifier.weight of shape (4, 32), but got (7,",
    )
    assert_refused(
        se_nas("evaluate", out, *data, "--weights", tmp_path / "none.pt"), f"{tmp_path / 'none.pt'}: a checkpoint must"
    )
    save_weights(other, Network(tiny_network(classes=4)), None)
    assert_refused(
        se_nas("evaluate", out, *data, "--weights", other, "--average"), f"{other}: averaged weights were asked for"
    )
    shutil.copytree(trained / "images", tmp_path / "images")
    for half in ("train", "val"):
        (tmp_path / "images" / half / "class03").rename(tmp_path / "images" / half / "zebra")
    assert_refused(
        se_nas("evaluate", out, "--data-dir", tmp_path / "images", *data[2:]),
        f"{out}: the images must be of the classes that the network was trained on, but 'zebra' is not",
    )
    (out / "data.json").unlink()
    shutil.rmtree(tmp_path / "images/train/zebra")
    shutil.rmtree(tmp_path / "images/val/zebra")
    assert_refused(
        se_nas("evaluate", out, "--data-dir", tmp_path / "images", *data[2:]),
        f"{out}: the images must be of the classes that the network was trained on, but there are 3 instead of 4",
    )
    config = yaml.safe_load((out / "config.yaml").read_text())
    for damaged in (
        [1, 2],
        {**config, "data": "imagenet"},
        {"data": config["data"]},
        {**config, "recipe": {**config["recipe"], "epochs": "two"}},
    ):
        write_yaml(out / "config.yaml", damaged)
        assert_refused(se_nas("evaluate", out, *data), str(out))
        assert_refused(se_nas("report", out), str(out))
    write_yaml(out / "config.yaml", config)
    (out / "network.pt").write_bytes(b"cut off")
    (out / "network.pt.previous").unlink(missing_ok=True)
    assert_refused(se_nas("evaluate", out, *data), f"{out / 'network.pt'}: a checkpoint must be a whole file")


def test_a_checkpoint_of_another_architecture_is_one_line(tmp_path: Path, job: list[str], se_nas: Run) -> None:
    words = [*job, "--out", str(tmp_path / "out")]
    assert se_nas(*words)[0] == 0
    wider = write_yaml(tmp_path / "wider.yaml", changed(NETWORK, "stem.width", 16))
    assert se_nas(*words[:1], wider, *job[2:], "--out", tmp_path / "wider")[0] == 0
    shutil.copy(tmp_path / "wider/checkpoint.pt", tmp_path / "out/checkpoint.pt")
    code, (error,), _ = se_nas(*words, "--resume")
    assert code == 2
    assert error.startswith(f"error: {tmp_path / 'out/checkpoint.pt'}: a checkpoint to resume must fit this run, but")
    assert "stem.conv.weight" in error
    assert len(error) < 400
    code, errors, _ = se_nas(*words[:1], wider, *words[2:], "--resume")
    assert code == 2
    assert all("must be as in the run that --resume continues" in line for line in errors)
