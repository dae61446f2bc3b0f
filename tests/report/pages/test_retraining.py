from __future__ import annotations

import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from se_nas.cli import main as cli
from se_nas.cli.options import parse_changes
from se_nas.cost.counts import network_counts
from se_nas.errors import ConfigError
from se_nas.records.files import write_atomic, write_json
from se_nas.report.pages.retraining import write_retrain_report
from se_nas.report.theme.words import ABSENT, TIMES
from se_nas.runs.retraining import on_disk
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.yaml.file import load_space
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import load_recipe
from tests.helpers.command_lines import parse
from tests.helpers.tiny_imagenet import write_job
from tests.report.fake_run import ENVIRONMENT, KEY, SPACES, cost_entries, make_fake_run
from tests.report.pages.test_run import Page, change, commands

EPOCHS = 12
CHANGES = {"epochs": EPOCHS, "decay_rate": 0.97, "learning_rate_noise": None, "mixup": 0.2, "mixup_off_epoch": 6}

CHECK = {"macs": 1, "params": 1, "thop_macs": 41, "thop_params": 1, "norms": 40, "agree": True}


def make_fake_retraining(
    folder: Path,
    *,
    recipe: str = "mobile-600",
    changes: dict[str, Any] = CHANGES,
    ranks: int = 8,
    searched: bool = True,
) -> Path:
    """What a finished retraining on ImageNet leaves, of MobileNetV3-Large, with averaged weights."""
    space = load_space(SPACES / "baselines" / "mobilenetv3_large.yaml")
    file = ArchitectureFile.of(space, next(space.enumerate()))
    save_architecture(folder / "architecture.json", file)
    trained_by = load_recipe(recipe, changes)
    history = [
        {
            "epoch": epoch,
            "step": 100 * (epoch + 1),
            "loss": 6.9 - 0.3 * epoch,
            "lr": 0.064 * 0.97**epoch,
            **({"accuracy": 0.4 + 0.02 * epoch} if not trained_by.mixes_in(epoch) else {}),
            "val_top1": 0.5 + 0.02 * epoch,
            "val_top5": 0.7 + 0.015 * epoch,
            "ema_val_top1": 0.7725 if epoch == 9 else 0.5 + 0.0225 * epoch,
            "ema_val_top5": 0.9321 if epoch == 9 else 0.7 + 0.018 * epoch,
        }
        for epoch in range(EPOCHS)
    ]
    write_json(folder / "history.json", history)
    last = history[-1]
    found = {
        "data": "imagenet",
        "classes": 1000,
        "recipe": recipe,
        "source": trained_by.source,
        "epochs": EPOCHS,
        "seed": 3,
        "top1": last["val_top1"],
        "top5": last["val_top5"],
        "ema_top1": last["ema_val_top1"],
        "ema_top5": last["ema_val_top5"],
        "best": {"epoch": 9, "weights": "average", "top1": 0.7725},
        "train_accuracy": last.get("accuracy"),
        "held_out_images": 50_000,
        "damaged_images": 2,
    }
    ledger = {
        "seconds": 7200.0,
        "device": "cuda",
        "ranks": ranks,
        "device_hours": 2.0 * ranks,
        "images": 15_360_000,
        "images_per_second": 15_360_000 / 7200,
    }
    write_json(folder / "result.json", {"retrain": found, "ledger": ledger, "environment": ENVIRONMENT})
    counts = network_counts(file.network)
    part = {
        "resolution": 224,
        "classes": 1000,
        "costs": cost_entries({"macs": counts.macs, "params": counts.params, "latency_ms": 12.5}),
        "cross_check": CHECK | {"macs": counts.macs, "thop_macs": counts.macs + 40},
        "latency_conditions": KEY,
        "trained": found,
        "environment": ENVIRONMENT,
    }
    search: dict[str, Any] = {"format": "se_nas certificate", "version": 1}
    if searched:
        small = cost_entries({"macs": 4_387_840, "latency_ms": 1.5})
        budgets = [{**small[0], "limit": 6e6, "holds": True}]
        search |= {"budgets": budgets, "costs": small, "cross_check": CHECK, "latency_conditions": KEY}
    write_json(folder / "certificate.json", {**search, "retrained": part})
    config = {
        "network": json.loads(json.dumps(file.network.to_dict())),
        "data": {"name": "imagenet", "dir": "/mnt/somebody/images", "train": 1_281_167, "val": 50_000},
        "recipe": trained_by.model_dump(mode="json"),
        "teacher": None,
        "seed": 3,
    }
    write_atomic(folder / "config.yaml", yaml.safe_dump(config))
    return folder


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells behind the first one of every row of every table, without their tags."""
    found = {}
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL):
        first, *others = [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<t[dh].*?</t[dh]>", row)]
        found[" ".join(first)] = [" ".join(cell) for cell in others]
    return found


def se_nas(*words: object) -> str:
    done = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


#: What is tested here is how pages look: see `figures` of conftest.
RENDERED = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fake_retraining(tmp_path_factory.mktemp("retrainings") / "whole")


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return write_retrain_report(folder).read_text()


def test_the_page_is_whole_loads_nothing_and_names_no_folder(folder: Path, text: str) -> None:
    page = Page(text)
    assert page.tags["main"] == 1
    assert page.tags["script"] == 0
    assert all(reference.startswith("#") for reference in page.loads)
    assert len(page.ids) == len(set(page.ids))
    assert not re.findall(r"url\((?!#)", text)
    assert "somebody" not in text
    assert "prefers-color-scheme:dark" in text
    assert {path.name for path in (folder / "plots").iterdir()} == {"architecture.svg", "learning_curves.png"}


def test_the_page_offers_commands_on_its_folder_and_links_to_its_files(folder: Path, text: str) -> None:
    assert commands(text) == [f"se-nas report {folder}"]
    (folder / "network.pt").touch()
    again = write_retrain_report(folder).read_text()
    (folder / "network.pt").unlink()
    assert [line.split()[1] for line in commands(again)] == ["export", "evaluate", "excitation", "report"]
    for line in commands(again):
        assert str(folder) in line
        parse(line)
    assert {"architecture.json", "result.json", "history.json", "plots"} <= set(Page(text).links)
    assert all((folder / link).exists() for link in Page(text).links)


def test_accuracies_come_with_their_intervals(text: str) -> None:
    rows = rows_of(text)
    assert rows["network, last epoch"] == ["72.00 % 71.60 to 72.39 %", "86.50 % 86.20 to 86.80 %"]
    assert rows["averaged weights, last epoch"] == ["74.75 % 74.37 to 75.13 %", "89.80 % 89.53 to 90.06 %"]
    assert rows["best: averaged weights, epoch 10"] == ["77.25 % 76.88 to 77.62 %", "93.21 % 92.99 to 93.43 %"]
    assert '<div class="figure">74.75<' in text  # what an export takes: neither the best nor the last weights
    assert f"of the averaged weights after the last epoch, on 50,000 held-out images at 224 {TIMES} 224" in text


def test_every_block_cost_and_budget_appears(folder: Path, text: str) -> None:
    network = load_architecture(folder / "architecture.json").network
    for number, block in enumerate(network.blocks, start=1):
        assert f"Block {number}: {block.words()};" in text
    trained, searched = (text.split("What its search certified")[part] for part in (0, 1))
    assert rows_of(trained)["MACs (MACs)"] == [f"{network_counts(network).macs:,} counted"]
    assert rows_of(trained)["Latency (ms)"] == ["12.5 (12.31 to 12.71, n = 50) measured"]
    assert rows_of(trained)["Parameters (parameters)"] == ["5,483,032 counted"]
    assert "kept" not in trained
    assert rows_of(searched)["MACs (MACs)"] == ["4,387,840 counted", "6,000,000", "✓ kept"]


def test_the_curves_have_what_was_recorded_and_no_more(text: str, tmp_path: Path) -> None:
    curves = text.split("Learning curves")[1].split("</section>")[0]
    for words in ("Training loss", "Learning rate", "Top-1 accuracy", "Top-5 accuracy", ">train<", "averaged<"):
        assert words in curves, words
    assert "Epochs with mixed images have none." in curves
    folder = make_fake_retraining(tmp_path, changes={**CHANGES, "mixup_off_epoch": 0, "average_decay": None})
    history = json.loads((folder / "history.json").read_text())
    write_json(folder / "history.json", [{k: v for k, v in row.items() if "ema" not in k} for row in history])
    curves = write_retrain_report(folder).read_text().split("Learning curves")[1].split("</section>")[0]
    assert "Images were mixed in training, so it has no accuracy of its own." in curves
    assert ">train<" not in curves
    assert "averaged<" not in curves


def test_the_ledger_counts_every_device(text: str) -> None:
    rows = rows_of(text)
    assert rows["wall time"] == ["2 h 00 min"]
    assert (rows["ranks"], rows["device-hours"], rows["training images seen"]) == (["8"], ["16"], ["15,360,000"])
    assert (rows["images/s"], rows["images/s of each rank"]) == (["2,133"], ["266.7"])


def test_the_recipe_says_every_value_and_which_were_changed(text: str) -> None:
    part = text.split("<h2>Recipe</h2>")[1].split("</section>")[0]
    rows = rows_of(part)
    assert "training_script.mdx, with 5 values changed" in part
    assert rows["decay_rate"] == ["0.97 (mobile-600: 0.973)"]
    assert rows["learning_rate_noise"] == [f"{ABSENT} (mobile-600: 0.42, 0.9)"]
    assert rows["optimizer"] == ["rmsproptf"]
    assert rows["peak learning rate"] == ["0.064"]
    off = part.split("Off, or left")[1]
    for name in Recipe.model_fields:
        assert (name in rows) != bool(re.search(rf"\b{name}\b", off)) or name == "source", name


def test_the_command_makes_the_same_recipe_again(folder: Path, text: str) -> None:
    (command,) = re.findall(r"To make this again</h3><pre>(.*?)</pre>", text)
    words = shlex.split(unescape(command))
    assert words[:5] == ["torchrun", "--standalone", "--nproc-per-node", "8", "-m"]
    sets = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    recipe = load_recipe(words[words.index("--recipe") + 1], parse_changes(sets))
    assert recipe.model_dump(mode="json") == yaml.safe_load((folder / "config.yaml").read_text())["recipe"]
    assert words[words.index("--seed") + 1] == "3"


def test_a_recipe_of_ones_own_is_on_the_page_whole(tmp_path: Path) -> None:
    own = write_atomic(tmp_path / "own" / "mine.yaml", yaml.safe_dump(load_recipe("a2").model_dump(mode="json")))
    folder = make_fake_retraining(tmp_path, recipe=str(own), changes={"epochs": EPOCHS}, ranks=1)
    text = write_retrain_report(folder).read_text()
    assert (
        "se-nas retrain FOLDER/architecture.json --data imagenet --data-dir DIR --recipe recipe.yaml --seed 3" in text
    )
    assert str(own.parent) not in text
    (file,) = re.findall(r"recipe\.yaml: the recipe with every value</h3><pre>(.*?)</pre>", text, re.DOTALL)
    assert Recipe.model_validate(yaml.safe_load(file)) == load_recipe("a2", {"epochs": EPOCHS})


def test_a_baseline_without_average_or_history(tmp_path: Path) -> None:
    folder = make_fake_retraining(tmp_path, searched=False)
    result = json.loads((folder / "result.json").read_text())
    best = {"epoch": 11, "weights": "network", "top1": 0.72}
    change(folder / "result.json", retrain={**result["retrain"], "ema_top1": None, "ema_top5": None, "best": best})
    (folder / "history.json").unlink()
    text = write_retrain_report(folder).read_text()
    assert '<div class="figure">72.00<' in text
    assert "of the network after the last epoch" in text
    assert rows_of(text)["best: network, epoch 12"][1] == ABSENT
    for words in ("What its search certified", "Learning curves", "averaged weights,", "Damaged images"):
        assert words not in text


def test_damaged_images_are_named_and_all_text_is_escaped(tmp_path: Path) -> None:
    folder = make_fake_retraining(tmp_path)
    attack = "<script>alert('x')</script>"
    names = {f"train/c/{number:02d}.jpg": f"cannot identify image file {attack}" for number in range(53)}
    write_json(folder / "damaged.json", names)
    result = json.loads((folder / "result.json").read_text())
    change(folder / "result.json", environment={**result["environment"], "gpu": attack})
    text = write_retrain_report(folder).read_text()
    assert Page(text).tags["script"] == 0
    assert "53 images could not be decoded" in text
    assert "train/c/49.jpg" in text
    assert "train/c/50.jpg" not in text
    assert "and 3 more" in text


@pytest.mark.parametrize("name", ["result.json", "certificate.json", "config.yaml"])
def test_a_missing_or_foreign_file_is_a_one_line_error(tmp_path: Path, name: str) -> None:
    folder = make_fake_retraining(tmp_path)
    (folder / name).write_text("{[")
    with pytest.raises(ConfigError, match=name) as caught:
        write_retrain_report(folder)
    assert "\n" not in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        write_retrain_report(folder)


def test_a_recipe_that_this_version_does_not_know_is_named(tmp_path: Path) -> None:
    folder = make_fake_retraining(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["recipe"]["lookahead"] = 5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"config\.yaml: recipe\.lookahead: unknown key"):
        write_retrain_report(folder)


def test_the_command_line_writes_the_page_of_either_kind(tmp_path: Path) -> None:
    retraining = make_fake_retraining(tmp_path / "retraining")
    search = make_fake_run(tmp_path / "search", "mbconv_digits", epochs=4, complete=False)
    for folder, title in ((retraining, "mobilenetv3_large on imagenet"), (search, "digits")):
        assert str(folder / "report.html") in se_nas("report", folder).replace("\n", "")
        assert f"<title>{title} - se_nas</title>" in (folder / "report.html").read_text()
    with pytest.raises(ConfigError, match="must be of a retraining on images that stay on disk"):
        write_retrain_report(search)


def test_a_training_ends_with_its_page_and_outlives_a_fault_in_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> Path:
        assert (folder / "result.json").exists()
        raise ValueError("no\nfont")

    words = write_job(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(on_disk, "write_retrain_report", fail)
        told = se_nas(*words, "--out", tmp_path / "out")
    assert "could not be written (ValueError: no font)" in told
    assert not (tmp_path / "out" / "report.html").exists()
    before = (tmp_path / "out" / "result.json").read_bytes()
    told = se_nas(*words, "--out", tmp_path / "out", "--resume")
    assert f"report: {tmp_path / 'out' / 'report.html'}" in told.replace("\n", "")
    assert (tmp_path / "out" / "result.json").read_bytes() == before
    assert "<title>one on imagenet" in (tmp_path / "out" / "report.html").read_text()
