"""A whole tiny run: every promised file, values that agree with each other, and the same numbers for the same seed."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import se_nas
from se_nas.cli import main as cli
from se_nas.cli.screen import print_answer
from se_nas.cost.budget import Budget
from se_nas.cost.counts import network_counts
from se_nas.cost.table import count_tables
from se_nas.data import sources
from se_nas.data.in_memory import synthetic
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.parts import load_parts
from se_nas.data.sources import DataSource
from se_nas.errors import ConfigError, InfeasibleBudgetError, OutputError
from se_nas.layers.network import Network
from se_nas.records.checkpoint import load_checkpoint
from se_nas.runs.run_file import load_run
from se_nas.runs.run_folder import RunFolder
from se_nas.runs.search import decode_again, run_search
from se_nas.search.budgets.decode import least_cost
from se_nas.space.architecture_file import load_architecture
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import RUN, SEARCHED, cache_latency, changed, contents, read_json, write_run, write_yaml

PROMISED = SEARCHED | {
    "search/checkpoint.pt",
    "search/history.json",
    "search/log.jsonl",
    "search/scores.json",
    "retrain/checkpoint.pt",
    "retrain/history.json",
    "retrain/log.jsonl",
    "retrain/network.pt",
}


@dataclass(frozen=True)
class Done:
    """A finished run, what it said, and what was there whenever test images were loaded."""

    folder: Path
    said: list[str]
    there_at_each_test: list[set[str]]


def do_run(folder: Path, run: dict[str, Any] = RUN) -> list[str]:
    """A whole run of `folder`/run.yaml in `folder`/out; returns what it said."""
    said: list[str] = []
    run_file = write_run(folder, run)
    run_search(run_file, load_run(run_file), folder / "out", resume=False, progress=False, say=said.append)
    return said


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs, with a latency cache that already holds the tiny space."""
    home = tmp_path_factory.mktemp("runs")
    write_run(home / "files")
    cache_latency(home / "cache", home / "files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        yield home


@pytest.fixture(scope="module")
def done(home: Path) -> Done:
    out, there = home / "first" / "out", []

    def load_test(options: DataOptions) -> Any:
        there.append(set(contents(out)))
        return synthetic.load_test(options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.DATASETS, "synthetic", DataSource(synthetic.load_train, load_test))
        said = do_run(home / "first")
    return Done(out, said, there)


def test_a_run_leaves_every_promised_file(done: Done) -> None:
    there = set(contents(done.folder))
    assert there >= PROMISED
    assert not [name for name in there if name.endswith((".tmp", ".fresh"))]
    page = (done.folder / "report.html").read_text()
    assert "<svg" in page
    assert f"{read_json(done.folder / 'result.json')['retrain']['test_accuracy']:.2%}"[:4] in page


def test_the_answer_keeps_its_budgets_and_the_files_agree(done: Done) -> None:
    run = RunFolder(done.folder)
    space, file = run.space, load_architecture(run / "architecture.json")
    assert file.architecture.space_digest == space.digest
    assert space.resolve(file.architecture) == file.network
    certificate = read_json(run / "certificate.json")
    assert {entry["metric"]: entry["limit"] for entry in certificate["budgets"]} == {"macs": 90e3, "params": 3e3}
    counts = network_counts(file.network)
    for entry, counted in zip(certificate["budgets"], (counts.macs, counts.params), strict=True):
        assert entry["holds"]
        assert entry["value"] == counted <= entry["limit"]
        assert entry["how"] == "counted"
    assert certificate["cross_check"]["agree"]
    assert [(e["metric"], e["how"]) for e in certificate["costs"]] == [
        ("macs", "counted"),
        ("params", "counted"),
        ("weight_bytes", "counted"),
        ("peak_activation_bytes", "counted"),
        ("latency_ms", "predicted"),
        ("latency_ms", "measured"),
    ]
    low, high = certificate["costs"][-1]["ci95"]
    assert 0 < low <= certificate["costs"][-1]["value"] <= high
    decodes = read_json(run / "decodes.json")
    assert decodes[-1]["costs"]["macs"] == counts.macs


def test_the_result_is_complete(done: Done) -> None:
    result = read_json(done.folder / "result.json")
    assert (result["name"], result["seed"], result["budgets"]) == ("tiny", 3, {"macs": 90e3, "params": 3e3})
    space = RunFolder(done.folder).space
    assert result["space"] == {
        "name": "tiny",
        "digest": space.digest,
        "size": str(space.size),
        "choices": len(space.choices),
    }
    assert result["data"] == {
        "name": "synthetic",
        "classes": 10,
        "parts": {"weights": 100, "choices": 80, "validation": 20},
    }
    assert result["environment"]["se_nas"] == se_nas.__version__
    assert result["environment"]["packages"]["torch"]
    assert result["environment"] == read_json(done.folder / "environment.json")
    assert 0 <= result["search"]["validation_accuracy"] <= 1
    retrained = result["retrain"]
    assert (retrained["epochs"], retrained["images"], retrained["test_images"]) == (3, 3 * 200, 40)
    assert [entry["part"] for entry in result["cost_ledger"]] == ["latency table", "search", "retraining"]
    assert all(entry["seconds"] >= 0 for entry in result["cost_ledger"])
    # 3 epochs of 5 weight steps and, in the 2 after pretraining, as many choice steps, of 20 images each
    assert result["search"]["images"] == (3 * 5 + 2 * 5) * 20


def test_the_histories_have_a_line_an_epoch(done: Done) -> None:
    search = read_json(done.folder / "search/history.json")
    assert [entry["epoch"] for entry in search] == [0, 1, 2]
    assert [entry["searching"] for entry in search] == [False, True, True]
    choices = read_json(done.folder / "choices.json")
    for entry in search:
        assert {name: len(p) for name, p in entry["probabilities"].items()} == {n: len(o) for n, o in choices.items()}
        assert all(math.isclose(sum(p), 1, abs_tol=1e-5) for p in entry["probabilities"].values())
    retrain = read_json(done.folder / "retrain/history.json")
    looks = [entry["test_accuracy"] for entry in retrain]
    assert looks[0] is None  # evaluate_every is 2, and the last epoch is always looked at
    assert None not in looks[1:]
    assert read_json(done.folder / "result.json")["retrain"]["test_accuracy"] == looks[-1]


def test_the_weights_are_those_of_the_certified_network(done: Done) -> None:
    network = Network(load_architecture(done.folder / "architecture.json").network)
    network.load_state_dict(load_checkpoint(done.folder / "retrain/network.pt")["network"])
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_the_parts_are_disjoint_and_cover_the_training_images(done: Done) -> None:
    _, train = synthetic.load_train(DataOptions("synthetic", resolution=8, seed=3, size=200))
    parts = load_parts(done.folder / "parts.json", train.labels)  # raises unless each image is in one part
    assert {name: len(part) for name, part in parts.items()} == {"weights": 100, "choices": 80, "validation": 20}


def test_no_test_image_is_loaded_before_the_search_has_its_answer(done: Done) -> None:
    assert done.there_at_each_test
    for there in done.there_at_each_test:
        assert there >= {"search/scores.json", "architecture.json", "certificate.json", "decodes.json"}


def test_a_run_says_what_a_user_wants_to_know(done: Done) -> None:
    text = "\n".join(done.said)
    for part in ("budget macs: ", "(counted)", "with the supernet's weights: ", "retrained: "):
        assert part in text
    assert "BROKEN" not in text


def test_the_closing_table_has_the_costs_and_the_accuracy_with_its_interval(
    done: Done, capsys: pytest.CaptureFixture[str]
) -> None:
    print_answer(done.folder)
    rows = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    retrained = read_json(done.folder / "result.json")["retrain"]
    (row,) = [row for row in rows if row[0] == "accuracy"]
    assert row[1] == f"{100 * retrained['test_accuracy']:.2f} %"
    low, high = (float(end) for end in row[2].partition(" %")[0].split(" to "))
    assert low <= 100 * retrained["test_accuracy"] <= high
    assert f"of {retrained['test_images']} test images" in row[2]
    assert {"macs", "params", "latency_ms"} <= {row[0] for row in rows}


def numbers(folder: Path) -> dict[str, Any]:
    """All that must be the same for the same seed: what no clock has measured."""
    result = read_json(folder / "result.json")
    return {
        **{
            name: read_json(folder / name)
            for name in ("search/scores.json", "search/history.json", "retrain/history.json", "architecture.json")
        },
        "parts": (folder / "parts.json").read_text(),
        "validation": result["search"]["validation_accuracy"],
        "test": result["retrain"]["test_accuracy"],
        "weights": {
            name: value.tolist() for name, value in load_checkpoint(folder / "retrain/network.pt")["network"].items()
        },
    }


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(done: Done, home: Path) -> None:
    do_run(home / "again")
    do_run(home / "other", changed(RUN, "seed", 4))
    first, again, other = (numbers(folder) for folder in (done.folder, home / "again/out", home / "other/out"))
    assert again == first
    for name in ("search/scores.json", "search/history.json", "parts", "weights"):
        assert other[name] != first[name]


def test_another_budget_is_answered_without_touching_the_run(done: Done, tmp_path: Path) -> None:
    before = contents(done.folder)
    space = RunFolder(done.folder).space
    used = read_json(done.folder / "certificate.json")["budgets"][0]["value"]
    least = least_cost(space, count_tables(space), "macs").costs["macs"]
    limit = math.floor((used + least) / 2)
    assert least <= limit < used
    found = decode_again(done.folder, [Budget("macs", limit), Budget("latency_ms", 1e3)], tmp_path / "out")
    assert network_counts(found.network).macs <= limit
    file = load_architecture(tmp_path / "out/architecture.json")
    assert (file.architecture, file.network) == (found.architecture, found.network)
    kept = read_json(tmp_path / "out/certificate.json")["budgets"]
    assert [(e["metric"], e["limit"], e["how"], e["holds"]) for e in kept] == [
        ("macs", limit, "counted", True),
        ("latency_ms", 1e3, "measured", True),
    ]
    assert contents(done.folder) == before


def test_decoding_again_says_what_is_missing_or_impossible(done: Done, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be the folder of a run whose search is done"):
        decode_again(tmp_path, [Budget("macs", 1e6)], tmp_path / "out")
    with pytest.raises(InfeasibleBudgetError, match="least reachable"):
        decode_again(done.folder, [Budget("macs", 10.0)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_search_without_retraining_never_loads_test_images(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(options: DataOptions) -> Any:
        raise AssertionError("test images were loaded")

    monkeypatch.setitem(sources.DATASETS, "synthetic", DataSource(synthetic.load_train, refuse))
    do_run(home / "search_only", changed(RUN, "retrain", None))
    out = home / "search_only/out"
    assert read_json(out / "result.json")["retrain"] is None
    assert not (out / "retrain").exists()
    assert (out / "report.html").exists()


def test_an_exported_architecture_is_retrained_on_other_classes_without_its_space(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "architecture.json"  # alone: no space, no run beside it
    file.write_bytes((done.folder / "architecture.json").read_bytes())
    colours = {"blue": (20, 30, 200), "green": (20, 200, 30), "red": (200, 30, 20), "grey": (99, 99, 99)}
    for name, colour in colours.items():
        for part, count in (("train", 6), ("test", 2)):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), tuple(value + number for value in colour)).save(folder / f"{number}.png")
    recipe = write_yaml(tmp_path / "recipe.yaml", {"batch_size": 8, "warmup_epochs": 0.0, "ema_decay": 0.9})
    command = ["se-nas", "retrain", str(file), "--data", "folder", "--data-dir", str(tmp_path / "images")]
    monkeypatch.setattr("sys.argv", [*command, "--epochs", "2", "--recipe", str(recipe), "--device", "cpu", "--quiet"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert not exit.value.code
    said = capsys.readouterr().out
    assert "test accuracy: " in said
    assert "with the averaged weights: " in said
    out = tmp_path / "retrain-folder"
    weights = load_checkpoint(out / "network.pt")["network"]
    assert len(weights["head.classifier.weight"]) == 4
    assert [entry["epoch"] for entry in read_json(out / "history.json")] == [0, 1]


def test_a_decode_never_overwrites_a_run(done: Any) -> None:
    before = (done.folder / "architecture.json").read_text()
    with pytest.raises(OutputError, match="must not be that of a run"):
        decode_again(done.folder, [Budget("latency_ms", 1e3)], done.folder)
    assert (done.folder / "architecture.json").read_text() == before


def test_the_winner_of_a_run_is_trained_on(done: Done, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done.folder, tmp_path / "copy"))
    assert call("retrain", folder, "--extend", "1", "--device", "cpu", "--quiet") == 0
    first = read_json(folder / "result.json")["retrain"]
    phases = read_json(folder / "retrain/extended/result.json")["retrain"]["phases"]
    assert [phase["epochs"] for phase in phases] == [first["epochs"], 1]
    assert phases[0]["accuracy"] == first["test_accuracy"]
    assert phases[0]["seconds"] == first["seconds"]
