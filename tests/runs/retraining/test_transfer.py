"""Trained weights on other images: a new classifier, parts that stay as they are, and what is said of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import se_nas
from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import ConfigError
from se_nas.layers.freezing import freeze, parts_of
from se_nas.layers.network import Network, initialise
from se_nas.plugins import load_plugins
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.models.run_result import RetrainResult
from se_nas.records.models.started_from import StartedFrom
from se_nas.records.record import read_record
from se_nas.runs.run_file import load_run
from se_nas.runs.subnets.fine_tuning import open_fine_tuning
from se_nas.space.architecture_file import ArchitectureFile, load_architecture, save_architecture
from se_nas.space.yaml.file import parse_space
from se_nas.training.optimizer import make_optimizer
from se_nas.training.recipe_files import default_recipe
from se_nas.training.trained_network import DataCard, load_trained, save_weights
from tests.helpers.command_lines import call
from tests.helpers.plugins import no_plugins
from tests.helpers.tiny_imagenet import NETWORK, tiny_network, write_images
from tests.helpers.tiny_runs import RUN, changed, no_clock, read_json, write_run, write_yaml

SPACE = {**NETWORK, "resolution": 8, "scaling": {}}
CLASSES = tuple(f"thing {number}" for number in range(10))
WORDS = ("--workers", "0", "--device", "cpu", "--quiet", "--epochs", "1", "--batch-size", "200")


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    no_clock(monkeypatch)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a retraining on ten classes of things, which nothing has trained."""
    folder = tmp_path_factory.mktemp("things") / "retrain"
    space = parse_space(SPACE, "tiny")
    file = ArchitectureFile.of(space, next(space.enumerate()))
    save_architecture(folder / "architecture.json", file)
    torch.manual_seed(5)
    network = Network(file.network)
    initialise(network)
    for name, value in network.state_dict().items():
        if "running" in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    save_weights(folder / "network.pt", network, None, accuracies={"network": 0.625})
    DataCard("things", CLASSES, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).save(folder)
    write_yaml(folder / "config.yaml", {"data": {"name": "things"}, "seed": 0})
    return folder


def started(folder: Path) -> StartedFrom:
    found = read_record(RetrainResult, folder / "result.json").retrain.started_from
    assert found is not None
    return found


