"""Images as people have them, through a whole run and a retraining: their channels, their faults, their order."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from se_nas.data.file_options import FileOptions
from se_nas.data.in_memory import synthetic
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.pixels import Reading, pixels_of, planes_in
from se_nas.data.sources import DATASETS, DataSource, load_train
from se_nas.errors import ConfigError, DataError
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.runs.verbs import evaluate
from se_nas.space.architecture_file import load_architecture
from se_nas.training.trained_network import DataCard
from tests.helpers.command_lines import Run
from tests.helpers.tiny_imagenet import NETWORK, write_job
from tests.helpers.tiny_runs import SPACE, write_run, write_yaml

_SMALL: dict[str, Any] = {
    "name": "own",
    "space": "space.yaml",
    "device": "cpu",
    "budgets": {"macs": "90k"},
    "latency": {"table": False},
    "search": {"pretrain_epochs": 1, "epochs": 1, "batch_size": 8, "calibration_images": 16},
    "retrain": {"epochs": 1, "batch_size": 8},
}


def _bands(root: Path, halves: tuple[str, str], channels: int, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for half in halves:
        for label, level in (("a", 0.3), ("b", 0.7)):
            folder = root / half / label
            folder.mkdir(parents=True)
            for number in range(count):
                np.save(folder / f"{number}.npy", (rng.random((12, 10, channels)) * 0.2 + level).astype(np.float32))
    return root


def _search(folder: Path, data: dict[str, Any], channels: int) -> list[str]:
    run_file = write_run(folder, {**_SMALL, "data": {"name": "folder", **data}}, {**SPACE, "channels": channels})
    said: list[str] = []
    run_search(run_file, load_run(run_file), folder / "out", resume=False, progress=False, say=said.append)
    return said


def test_a_space_of_five_channels_is_searched_trained_and_evaluated_on_images_that_have_them(
    tmp_path: Path, se_nas: Run
) -> None:
    root = _bands(tmp_path / "data", ("train", "test"), 5)
    (root / "train" / "a" / "0.npy").write_bytes(b"broken")
    (root / "test" / "b" / "notes.txt").write_text("")
    said = _search(tmp_path, {"dir": str(root), "value_range": [0, 1]}, 5)
    assert sum("train/a/0.npy: the image is damaged and left out" in line for line in said) == 1
    assert sum("passed over: 1 without the suffix of an image" in line for line in said) == 1
    assert load_architecture(tmp_path / "out" / "architecture.json").network.in_channels == 5
    card = DataCard.load(tmp_path / "out" / "retrain")
    assert card is not None
    assert len(card.mean) == 5
    stored = json.loads((tmp_path / "out" / "result.json").read_text())["retrain"]["test_accuracy"]
    code, _, out = se_nas("evaluate", tmp_path / "out", "--device", "cpu", "--quiet")
    assert code == 0
    assert "passed over: 1 without the suffix of an image" in out
    assert f"top-1 {stored:.2%}" in out


def test_labels_of_unsorted_test_images_lie_beside_the_run_file_that_names_them(tmp_path: Path) -> None:
    root = _bands(tmp_path / "data", ("train", "test"), 3)
    lines = []
    for path in sorted((root / "test").rglob("*.npy")):
        lines.append(f"{path.parent.name}{path.name}\t{path.parent.name}")
        path.rename(root / "test" / lines[-1].partition("\t")[0])
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    _search(tmp_path, {"dir": "data", "value_range": [0, 1], "val_labels": "labels.txt"}, 3)
    history = json.loads((tmp_path / "out" / "retrain" / "history.json").read_text())
    assert history[-1]["class_images"] == [12, 12]
    assert evaluate(tmp_path / "out", device="cpu").images == 24


def test_images_whose_channels_are_not_the_spaces_are_an_error(tmp_path: Path) -> None:
    root = _bands(tmp_path / "data", ("train", "test"), 5)
    with pytest.raises(DataError, match="the image has 5 channels where the network takes 3"):
        _search(tmp_path, {"dir": str(root), "value_range": [0, 1]}, 3)


def test_a_data_set_of_a_plugin_with_other_channels_than_the_space_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grey(options: Any) -> Any:
        return synthetic.load_train(replace(options, channels=1))

    monkeypatch.setitem(DATASETS, "always_grey", DataSource(grey, synthetic.load_test))
    with pytest.raises(ConfigError, match=r"channels: must be 1, as the images of synthetic have, but got 3"):
        _search(tmp_path, {"name": "always_grey"}, 3)


@pytest.mark.parametrize("data", [pytest.param("digits", marks=pytest.mark.slow), "synthetic"])
def test_a_grey_space_is_searched_on_grey_images(tmp_path: Path, data: str) -> None:
    size = {"size": 200} if data == "synthetic" else {}
    _search(tmp_path, {"name": data, **size}, 1)
    assert load_architecture(tmp_path / "out" / "architecture.json").network.in_channels == 1


def test_images_of_five_channels_on_disk_are_retrained_on_and_evaluated(tmp_path: Path, se_nas: Run) -> None:
    words = write_job(tmp_path)
    root = _bands(tmp_path / "bands", ("train", "val"), 5)
    write_yaml(Path(words[1]), {**NETWORK, "channels": 5})
    words[words.index("--data-dir") + 1] = str(root)
    out = tmp_path / "out"
    code, errors, said = se_nas(*words, "--value-range", "0", "1", "--out", str(out))
    assert code == 0, errors
    card = DataCard.load(out)
    assert card is not None
    assert card.mean == pytest.approx((0.6,) * 5, abs=0.03)
    assert min(card.std) > 0.1
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["value_range"] == [0.0, 1.0]
    stored = json.loads((out / "result.json").read_text())["retrain"]["top1"]
    code, errors, said = se_nas("evaluate", str(out), "--data-dir", str(root), "--workers", "0")
    assert code == 0, errors
    assert f"top-1 {stored:.2%}" in said
    code, errors, _ = se_nas(*words, "--set", "color_jitter=0.4", "--out", str(tmp_path / "jitter"))
    assert code == 2
    assert "color_jitter: must be left out for images of 5 channels" in errors[-1]


def test_unsorted_validation_images_are_retrained_on_with_their_labels(tmp_path: Path, se_nas: Run) -> None:
    words = write_job(tmp_path)
    root = Path(words[words.index("--data-dir") + 1])
    lines = []
    for path in sorted((root / "val").rglob("*.*")):
        lines.append(f"{path.parent.name}{path.name},{path.parent.name}")
        path.rename(root / "val" / lines[-1].partition(",")[0])
    for folder in (root / "val").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    code, errors, _ = se_nas(*words)
    assert code == 2
    assert "(--val-labels FILE)" in errors[-1]
    code, errors, said = se_nas(*words, "--val-labels", str(tmp_path / "labels.csv"))
    assert code == 0, errors
    assert "12 held-out images" in said


def test_a_rotated_photo_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    """Of two classes that differ in their EXIF alone, the pixels differ unless the orientation is to be left."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    for label, number in (("a", 1), ("b", 3)):
        exif = Image.Exif()
        exif[0x0112] = number
        (tmp_path / "train" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "train" / label / "0.jpg", exif=exif.tobytes())
    for orient in (True, False):
        options = DataOptions("folder", tmp_path, 16, files=FileOptions(orient=orient))
        _, train = load_train(options)
        assert bool((train.images[0] != train.images[1]).any()) is orient


def test_images_of_five_channels_are_packed_into_tar_files_and_what_is_passed_over_is_said(
    tmp_path: Path, se_nas: Run
) -> None:
    root = _bands(tmp_path / "data", ("train", "val"), 5, count=3)
    (root / "train" / "a" / "notes.txt").write_text("")
    words = ("data", "shard", root, tmp_path / "out", "--workers", "0", "--quiet", "--value-range", "0", "1")
    code, _, said = se_nas(*words, "--channels", "5")
    assert code == 0
    assert "1 without the suffix of an image, such as train/a/notes.txt" in said
    train, _ = open_encoded_images(tmp_path / "out", Reading(5, value_range=(0, 1)))
    assert len(pixels_of(planes_in(train.image(0)))[0, 0]) == 5
    code, errors, _ = se_nas(*words)  # of colours, which these are not
    assert code == 2
    assert "differ in channels" in errors[-1]
