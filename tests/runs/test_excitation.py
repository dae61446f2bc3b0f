"""`se-nas excitation` as its user meets it: from each kind of folder, with the defaults of the training."""

from __future__ import annotations

import shutil
from html import escape
from pathlib import Path
from typing import Any

import pytest

from se_nas.layers.network import Network
from se_nas.runs.networks.open_architecture import open_architecture
from se_nas.space.architecture_file import save_architecture
from se_nas.training.trained_network import save_weights
from tests.helpers.command_lines import Run, assert_refused, call
from tests.helpers.figures import rendered
from tests.helpers.tiny_imagenet import NETWORK, write_images, write_job
from tests.helpers.tiny_runs import changed, read_json, write_yaml
from tests.report.fake_run import make_fake_run

BASELINE = {name: value for name, value in NETWORK.items() if name != "scaling"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retraining on the embedded digits; to be read, or copied, but not changed."""
    home = tmp_path_factory.mktemp("home")
    baseline = write_yaml(home / "one.yaml", {**BASELINE, "resolution": 8})
    words = ["--epochs", 2, "--batch-size", 50, "--device", "cpu", "--quiet"]
    assert call("retrain", baseline, "--data", "digits", "--out", home / "out", *words) == 0
    return home / "out"


@pytest.fixture(scope="module")
def on_imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retraining on tiny images in ImageNet's layout, in `out` beside them."""
    home = tmp_path_factory.mktemp("imagenet")
    assert call(*write_job(home), "--out", home / "out") == 0
    return home / "out"


def found_in(folder: Path) -> Any:
    return read_json(folder / "excitation.json")


def test_a_retraining_is_studied_on_its_own_test_images(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    code, _, said = se_nas("excitation", folder, "--quiet")
    assert code == 0
    result, found = read_json(folder / "result.json")["retrain"], found_in(folder / "excitation")
    assert found["accuracy"] == pytest.approx(result["test_accuracy"])
    assert (found["data"], found["images"], len(found["classes"])) == ("digits", result["test_images"], 10)
    assert [block["se"] for block in found["blocks"]] == ["blocks.0.se", "blocks.1.se"]
    assert f"accuracy with every SE: {found['accuracy']:.2%} on {found['images']} test images" in said
    assert all(note in said for note in found["notes"])
    written = {str(path.relative_to(folder / "excitation")) for path in (folder / "excitation").rglob("*.*")}
    plots = {f"plots/{name}.png" for name in ("accuracy_lost", "by_depth", "class_by_depth", "class_gates")}
    assert written == {"excitation.html", "excitation.json", "importance.json", "gates.npz", *plots}


def test_a_run_is_studied_through_the_retraining_of_its_winner(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run / "retrain")
    (run / "retrain" / "config.yaml").unlink()  # the run's own says what the data were
    write_yaml(run / "config.yaml", {"seed": 0, "data": {"name": "digits", "dir": None, "size": 2000}})
    assert se_nas("excitation", run, "--quiet")[0] == 0
    assert se_nas("excitation", trained, "--out", "direct", "--quiet")[0] == 0
    assert found_in(run / "excitation")["blocks"] == found_in(tmp_path / "direct")["blocks"]


def test_the_report_of_a_run_shows_what_its_se_learned(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    run = make_fake_run(tmp_path / "run", epochs=4)
    assert se_nas("report", run)[0] == 0
    assert "What SE learned" not in (run / "report.html").read_text()
    shutil.copytree(trained, run / "retrain", dirs_exist_ok=True)
    code, _, said = se_nas("excitation", run, "--data", "digits", "--quiet")
    assert code == 0
    assert said.splitlines()[-1] == f"report: {run / 'report.html'}"
    page = (run / "report.html").read_text()
    assert "What SE learned" in page
    assert all(escape(note) in page for note in found_in(run / "excitation")["notes"])
    assert page.count("data:image/png;base64,") == 3
    (run / "excitation" / "excitation.json").write_text("{")
    assert_refused(se_nas("report", run), f"{run / 'excitation/excitation.json'}: file: must be JSON")


def test_an_architecture_is_studied_with_weights_and_data_that_are_named(
    se_nas: Run, trained: Path, tmp_path: Path
) -> None:
    architecture = Path(shutil.copy(trained / "architecture.json", tmp_path))
    weights = ["--weights", trained / "network.pt"]
    assert_refused(
        se_nas("excitation", architecture, "--data", "digits"), f"{architecture}: the file of its weights must be given"
    )
    assert_refused(se_nas("excitation", architecture, *weights), "--data: must name the data set, of which")
    wrong = se_nas("excitation", architecture, *weights, "--data", "cifar11")
    assert_refused(wrong, "the data set must be one of digits, cifar10,")
    images = write_images(tmp_path / "images", classes=4)
    wrong = se_nas("excitation", architecture, *weights, "--data", "imagenet", "--data-dir", images, "--quiet")
    assert_refused(
        wrong, f"{tmp_path}: the images must be of the classes that the network was trained on, but there are"
    )
    assert se_nas("excitation", architecture, *weights, "--data", "digits", "--quiet")[0] == 0
    assert se_nas("excitation", trained, "--out", "direct", "--quiet")[0] == 0
    assert found_in(tmp_path / "excitation")["accuracy"] == found_in(tmp_path / "direct")["accuracy"]


@pytest.mark.parametrize("data", ["digits", "imagenet"])
def test_images_of_other_channels_are_refused(se_nas: Run, tmp_path: Path, data: str) -> None:
    file = open_architecture(
        write_yaml(
            tmp_path / "grey.yaml",
            {**BASELINE, "resolution": 8, "channels": 2, "classes": 4 if data == "imagenet" else 10},
        )
    )
    save_architecture(tmp_path / "architecture.json", file)
    save_weights(tmp_path / "network.pt", Network(file.network), None)
    words = ["--data", data, *(["--data-dir", write_images(tmp_path / "images")] if data == "imagenet" else [])]
    told = {
        "digits": "digits has images of which grey or colours are had: the channels must be 1 or 3, but got 2",
        "imagenet": "of 12 images those looked at must be readable, but val/class00/0.jpg is not: the image has 3",
    }
    assert_refused(se_nas("excitation", tmp_path, *words, "--quiet"), told[data])


@rendered()
def test_fewer_images_and_named_classes(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    words = ["excitation", trained, "--images", 100, "--class", "3", "--class", "7", "--out", "few", "--quiet"]
    assert se_nas(*words)[0] == 0
    assert 50 < found_in(tmp_path / "few")["images"] <= 100
    text = (tmp_path / "few" / "excitation.html").read_text()
    assert ">3</span>" in text.split("Gates by class")[1].split("</section>")[0]
    assert_refused(se_nas("excitation", trained, "--class", "eleven", "--quiet"), "a class to draw must be one of")


def test_what_cannot_be_studied_is_refused_in_one_line(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    assert_refused(se_nas("excitation", "nowhere"), "nowhere: file: must be readable")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(se_nas("excitation", empty), f"{empty / 'architecture.json'}: file: must be readable")
    other = se_nas("excitation", trained, "--data", "synthetic", "--quiet")
    assert_refused(other, f"{trained}: the images must be of the classes that the network was trained on")
    plain = write_yaml(tmp_path / "plain.yaml", changed(BASELINE, "stages.0.se", {"options": ["none"]}))
    words = ["--epochs", 1, "--batch-size", 50, "--device", "cpu", "--quiet", "--out", "plain"]
    assert se_nas("retrain", plain, "--data", "synthetic", *words)[0] == 0
    assert_refused(se_nas("excitation", "plain"), "a network whose excitation is studied must have SE")


def test_evaluate_gives_what_the_training_on_images_in_memory_said(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    share = read_json(trained / "result.json")["retrain"]["test_accuracy"]
    code, errors, said = se_nas("evaluate", trained, "--device", "cpu", "--quiet")
    assert (code, errors) == (0, [])
    assert f"top-1 {share:.2%}, top-5 " in said
    assert said.endswith(" on 355 images\n")
    assert_refused(se_nas("evaluate", trained, "--resolution", 16), f"--resolution: must be left out, as {trained} was")
    assert_refused(se_nas("evaluate", trained, "--max-damaged", 3), "--max-damaged: must be left out")
    (tmp_path / "empty").mkdir()
    assert_refused(se_nas("evaluate", "empty"), "empty: must be the folder of a run")


def test_on_imagenet_the_accuracy_is_that_of_evaluate(se_nas: Run, on_imagenet: Path, tmp_path: Path) -> None:
    images = ["--data-dir", on_imagenet.parent / "images", "--workers", 0, "--device", "cpu", "--quiet"]
    assert se_nas("excitation", on_imagenet, *images, "--out", "all", "--batch-size", 5)[0] == 0
    found = found_in(tmp_path / "all")
    assert (found["data"], found["images"]) == ("imagenet", 12)
    assert found["accuracy"] == pytest.approx(read_json(on_imagenet / "result.json")["retrain"]["top1"])
    assert se_nas("excitation", on_imagenet, *images, "--out", "half", "--images", 6)[0] == 0
    assert found_in(tmp_path / "half")["images"] == 6  # every second: of every class
    assert all(block["classes"].keys() == set(found["classes"]) for block in found_in(tmp_path / "half")["blocks"])


def test_on_imagenet_the_images_are_where_the_training_had_them(se_nas: Run, on_imagenet: Path, tmp_path: Path) -> None:
    assert se_nas("excitation", on_imagenet, "--workers", 0, "--device", "cpu", "--quiet", "--out", "x")[0] == 0
    assert_refused(
        se_nas("excitation", on_imagenet, "--data-dir", "nowhere", "--quiet"),
        "nowhere: --data-dir must name a folder of images",
    )