def weights_of(folder: Path, kind: str = "network") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_checkpoint(folder / "network.pt")[kind]
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_parts_stay_to_the_bit_in_the_weights_and_their_average_and_all_else_moves(
    source: Path, tmp_path: Path, optimizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With weight decay on all, Mixup, dropped paths, and an average: none of which may touch what is frozen."""
    changes = {"optimizer": optimizer, "decay_norm_and_bias": True, "weight_decay": 0.1, "average_decay": 0.9}
    changes["momentum"] = 0.9 if optimizer == "sgd" else "null"
    words = [f"--set={name}={value}" for name, value in {**changes, "drop_path": 0.3, "mixup": 0.5}.items()]
    # the middle is trained while what stands before and behind it is not
    freeze_words = ("--freeze", "stem,2,head", "--learning-rate", 0.01)
    out = tmp_path / "out"
    assert call("retrain", "--from", source, "--data", "digits", *freeze_words, *words, *WORDS, "--out", out) == 0
    told, record = capsys.readouterr().out, started(out)
    before = weights_of(source)
    for after in (weights_of(out), weights_of(out, "average")):
        for name, value in before.items():
            frozen = name.startswith(("stem.", "blocks.2.", "head.conv."))
            if not name.endswith("num_batches_tracked") or frozen:
                assert torch.equal(after[name], value) == frozen, name
    assert record.frozen == ("stem", "2", "head")
    counted = [name for name in before if "num_batches" not in name]
    assert record.frozen_tensors == sum(name.startswith(("stem.", "blocks.2.", "head.conv.")) for name in counted)
    assert (record.kept, record.replaced) == (len(counted) - 2, 2)
    assert (record.source_data, record.source_classes, record.source_accuracy) == ("things", 10, 0.625)
    assert (record.data, record.classes) == ("digits", 10)
    assert f"{record.kept} tensors kept, {record.frozen_tensors} of them frozen (stem, stage 2, head)" in told
    assert "the classifier, 2 tensors, starts anew for 10 classes of digits" in told
    assert "images are normalised as in the training on things" in told


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "lamb"])
def test_the_optimiser_gets_what_is_not_frozen_and_nothing_else(optimizer: str, everything: bool) -> None:
    network = Network(tiny_network())
    freeze(network, ("all",))
    made = make_optimizer(network, default_recipe(optimizer=optimizer, decay_norm_and_bias=everything, momentum=None))
    held = {id(parameter) for group in made.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in network.head.classifier.parameters()}


def test_the_new_classifier_is_drawn_as_that_of_a_training_from_scratch_even_for_as_many_classes(
    source: Path, tmp_path: Path
) -> None:
    """Another data set may have as many classes by chance; one of the same names keeps the classifier."""
    out = tmp_path / "out"
    still = ("--learning-rate", 1e-12, *WORDS)
    assert call("retrain", "--from", source / "network.pt", "--data", "digits", *still, "--seed", 4, "--out", out) == 0
    torch.manual_seed(4)
    fresh = Network(load_architecture(out / "architecture.json").network)
    initialise(fresh)
    assert torch.allclose(weights_of(out)["head.classifier.weight"], fresh.head.classifier.weight, atol=1e-8)
    assert torch.allclose(weights_of(out)["stem.conv.weight"], weights_of(source)["stem.conv.weight"], atol=1e-8)
    again = tmp_path / "again"
    assert call("retrain", "--from", out, "--data", "digits", *still, "--out", again) == 0
    assert started(again).replaced == 0
    assert torch.allclose(
        weights_of(again)["head.classifier.weight"], weights_of(out)["head.classifier.weight"], atol=1e-8
    )


def test_images_of_a_folder_of_other_size_and_fewer_classes_are_transferred_to_resumed_evaluated_and_exported(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", classes=3, train=20, val=10, side=12)
    for path in images.rglob("*.jpg"):
        with Image.open(path) as image:
            grey = image.convert("L")
        grey.save(path)
    home = Path(shutil.copytree(source, tmp_path / "retrain"))
    words = ["retrain", "--from", home, "--data", "folder", "--data-dir", images, "--freeze", "all", *WORDS]
    words += ["--batch-size", 20, "--epochs", 2]
    assert call(*words) == 0
    out = home / "transfer-folder"
    network = load_architecture(out / "architecture.json").network
    assert (network.head.classes, network.resolution, network.in_channels) == (3, 8, 3)
    result = read_record(RetrainResult, out / "result.json").retrain
    assert result.started_from is not None
    assert (result.started_from.classes, result.started_from.frozen) == (3, ("stem", "1", "2", "head"))
    assert se_nas.evaluate(out, device="cpu").top1 == result.test_accuracy
    assert se_nas.export_trained(out, tmp_path / "export", ["plain"]).forms
    certificate = read_json(out / "certificate.json")["retrained"]
    assert (certificate["classes"], certificate["cross_check"]["agree"]) == (3, True)
    assert certificate["trained"]["started_from"]["frozen"] == ["stem", "1", "2", "head"]
    card = DataCard.load(out)
    assert card is not None
    assert (card.mean, len(card.classes)) == ((0.1, 0.2, 0.3), 3)
    cut = Path(shutil.copytree(out, tmp_path / "cut"))
    for name in ("result.json", "network.pt", "history.json"):
        (cut / name).unlink()
    (cut / "checkpoint.pt").write_bytes(b"")  # as of a machine that went down: the one before is whole
    assert call(*words, "--out", cut, "--resume") == 0
    assert all(torch.equal(value, weights_of(cut)[name]) for name, value in weights_of(out).items())
    capsys.readouterr()
    assert call(*words, "--freeze", "stem", "--out", out, "--resume") == 2
    line = capsys.readouterr().err
    assert "recipe.freeze: must be as in the run that --resume continues" in line


def test_images_that_stay_on_disk_are_transferred_to_and_the_page_says_it(source: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", classes=3, train=8, val=4)
    words: tuple[object, ...] = (
        "--recipe",
        "mobile-150",
        "--freeze",
        "stem,1",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--quiet",
    )
    words += ("--epochs", 1, "--batch-size", 8, "--set", "warmup_epochs=0")
    out = tmp_path / "out"
    assert call("retrain", "--from", source, "--data", "imagenet", "--data-dir", images, *words, "--out", out) == 0
    record = read_json(out / "result.json")["retrain"]
    assert record["started_from"]["frozen"] == ["stem", "1"]
    assert torch.equal(weights_of(out)["stem.conv.weight"], weights_of(source)["stem.conv.weight"])
    page = (out / "report.html").read_text()
    assert "62.50 % of things" in page
    assert "stem, stage 1" in page
    assert "--weights WEIGHTS" in page
    assert read_json(out / "certificate.json")["retrained"]["classes"] == 3


def test_the_rate_is_a_tenth_unless_nothing_can_be_undone_and_the_recipe_is_that_of_the_weights(source: Path) -> None:
    other = DataOptions("digits")
    rate = default_recipe().learning_rate
    some, every, own, again = (
        open_fine_tuning(source / "network.pt", None, "small-images", changes, None, other).recipe
        for changes in ({"freeze": "stem"}, {"freeze": "all"}, {"learning_rate": 0.3}, {})
    )
    assert some.learning_rate == pytest.approx(0.1 * rate)
    assert every.learning_rate == pytest.approx(rate)
    assert (own.learning_rate, own.freeze, again.freeze) == (0.3, (), ())


def test_stages_are_rows_of_blocks_that_keep_their_shape_and_a_bare_head_is_no_part() -> None:
    parts = parts_of(tiny_network())
    assert parts == {"stem": ("stem",), "1": ("blocks.0", "blocks.1"), "2": ("blocks.2",), "head": ("head.conv",)}
    assert "head" not in parts_of(tiny_network(head={}))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--data", "digits", "--freeze", "stem,7"),
            "freeze: must be parts of the network, stem, 1 to 2, head or all, ",
        ),
        (("--data", "digits", "--freeze", "all,classifier"), "freeze: must leave the classifier free"),
        (("--data", "digits", "--freeze", "body"), "freeze: must be stem, numbers of stages, head, or all of these, "),
        (("--data", "nothing"), "the data set must be one of digits"),
        (("--data", "cifar10"), "cifar10 needs a folder"),
        (("--data", "imagenet", "--set", "warmup_epochs=0"), "needs the folder of its images"),
        (("--data", "digits", "--space", "a.yaml"), "--space: must be left out, as the run says it"),
        (("--download",), "--download: must be left out, as the run says it"),
        ((), "the data set must be one of digits"),  # things are none that is known
    ],
)
def test_what_cannot_be_transferred_is_one_line(
    source: Path, tmp_path: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("retrain", "--from", source, *words, *WORDS, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "out" / "config.yaml").exists()


def test_a_data_set_of_a_plugin_that_the_weights_name_is_known_without_naming_the_plugin_again(
    source: Path, tmp_path: Path
) -> None:
    plugin, copy = tmp_path / "more.py", Path(shutil.copytree(source, tmp_path / "copy"))
    plugin.write_text("from se_nas.data.sources import DATASETS\n\nDATASETS['figures'] = DATASETS['digits']\n")
    with no_plugins():
        load_plugins([str(plugin)], "test")
        save_architecture(copy / "architecture.json", load_architecture(copy / "architecture.json"))
    with no_plugins():
        assert call("retrain", "--from", copy, "--data", "figures", *WORDS) == 0
    assert started(copy / "transfer-figures").data == "figures"


def test_what_begins_with_random_weights_freezes_nothing(tmp_path: Path) -> None:
    frozen = {"epochs": 1, "freeze": ["stem", 1]}
    short = {"strategy": "optuna", "evaluator": "stand_alone", "stand_alone": frozen}
    for number, run in enumerate((changed(RUN, "retrain", frozen), changed(RUN, "search", short))):
        with pytest.raises(ConfigError, match="freeze: must be left out"):
            load_run(write_run(tmp_path / str(number), run))


def test_weights_of_another_network_nan_and_images_of_other_classes_are_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, *words: object) -> str:
        assert call("retrain", "--from", folder, *words, *WORDS) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    other = Network(tiny_network(stem={"width": 12, "stride": 2}))
    save_weights(copy / "network.pt", other, None)
    assert "the weights must be of this architecture, with stem.conv.weight" in refused(copy, "--data", "digits")
    network = load_trained(source).network
    with torch.no_grad():
        network.stem.conv.weight[0, 0] = float("nan")
    save_weights(copy / "network.pt", network, None)
    assert "stem.conv.weight" in refused(copy, "--data", "digits")
    write_yaml(source / "config.yaml", {"data": {"name": "digits"}, "seed": 0})
    assert "must be of the classes that the network was trained on" in refused(source)
    assert call("retrain", source / "architecture.json", "--freeze", "stem", *WORDS, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "freeze: must be left out where a training begins with random weights, but names stem" in line
