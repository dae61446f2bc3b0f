"""The command line as its user meets it: one clear line a fault, exit code 2, nothing lost; help that teaches."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from PIL import Image

from se_nas.cli import main as cli
from se_nas.cli.options import RunChanges
from se_nas.cli.retrain import RecipeOptions
from se_nas.cost.budget import format_cost
from se_nas.cost.latency.timing import Measurement
from se_nas.cost.metrics import LATENCY, METRICS
from se_nas.errors import ConfigError
from se_nas.search.strategies import STRATEGIES
from se_nas.space.yaml.file import load_space
from se_nas.training.trained_network import load_trained
from tests.helpers.command_lines import Run, assert_refused, call, parse
from tests.helpers.tiny_runs import (
    RUN,
    SPACE,
    began_elsewhere,
    cache_latency,
    changed,
    contents,
    read_json,
    write_run,
    write_yaml,
)

ROOT = Path(__file__).resolve().parents[2]
SPACES = sorted((ROOT / "search_spaces").rglob("*.yaml"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latency cache that holds the tiny space."""
    home = tmp_path_factory.mktemp("cache")
    write_run(home)
    cache_latency(home, home)
    return home


@pytest.fixture
def se_nas(se_nas: Run, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same with the latency cache."""
    monkeypatch.setenv("SE_NAS_CACHE", str(cache))
    return se_nas


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run file and, in `out`, its finished search; to be copied, not changed."""
    home = tmp_path_factory.mktemp("finished")
    run_file = write_run(home, changed(RUN, "retrain", None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(cache))
        assert call("search", run_file, "--out", home / "out", "--quiet") == 0
    return home


SPACE_FAULTS: list[tuple[str, str, Any, str]] = [
    ("unknown key", "stages.0.kernal", [3], "stages[0].kernal: unknown key; did you mean kernel?"),
    ("unknown key of SE", "stages.0.se.option", [3], "stages[0].se.option: unknown key; did you mean options?"),
    ("unknown key of the stem", "stem.widht", 3, "stem.widht: unknown key; did you mean width?"),
    ("wrong type", "stages.0.width", "wide", "stages[0].width: must be a whole number, but got 'wide'"),
    ("fraction", "stages.0.width", 8.5, "stages[0].width: must be a whole number, but got 8.5"),
    ("number for a list", "stages", 3, "stages: must be a list, but got 3"),
    ("number for a mapping", "stages", [3], "stages[0]: must be a mapping, but got 3"),
    ("flag for a mapping", "stages.0.se", True, "stages[0].se: must be a mapping, but got True"),
    ("empty options", "stages.0.se.options", [], "stages[0].se.options: must not be empty, but got []"),
    ("empty kernels", "stages.0.kernel", [], "stages[0].kernel: must not be empty, but got []"),
    ("ratio 0", "stages.0.se.options", ["none", 0], 'stages[0].se.options[1]: must be "none" or a reduction ratio'),
    ("even kernel", "stages.0.kernel", [4], "stages[0].kernel[0]: a kernel must be odd, but got 4"),
    ("unknown word", "stages.0.activation", "gelo", "stages[0].activation: must be 'relu', 'relu6', "),
    ("name of a path", "name", "a/b", "name: must be letters, digits, spaces, - and _ only, but got 'a/b'"),
]


@pytest.mark.parametrize(("path", "value", "expected"), [f[1:] for f in SPACE_FAULTS], ids=[f[0] for f in SPACE_FAULTS])
def test_a_fault_in_a_space_file(se_nas: Run, tmp_path: Path, path: str, value: Any, expected: str) -> None:
    write_yaml(tmp_path / "space.yaml", changed(SPACE, path, value))
    assert_refused(se_nas("space", "show", "space.yaml"), f"space.yaml: {expected}")


@pytest.mark.parametrize("word", ["no", "No", "off", "null", "~"])
def test_bare_words_that_yaml_reads_as_no_text_are_refused(se_nas: Run, tmp_path: Path, word: str) -> None:
    text = yaml.safe_dump(changed(SPACE, "stages.0.se.options", ["WORD", 2]))
    (tmp_path / "space.yaml").write_text(text.replace("WORD", word))
    expected = 'space.yaml: stages[0].se.options[0]: must be "none" (in quotes) or a reduction ratio of at least 1'
    assert_refused(se_nas("space", "show", "space.yaml"), expected)


def test_bare_none_is_the_text_that_it_is(se_nas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se_nas.cost.latency.timing.measure_networks", measured)
    text = yaml.safe_dump(changed(SPACE, "stages.0.se.options", ["WORD", 2]))
    (tmp_path / "space.yaml").write_text(text.replace("WORD", "none"))
    code, errors, _ = se_nas("space", "show", "space.yaml")
    assert (code, errors) == (0, [])
    assert load_space(tmp_path / "space.yaml") == load_space(write_yaml(tmp_path / "quoted.yaml", SPACE))


def test_several_faults_of_one_file_are_told_at_once(se_nas: Run, tmp_path: Path) -> None:
    space = changed(changed(SPACE, "stages.0.width", "wide"), "stages.1.se.options", ["none", 0, None])
    write_yaml(tmp_path / "space.yaml", changed(space, "surprise", 1))
    assert_refused(
        se_nas("space", "show", "space.yaml"),
        "space.yaml: stages[0].width: ",
        "space.yaml: stages[1].se.options[1]: ",
        "space.yaml: stages[1].se.options[2]: ",
        "space.yaml: surprise: unknown key",
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "the file must be readable, but got: No such file or directory"),
        (b"a: [1", "the file must be YAML, but got: expected ',' or ']', but got '<stream end>' at line 1, column 6"),
        (b"\xff\xfe\x00", "the file must be YAML, but got: "),
        (b"", "file: must be a mapping, but got None"),
        (b"- 1", "file: must be a mapping, but got "),
    ],
    ids=["missing", "not YAML", "binary", "empty", "a list"],
)
def test_a_file_that_is_no_mapping(se_nas: Run, tmp_path: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "x.yaml").write_bytes(content)
    assert_refused(se_nas("space", "show", "x.yaml"), f"x.yaml: {expected}")
    assert_refused(se_nas("search", "x.yaml"), "x.yaml: ")


CUDA = "device 'cuda' must be present, but this torch "
RUN_FAULTS: list[tuple[str, str, Any, str]] = [
    ("unknown key", "search.epoch", 3, "run.yaml: search.epoch: unknown key; did you mean epochs?"),
    ("unknown key of all", "budgts", 3, "run.yaml: budgts: unknown key; did you mean budgets?"),
    ("unknown key of a recipe", "retrain.epocs", 3, "run.yaml: retrain.epocs: unknown key; did you mean epochs?"),
    ("wrong type", "search.epochs", "many", "run.yaml: search.epochs: must be a whole number, but got 'many'"),
    ("number for a mapping", "search", 3, "run.yaml: search: must be a mapping, but got 3"),
    ("bare no for a mapping", "retrain", False, "run.yaml: retrain: must be a mapping, but got False"),
    ("unknown word", "search.relaxation", "hard", "run.yaml: search.relaxation: must be 'gumbel' or 'softmax'"),
    (
        "budget of no number",
        "budgets.macs",
        [1],
        "run.yaml: budgets.macs: a limit must be a number above 0 such as 20M",
    ),
    ("budget of a flag", "budgets.macs", True, "run.yaml: budgets.macs: a limit must be a number above 0 such as 20M"),
    ("budget on flops", "budgets.flops", "1M", "run.yaml: budgets.flops: a budget must be on one of macs, params, "),
    ("missing part", "parts", {"weights": 1.0}, "run.yaml: parts: must be weights, choices and validation"),
    (
        "parts beyond 1",
        "parts.weights",
        0.7,
        "the fractions of the parts must be above 0 and sum to 1, but got weights",
    ),
    ("missing space", "space", "nope.yaml", "nope.yaml: the file must be readable, but got: No such file"),
    ("unknown device", "device", "tpu", "device must be one of auto, cpu, cuda, mps, xpu"),
    ("device not there", "device", "cuda", CUDA),
    ("latency device not there", "latency.device", "cuda", CUDA),
    ("unknown data set", "data.name", "mnist", "run.yaml: data.name: must be one of digits, cifar10, cifar100, "),
    (
        "no data folder",
        "data.name",
        "cifar10",
        "cifar10 needs a folder: name the one that holds cifar-10-batches-py with",
    ),
    (
        "missing data folder",
        "data",
        {"name": "cifar10", "dir": "/gone"},
        "/gone/cifar-10-batches-py: the cifar10 files must",
    ),
    ("seed beyond all", "seed", 2**32, "run.yaml: seed: must be less than or equal to 4294967295, but got 4294967296"),
    (
        "evidence seed beyond all",
        "evidence",
        {"seeds": [0, 2**64]},
        "run.yaml: evidence.seeds[1]: must be less than or equal to 4294967295, but got 18446744073709551616",
    ),
    (
        "infinite warm-up",
        "retrain.warmup_epochs",
        float("inf"),
        "run.yaml: retrain.warmup_epochs: must be a finite number, but got inf",
    ),
    (
        "warm-up beyond the end",
        "retrain.warmup_epochs",
        4,
        "run.yaml: retrain.warmup_epochs: must be at most epochs (3), but got 4",
    ),
    (
        "a rise of the rate that is settled",
        "search.rate_warmup_epochs",
        4,
        "run.yaml: search: rate_warmup_epochs: must be left out, since it is no option any more and always 1",
    ),
    (
        "no number for a rate",
        "search.learning_rate",
        float("nan"),
        "run.yaml: search.learning_rate: must be a finite number, but got nan",
    ),
    ("infinite clip", "retrain.clip", float("inf"), "run.yaml: retrain.clip: must be a finite number, but got inf"),
    (
        "threads beyond all",
        "latency.threads",
        100_000,
        "run.yaml: latency.threads: must be less than or equal to 1024, but got 100000",
    ),
    (
        "a batch to time that no memory holds",
        "latency.batch_size",
        10**6,
        "latency batch_size must be such that a run fits the memory, but a network with 1,000,000 images of 8x8",
    ),
    ("endless epochs", "search.epochs", 10**400, "run.yaml: search.epochs: must be less than or equal to 1000000, but"),
    ("empty path", "space", "", "run.yaml: space: string should have at least 1 character, but got ''"),
    (
        "infinite ratio",
        "evidence",
        {"ratios": [float("inf")]},
        "run.yaml: evidence.ratios[0]: must be a finite number, but got inf",
    ),
    (
        "infeasible MACs",
        "budgets.macs",
        10,
        "space tiny: some architecture must keep every budget, but got macs <= 10 ",
    ),
    (
        "infeasible latency",
        "budgets.latency_ms",
        1e-6,
        "space tiny: some architecture must keep every budget, but got ",
    ),
]


@pytest.mark.parametrize(("path", "value", "expected"), [f[1:] for f in RUN_FAULTS], ids=[f[0] for f in RUN_FAULTS])
def test_a_fault_in_a_run_file_leaves_no_run_behind(
    se_nas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: Any, expected: str
) -> None:
    if "cuda" in expected:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("se_nas.hardware.memory.available_bytes", lambda device: 10**9)
    run = {**RUN, "parts": {"weights": 0.5, "choices": 0.4, "validation": 0.1}}
    write_run(tmp_path, changed(run, path, value))
    result = se_nas("search", "run.yaml", "--out", "out", "--quiet")
    assert_refused(result, expected)
    assert set(contents(tmp_path / "out")) <= {"environment.json"}  # so that the corrected run needs no other folder
    if path.startswith("data") and value != "mnist":  # where the data are missing, what to do about it
        assert "--data-dir" in result[1][0]
        assert "--download" in result[1][0]


def test_test_images_that_are_missing_are_told_before_anything_is_timed(
    se_nas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("this must not be reached")

    for name in ("cat", "dog"):
        (tmp_path / "images/train" / name).mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images/train" / name / f"{number}.png")
    write_run(tmp_path, changed(RUN, "data", {"name": "folder", "dir": "images"}))
    monkeypatch.setattr("se_nas.runs.prepare.build_latency_table", refuse)
    result = se_nas("search", "run.yaml", "--out", "out", "--quiet")
    result = (result[0], [line for line in result[1] if line], result[2])  # without the bar that was there
    assert_refused(result, f"{tmp_path}/images: beside train there must be test or val, but there is neither")
    assert not (tmp_path / "out").exists()


def test_a_run_file_of_endless_faults_is_told_in_few_short_lines(se_nas: Run, tmp_path: Path) -> None:
    write_run(tmp_path)
    text = (tmp_path / "run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(text + "".join(f"key{number}: 1\n" for number in range(1000)))
    code, errors, _ = se_nas("search", "run.yaml")
    assert code == 2
    assert len(errors) == 21
    assert errors[-1] == "error: run.yaml: and 980 more"
    for value, expected in {
        "seed: " + "x" * 100_000: "seed: must be a whole number, but got 'xxx",
        "? " + "x" * 100_000 + "\n: 3": "xxx",
        "seed: " + "9" * 5000: "the file must be YAML, but got: ",
        "seed: 0x" + "f" * 5000: "the file must be YAML, but got: a whole number must have at most 1,000 characters",
        "seed: " + "[" * 50_000: "the file must be YAML, but got: it is nested too deeply",
        "seed: 2026-99-99": "the file must be YAML, but got: ",
    }.items():
        (tmp_path / "run.yaml").write_text(text.replace("seed: 3", value))
        assert_refused(se_nas("search", "run.yaml"), f"run.yaml: {expected}")


def test_every_fault_of_a_run_file_is_told_at_once_those_of_its_budgets_too(se_nas: Run, tmp_path: Path) -> None:
    run = changed(changed(changed(RUN, "search.epoch", 3), "budgets", {"macs": "many", "mcs": 3}), "parts", {"a": 1})
    write_run(tmp_path, run)
    assert_refused(
        se_nas("search", "run.yaml"),
        "run.yaml: parts: must be weights, choices and validation, but got {'a': 1}",
        "run.yaml: search.epoch: unknown key; did you mean epochs?",
        "run.yaml: budgets.macs: a limit must be a number above 0",
        "run.yaml: budgets.mcs: a budget must be on one of macs, params, latency_ms, weight_bytes, "
        "peak_activation_bytes, energy_mj; did you mean macs?",
    )


def test_an_infeasible_budget_names_the_least_reachable_before_anything_is_timed_or_trained(
    se_nas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("se_nas.runs.prepare.build_latency_table", refuse)
    monkeypatch.setattr(type(STRATEGIES["differentiable"]), "search", refuse)
    write_run(tmp_path)
    result = se_nas("search", "run.yaml", "--budget", "macs=10", "--budget", "params=20")
    assert_refused(
        result, "space tiny: some architecture must keep every budget, but got macs <= 10 MACs, where the least"
    )
    for part in ("least reachable is 54.18 k MACs", "params <= 20 parameters, where the least reachable is 1.5"):
        assert part in result[1][0]
    assert not (tmp_path / "tiny").exists()


WORDS: list[tuple[list[str], str]] = [
    (["--set", "search.epochs"], "--set: a change must be PATH=VALUE such as search.epochs=5, but got 'search.epochs'"),
    (["--set", "=5"], "--set: a change must be PATH=VALUE such as search.epochs=5, but got '=5'"),
    (
        ["--set", "search.epochs=["],
        "--set: search.epochs: the value must be YAML, but got: expected the node content, but found '<stream end>'",
    ),
    (["--set", "search.epoch=5"], "run.yaml: search.epoch: unknown key; did you mean epochs?"),
    (["--set", "name.x=5"], "run.yaml: name.x: `name` must be a mapping to set a value in it"),
    (["--set", "seed=1", "--seed", "1"], "--set: seed: must be given once, but --seed gives it too"),
    (
        ["--set", "budgets.macs=1M", "--budget", "macs=2M"],
        "--set: budgets.macs: must be given once, but --budget gives it too",
    ),
    (
        ["--set", "budgets={macs: 1M}", "--budget", "macs=2M"],
        "run.yaml: budgets.macs: must be given once, but budgets gives it too",
    ),
    (
        ["--set", "budgets.macs=1M", "--set", "budgets={macs: 2M}"],
        "run.yaml: budgets: must be given once, but budgets.macs gives it too",
    ),
    (
        ["--set", "search={strategy: optuna, objectives: [macs]}"],
        "run.yaml: search: objectives must be distinct, accuracy first, but got {'objectives': ['macs']}",
    ),
    (
        ["--set", "search={strategy: optuna, supernet: {sampling: uniform, random_subnets: 4}}"],
        "run.yaml: search.supernet.random_subnets: must be left out unless sampling is one of sandwich, best_up, "
        "worst_up, which alone draw them, but got 4 with uniform",
    ),
    (["--budget", "macs"], "--budget: a budget must be METRIC=LIMIT such as macs=15M, but got 'macs'"),
    (["--budget", "macs=1M=2"], "--budget: a budget must be METRIC=LIMIT such as macs=15M, but got 'macs=1M=2'"),
    (["--budget", "macs=many"], "--budget: budgets.macs: a limit must be a number above 0 such as 20M or 3.5"),
    (["--budget", "flops=1M"], "--budget: budgets.flops: a budget must be on one of macs, params, latency_ms"),
    (["--device", "tpu"], "device must be one of auto, cpu, cuda, mps, xpu"),
    (["--sedd", "1"], "No such option: --sedd"),
    (["--out", ""], "Invalid value for '--out': must not be empty"),
    (["--data-dir="], "Invalid value for '--data-dir': must not be empty"),
    (["--budget", "macs=1M", "--budget", ""], "Invalid value for '--budget': must not be empty"),
    (["--seed", "4294967296"], "run.yaml: seed: must be less than or equal to 4294967295, but got 4294967296"),
    (
        ["--set", "search.epochs=" + "9" * 5000],
        "--set: search.epochs: the value must be YAML, but got: a whole number must have at most 1,000 char",
    ),
    (
        ["--set", "search.epochs=" + "[" * 5000],
        "--set: search.epochs: the value must be YAML, but got: it is nested too deeply",
    ),
]


@pytest.mark.parametrize(("words", "expected"), WORDS, ids=[" ".join(words)[:40] for words, _ in WORDS])
def test_malformed_words_on_the_command_line(se_nas: Run, tmp_path: Path, words: list[str], expected: str) -> None:
    write_run(tmp_path)
    assert_refused(se_nas("search", "run.yaml", *words), expected)
    assert not (tmp_path / "tiny").exists()


def test_what_a_search_does_not_read_is_no_fault_of_a_run_that_goes_on(tmp_path: Path) -> None:
    supernet = {"sampling": "uniform", "random_subnets": 4}
    file = write_run(tmp_path, changed(RUN, "search", {"strategy": "optuna", "supernet": supernet}))
    assert RunChanges().read(file, begun=True).search.supernet.random_subnets == 4


def test_a_value_of_a_recipe_is_given_once() -> None:
    with pytest.raises(ConfigError, match=r"^--set: epochs: must be given once, but --epochs gives it too$"):
        RecipeOptions(change=["epochs=3"], epochs=4).changes()
    assert RecipeOptions(change=["mixup=0.2"], epochs=4).changes() == {"mixup": 0.2, "epochs": 4}


BEYOND = [
    ["evaluate", "out", "--batch-size"],
    ["evaluate", "out", "--resolution"],
    ["excitation", "out", "--images"],
    ["excitation", "out", "--batch-size"],
    ["retrain", "out/architecture.json", "--keep-every"],
    ["space", "sweep", "space.yaml", "--set", "se=none,2", "--rounds"],
    ["data", "shard", "in", "out", "--images-per-shard"],
    ["data", "shard", "in", "out", "--resize"],
    ["data", "shard", "in", "out", "--channels"],
]


@pytest.mark.parametrize("words", BEYOND, ids=map(" ".join, BEYOND))
def test_a_number_beyond_all_sense_is_one_line(se_nas: Run, tmp_path: Path, words: list[str]) -> None:
    assert_refused(se_nas(*words, "9" * 25), f"Invalid value for '{words[-1]}': must be less than or equal to ")
    assert not list(tmp_path.iterdir())


def test_words_that_no_command_knows(se_nas: Run) -> None:
    assert_refused(se_nas("serch", "run.yaml"), "No such command 'serch'.")
    assert_refused(se_nas("search"), "Missing argument")
    code, errors, out = se_nas()
    assert (code, errors) != (1, [])
    assert "Usage" in out + "\n".join(errors)


def test_a_folder_that_holds_a_run_is_not_overwritten(se_nas: Run, finished: Path) -> None:
    before = contents(finished)
    result = se_nas("search", finished / "run.yaml", "--out", finished / "out")
    assert_refused(
        result, f"{finished / 'out'}: the folder must hold no run yet, but it does; add --resume or choose --out"
    )
    assert contents(finished) == before


def test_resuming_with_another_configuration_is_refused(se_nas: Run, finished: Path) -> None:
    before = contents(finished)
    words = ["--resume", "--seed", "9", "--set", "search.learning_rate=0.05"]
    result = se_nas("search", finished / "run.yaml", "--out", finished / "out", *words)
    must = "must be as in the run that --resume continues"
    assert_refused(
        result,
        f"{finished / 'out/config.yaml'}: seed: {must}, 3, but got 9",
        f"{finished / 'out/config.yaml'}: search.learning_rate: {must}, 0.1, but got 0.05",
    )
    assert contents(finished) == before


def test_a_run_of_an_older_version_is_resumed_with_the_defaults_of_what_it_lacks(
    se_nas: Run, finished: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "copy"))
    config = yaml.safe_load((home / "out/config.yaml").read_text())
    assert config["search"].pop("restarts") == 1
    words = ["search", home / "run.yaml", "--out", home / "out", "--resume", "--quiet"]
    write_yaml(home / "out/config.yaml", config)
    assert se_nas(*words)[0] == 0
    write_yaml(home / "out/config.yaml", config | {"search": config["search"] | {"forgotten": 3}})
    assert_refused(se_nas(*words), f"{home / 'out/config.yaml'}: search.forgotten: unknown key")


def test_a_retraining_that_has_saved_nothing_may_be_corrected(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    words = ["retrain", finished / "out/architecture.json", "--data", "synthetic", "--epochs", "1", "--quiet"]
    words += ["--batch-size", "500", "--out", "again"]
    assert se_nas(*words)[0] == 0
    for path in (tmp_path / "again").glob("checkpoint*"):
        path.unlink()
    code, _, out = se_nas(*words, "--resume", "--learning-rate", "0.05")
    assert code == 0
    assert "recipe.learning_rate: 0.05 instead of 0.1, which nothing had used yet" in out.splitlines()
    assert_refused(
        se_nas(*words, "--resume"), "again/config.yaml: recipe.learning_rate: must be as in the run that --r"
    )


def test_resuming_with_another_space_is_refused(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "copy"))
    write_yaml(home / "space.yaml", changed(SPACE, "stages.0.kernel", [3, 7]))
    before = contents(home)
    result = se_nas("search", home / "run.yaml", "--out", home / "out", "--resume")
    assert_refused(result, f"{home / 'space.yaml'}: must be the space of the run that --resume continues, ")
    assert contents(home) == before


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_checkpoint_is_named(se_nas: Run, finished: Path, tmp_path: Path, damage: str) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "copy"))
    checkpoint = home / "out/search/checkpoint.pt"
    (home / "out/search/checkpoint.pt.previous").unlink()
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes({"truncated": whole[: len(whole) // 2], "foreign": b"hello", "empty": b""}[damage])
    before = contents(home)
    result = se_nas("search", home / "run.yaml", "--out", home / "out", "--resume", "--quiet")
    assert_refused(
        result, f"{checkpoint}: a checkpoint must be a whole file that se_nas wrote, but it is truncated or "
    )
    assert {n: c for n, c in contents(home).items() if "tensorboard" not in n} == {
        n: c for n, c in before.items() if "tensorboard" not in n
    }


def test_a_finished_run_can_be_resumed_to_no_effect_on_its_answer(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "copy"))
    began_elsewhere(home / "out")
    code, _, out = se_nas("search", home / "run.yaml", "--out", home / "out", "--resume", "--quiet")
    assert code == 0
    assert "report: " in out
    assert re.search(r"(?m)^resumed otherwise than it began: threads \d+ instead of 77; ", out)
    for name in ("architecture.json", "certificate.json", "decodes.json", "search/scores.json"):
        assert (home / "out" / name).read_bytes() == (finished / "out" / name).read_bytes()


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_an_output_folder_that_cannot_be_made(se_nas: Run, finished: Path, tmp_path: Path, out: str) -> None:
    write_run(tmp_path)
    (tmp_path / "file").write_text("kept")
    assert_refused(se_nas("search", "run.yaml", "--out", out, "--quiet"), f"{out}: the folder must be writable, but")
    architecture = finished / "out/architecture.json"
    words = ["--data", "synthetic", "--out", out, "--quiet"]
    assert_refused(se_nas("retrain", architecture, *words), f"{out}: the folder must be writable, but")
    assert (tmp_path / "file").read_text() == "kept"


def test_decode_says_what_it_needs(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    assert_refused(
        se_nas("decode", "gone", "--budget", "macs=1M"), "gone: must be the folder of a run whose search is done"
    )
    assert_refused(
        se_nas("decode", finished / "out"), "--budget: at least one budget must be given, such as --budget macs"
    )
    assert_refused(
        se_nas("decode", finished / "out", "--pick", "3"),
        f"{finished / 'out'}: must be of a search that has a front, such as optuna",
    )
    assert_refused(
        se_nas("decode", finished / "out", "--pick", "3", "--budget", "macs=1M"),
        "--pick: must be given without --budget",
    )
    before = contents(finished)
    words = ["--budget", "macs=10", "--out", tmp_path / "new"]
    assert_refused(se_nas("decode", finished / "out", *words), "space tiny: some architecture must keep every budget")
    assert contents(finished) == before
    assert not (tmp_path / "new").exists()


def test_decode_answers_in_a_folder_of_its_own(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(finished, tmp_path / "copy"))
    code, errors, out = se_nas("decode", home / "out", "--budget", "macs=70k")
    assert (code, errors) == (0, [])
    (made,) = (home / "out/decodes").iterdir()
    assert made.name == "macs-70000"
    assert f"architecture: {made / 'architecture.json'}" in out
    assert "the run's own budget on params did not bind this answer" in out
    (kept,) = read_json(made / "certificate.json")["budgets"]
    assert kept["holds"]
    assert kept["value"] <= kept["limit"] == 70e3
    assert {n: c for n, c in contents(home / "out").items() if not n.startswith("decodes/")} == contents(
        finished / "out"
    )


def test_report_says_which_file_it_misses(se_nas: Run) -> None:
    assert_refused(se_nas("report", "gone"), "gone/result.json: file: must be readable, but got: No such file")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ["file: must be readable, but got: No such file or directory"]),
        ("{", ["file: must be JSON, but got: "]),
        ("{}", ["'format' must be 'se_nas architecture', but this file has none of that name"]),
        (
            '{"format": "se_nas architecture", "version": 2}',
            ["'version' must be 1 for this release of se_nas, but got 2"],
        ),
        (
            '{"format": "se_nas architecture", "version": 1}',
            ["space: must be given", "picks: must be given", "network: must be given"],
        ),
    ],
    ids=["missing", "truncated", "foreign", "another version", "incomplete"],
)
def test_an_architecture_file_that_cannot_be_read(
    se_nas: Run, tmp_path: Path, content: str | None, expected: list[str]
) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    before = contents(tmp_path)
    assert_refused(se_nas("retrain", "a.json", "--data", "synthetic"), *(f"a.json: {line}" for line in expected))
    assert contents(tmp_path) == before


def test_retrain_refuses_data_and_recipes_it_cannot_use(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "architecture.json"
    file.write_bytes((finished / "out/architecture.json").read_bytes())
    write_yaml(tmp_path / "recipe.yaml", {"epochs": 0, "lr": 0.1})
    before = contents(tmp_path)
    assert_refused(se_nas("retrain", file, "--data", "mnist"), "the data set must be one of digits, cifar10, ")
    assert_refused(
        se_nas("retrain", file, "--data", "folder", "--data-dir", "gone"), "gone: --data-dir must name a folder"
    )
    assert_refused(se_nas("retrain", file, "--device", "tpu"), "device must be one of auto, cpu, cuda, mps, xpu")
    assert_refused(
        se_nas("retrain", file, "--recipe", "recipe.yaml"),
        "recipe.yaml: epochs: must be greater than or equal to 1, but got 0",
        "recipe.yaml: lr: unknown key",
    )
    assert contents(tmp_path) == before


def test_retrain_refuses_a_network_for_images_of_other_channels(se_nas: Run, tmp_path: Path) -> None:
    one = {"name": "one", "resolution": 8, "channels": 2, "stem": {"width": 8}, "stages": [{"width": 8}]}
    write_yaml(tmp_path / "one.yaml", one)
    assert_refused(
        se_nas("retrain", "one.yaml", "--data", "digits", "--out", "out"),
        "digits has images of which grey or colours are had: the channels must be 1 or 3, but got 2",
    )
    assert not (tmp_path / "out").exists()


def test_a_retraining_is_neither_overwritten_nor_resumed_with_other_settings(
    se_nas: Run, finished: Path, tmp_path: Path
) -> None:
    words = ["retrain", finished / "out/architecture.json", "--data", "synthetic", "--epochs", "1", "--quiet"]
    words += ["--out", "new", "--batch-size", "500"]
    assert se_nas(*words)[0] == 0
    before = contents(tmp_path)
    assert_refused(se_nas(*words), "new: the folder must hold no run yet, but it does; add --resume or choose --out")
    must = "recipe.learning_rate: must be as in the run that --resume continues, 0.1, but got 0.5"
    assert_refused(se_nas(*words, "--resume", "--learning-rate", "0.5"), f"new/config.yaml: {must}")
    assert contents(tmp_path) == before
    code, _, out = se_nas(*words, "--resume")
    assert (code, "resumed otherwise" in out) == (0, False)
    began_elsewhere(tmp_path / "new")
    assert "resumed otherwise than it began: threads " in se_nas(*words, "--resume")[2]


def test_a_retraining_starts_from_the_weights_of_another(se_nas: Run, finished: Path, tmp_path: Path) -> None:
    words = ["retrain", finished / "out/architecture.json", "--data", "synthetic", "--epochs", "1", "--quiet"]
    words += ["--batch-size", "500"]
    assert se_nas(*words, "--out", "first")[0] == 0
    words += ["--learning-rate", "1e-9", "--seed", "1", "--weights"]
    assert se_nas(*words, "first/network.pt", "--out", "second")[0] == 0
    first, second = (dict(load_trained(tmp_path / name)[0].named_parameters()) for name in ("first", "second"))
    assert all(torch.allclose(value, second[name], atol=1e-6) for name, value in first.items())
    before = contents(tmp_path)
    assert_refused(se_nas(*words, "gone.pth", "--out", "third"), "gone.pth: the file of weights must be readable, but")
    must = "must be as in the run that --resume continues"
    torch.save(load_trained(tmp_path / "first")[0].state_dict(), tmp_path / "again.pth")
    # a file alone does not say what its network saw
    refused = [f"second/config.yaml: {key}: {must}" for key in ("data.normalised_as", "weights")]
    assert_refused(se_nas(*words, "again.pth", "--out", "second", "--resume"), *refused)
    (tmp_path / "again.pth").unlink()
    assert contents(tmp_path) == before


def test_latency_refuses_conditions_that_this_machine_has_not(
    se_nas: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_run(tmp_path)
    assert_refused(se_nas("latency", "space.yaml", "--device", "cuda"), CUDA)
    assert_refused(
        se_nas("latency", "space.yaml", "--dtype", "int4"), "latency dtype must be one of float32, bfloat16, flo"
    )
    assert_refused(se_nas("latency", "gone.yaml"), "gone.yaml: the file must be readable, but got: No such file")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["search", "run.yaml", "--budget", "macs=10"],
            "error: space tiny: some architecture must keep every budget, ",
        ),
        (["space", "show", "gone.yaml"], "error: gone.yaml: the file must be readable, but got: No such file or "),
    ],
    ids=["infeasible budget", "missing file"],
)
def test_a_real_process_says_the_same(cache: Path, tmp_path: Path, words: list[str], expected: str) -> None:
    write_run(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "se_nas", *words],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "SE_NAS_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(expected)


def commands() -> list[list[str]]:
    found: list[list[str]] = []
    waiting: list[tuple[Any, list[str]]] = [(typer.main.get_command(cli.app), [])]
    while waiting:
        command, path = waiting.pop()
        if not hasattr(command, "commands"):
            found.append(path)
        for name, below in getattr(command, "commands", {}).items():
            waiting.append((below, [*path, name]))
    return sorted(found)


TEACHES = {
    "search": [
        "runs/digits.yaml",
        "macs=15M",
        "params=300k",
        "latency_ms=2.5",
        "search.epochs=5",
        "--resume",
        "report.html",
    ],
    "decode": ["macs=15M", "RUN/decodes", "certificate"],
    "retrain": [
        "architecture.json",
        "digits, cifar10, cifar100, folder, synthetic",
        "retrain-DATA",
        "by their order and shape alone",
        "--weights",
        "--resume",
    ],
    "latency table": ["float32, bfloat16, float16 or int8", "cuda_graph", "SE_NAS_CACHE", "cuda, mps or xpu"],
    "report": ["report.html"],
    "space show": ["number of distinct networks", "least and greatest costs"],
    "space sweep": ["se=none,2,4,8,16,32", "se.position=standard,pre", "sweep.json and sweep.png"],
}


def test_every_command_has_a_description_of_what_its_help_must_teach() -> None:
    assert set(TEACHES) <= {" ".join(path) for path in commands()}


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_teaches(se_nas: Run, path: list[str]) -> None:
    code, errors, out = se_nas(*path, "--help")
    assert (code, errors) == (0, [])
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", out).split())
    assert f"Usage: se-nas {' '.join(path)}" in text
    for taught in TEACHES.get(" ".join(path), []):
        assert taught in text, f"--help of {' '.join(path)} does not teach {taught}"


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_gives_an_example_that_the_command_line_knows(se_nas: Run, path: list[str]) -> None:
    code, _, out = se_nas(*path, "--help")
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    (example,) = [line.removeprefix("Example: ") for line in lines if line.startswith("Example: ")]
    assert example.startswith(f"se-nas {' '.join(path)}")
    parse(example)


def test_every_command_stands_under_a_heading(se_nas: Run) -> None:
    _, _, out = se_nas("--help")
    headings = re.findall(r"╭─ (.*?) ─", out)
    assert "Search" in headings
    assert "Commands" not in headings
    assert "--install-completion" in out


def measured(networks: list[Any], key: object) -> list[Measurement]:
    return [Measurement(1.0 + i, 1.0 + i, (1.0 + i, 1.0 + i), 40) for i in range(len(networks))]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_space_show_tells_the_size_and_the_span_of_every_cost(
    se_nas: Run, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.setattr("se_nas.cost.latency.timing.measure_networks", measured)
    code, errors, out = se_nas("space", "show", path)
    assert (code, errors) == (0, [])
    space = load_space(path)
    networks = "distinct network" if space.size == 1 else "distinct networks"
    assert out.startswith(f"{space.name}: {space.size:,} {networks} ({space.size:.3g}), ")
    for metric in (name for name, known in METRICS.items() if known.counted or name == LATENCY):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{metric}: ")]
        assert " to " in line


def test_space_table_prints_a_row_for_every_space_and_refuses_a_folder_without_one(se_nas: Run, tmp_path: Path) -> None:
    write_yaml(tmp_path / "tiny.yaml", SPACE)
    code, errors, out = se_nas("space", "table", tmp_path)
    assert (code, errors) == (0, [])
    assert [line.count("|") for line in out.splitlines()] == [8] * 3
    assert "`tiny`" in out
    must = "must be a folder with search spaces (*.yaml), but"
    assert_refused(se_nas("space", "table", "nowhere"), f"nowhere: {must} does not exist")
    assert_refused(se_nas("space", "table", "tiny.yaml"), f"tiny.yaml: {must} is a file")
    (tmp_path / "empty").mkdir()
    assert_refused(se_nas("space", "table", "empty"), f"empty: {must} has none")


def test_space_sweep_shows_what_each_option_costs(se_nas: Run, tmp_path: Path) -> None:
    write_yaml(tmp_path / "space.yaml", SPACE)
    words = ("space", "sweep", "space.yaml", "--set", "se=none,2", "--device", "cpu", "--rounds", 2, "--quiet")
    code, errors, out = se_nas(*words, "--out", "swept")
    assert (code, errors) == (0, [])
    points = read_json(tmp_path / "swept" / "sweep.json")["points"]
    lines = [line.split() for line in out.splitlines()]
    for point in points:
        (line,) = [line for line in lines if line[:1] == [point["option"]]]
        weights, peak = (format_cost(m, point[m]) for m in ("weight_bytes", "peak_activation_bytes"))
        assert line[1:3] == [f"{point['params']:,}", f"{point['macs']:,}"]
        assert line[3:7] == [*weights.split(), *peak.split()]
        assert line[7:9] == [f"{point['latency']['median_ms']:.4g}", "ms"]
        assert point["latency"]["n"] == 2
    assert (tmp_path / "swept" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "latency: median on cpu " in out


def test_space_sweep_takes_one_part_at_a_time(se_nas: Run, tmp_path: Path) -> None:
    write_yaml(tmp_path / "space.yaml", SPACE)
    words = ("space", "sweep", "space.yaml", "--set", "se=2,4", "--set", "kernel=3,5", "--rounds", 0)
    assert_refused(se_nas(*words), "--set: a sweep must vary one part, but got 2: se=2,4 and kernel=3,5")


def test_space_sweep_counts_without_a_clock(se_nas: Run, tmp_path: Path) -> None:
    write_yaml(tmp_path / "space.yaml", SPACE)
    code, errors, out = se_nas("space", "sweep", "space.yaml", "--set", "kernel=3,5", "--rounds", 0)
    assert (code, errors) == (0, [])
    assert "latency" not in out
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("se", "--set: a sweep must be PART=OPTION,... with distinct options, such as se=2,4,8, but got 'se'"),
        ("depth=2", "--set: must name a part that blocks of tiny have (kernel, expansion, "),
        ("se=0", '--set: se=0: tiny: stages[0].blocks[0].se.options[0]: must be "none" or a reduction ratio'),
    ],
)
def test_a_sweep_of_what_is_not_there_is_refused(se_nas: Run, tmp_path: Path, sweep: str, expected: str) -> None:
    write_yaml(tmp_path / "space.yaml", SPACE)
    assert_refused(se_nas("space", "sweep", "space.yaml", "--set", sweep, "--out", "swept"), expected)
    assert not (tmp_path / "swept").exists()


TABULAR = {**RUN, "search": {"strategy": "optuna", "evaluator": "table", "table": "known.jsonl"}, "retrain": None}
OPTUNA_FAULTS: list[tuple[str, str, Any, str]] = [
    ("unknown sampler", "search.sampler", "nsga4", "run.yaml: search.sampler: must be one of auto, nsga2, nsga3, "),
    ("unknown objective", "search.objectives", ["accuracy", "size"], "run.yaml: search.objectives[1]: must be "),
    (
        "accuracy not first",
        "search.objectives",
        ["macs", "accuracy"],
        "run.yaml: search: objectives must be distinct, accuracy first",
    ),
    (
        "evolution of two objectives",
        "search",
        {"strategy": "optuna", "sampler": "evolution", "objectives": ["accuracy", "macs"]},
        "run.yaml: search: the sampler evolution needs objectives [accuracy] alone; nsga2 takes several",
    ),
    (
        "pruner with a supernet",
        "search",
        {"strategy": "optuna", "pruner": "hyperband"},
        "run.yaml: search: a pruner needs an evaluator that reports epochs, such as stand_alone, and objectives",
    ),
    ("no table", "search.table", None, "run.yaml: search: table must be given with evaluator table, and only then"),
    ("a table that is not there", "search.table", "gone.jsonl", "search.table: gone.jsonl: must be a file that can be"),
    (
        "an unknown word",
        "search.enqueue",
        ["se_r2", "se_r3"],
        "search.enqueue: must be an architecture file, a run folder, or one of no_se, se_r2, se_r4, but got 'se_r3'",
    ),
    ("latency without a table", "latency.table", False, "run.yaml: budgets.latency_ms: latency_ms needs latency.table"),
    ("no evaluations", "search.max_evaluations", 0, "run.yaml: search.max_evaluations: must be greater than or equal"),
    ("key of another search", "search.warmup_epochs", 3, "run.yaml: search.warmup_epochs: unknown key"),
]


def write_tabular(folder: Path, run: dict[str, Any] = TABULAR, **metrics: Any) -> None:
    """A run on a table of three architectures, each with these metrics."""
    write_run(folder, run)
    space = load_space(folder / "space.yaml")
    lines = [json.dumps({"picks": a.as_dict(), **(metrics or {"accuracy": 0.5})}) for a in space.enumerate()]
    (folder / "known.jsonl").write_text("\n".join(lines[:3]) + "\n")


@pytest.mark.parametrize(
    ("path", "value", "expected"), [fault[1:] for fault in OPTUNA_FAULTS], ids=[fault[0] for fault in OPTUNA_FAULTS]
)
def test_a_fault_in_an_optuna_driven_run(se_nas: Run, tmp_path: Path, path: str, value: Any, expected: str) -> None:
    run = changed(TABULAR, "budgets", {"latency_ms": 1000}) if path.startswith("latency") else TABULAR
    write_tabular(tmp_path, changed(run, path, value))
    assert_refused(se_nas("search", "run.yaml", "--quiet"), expected)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"precision": 0.5}, "line 1: must have the metric accuracy, but has picks, precision"),
        ({"accuracy": 93.5}, "line 1: accuracy: must be a share from 0 to 1, but got 93.5; percent must be divided by"),
        ({"accuracy": "high"}, "line 1: accuracy: must be a number, but got 'high'"),
    ],
    ids=["missing metric", "percent", "word"],
)
def test_a_table_at_fault_is_refused_before_anything_is_left(
    se_nas: Run, tmp_path: Path, metrics: dict[str, Any], expected: str
) -> None:
    write_tabular(tmp_path, **metrics)
    assert_refused(
        se_nas("search", "run.yaml", "--quiet"), *(f"known.jsonl: {expected.replace('1', n, 1)}" for n in "123")
    )
    assert not (tmp_path / "tiny").exists()


def test_a_table_of_another_space_is_refused(se_nas: Run, tmp_path: Path) -> None:
    write_tabular(tmp_path)
    write_yaml(tmp_path / "space.yaml", changed(SPACE, "stages.0.depth", 1))
    result = se_nas("search", "run.yaml", "--quiet")
    assert_refused(
        result, *[f"known.jsonl: line {n}: space tiny: 'stage1.depth' is no choice of the space" for n in "123"]
    )
    assert not (tmp_path / "tiny").exists()


def test_a_search_is_among_what_its_table_holds_and_says_how_much_that_is(se_nas: Run, tmp_path: Path) -> None:
    write_tabular(tmp_path, changed(TABULAR, "budgets", {}))
    code, errors, out = se_nas("search", "run.yaml", "--quiet")
    assert (code, errors) == (0, [])
    assert "known.jsonl: 3 of the space's 120 networks, 2.5 % of them: the search is among these" in out
    search = read_json(tmp_path / "tiny/result.json")["search"]
    assert (search["evaluations"], search["exhausted"]) == (3, True)
    assert search["failed"] == 0


def test_settings_of_another_evaluator_are_named_as_not_read(se_nas: Run, tmp_path: Path) -> None:
    tabular = changed(changed(TABULAR, "budgets", {}), "search.supernet", {"epochs": 3})
    write_tabular(tmp_path, changed(tabular, "search.stand_alone", {}))
    code, errors, out = se_nas("search", "run.yaml", "--quiet")
    assert (code, errors) == (0, [])
    assert "search.supernet is not read: the evaluator is table" in out
    assert "search.stand_alone" not in out  # which is as it is without


def test_what_cannot_be_enqueued_is_refused_before_anything_is_left(
    se_nas: Run, finished: Path, tmp_path: Path
) -> None:
    architecture = finished / "out/architecture.json"
    write_tabular(tmp_path)
    assert_refused(
        se_nas("search", "run.yaml", "--enqueue", "se_r99"),
        "search.enqueue: must be an architecture file, a run folder, or one of no_se, se_r2, se_r4, but got",
    )
    (tmp_path / "empty").mkdir()
    assert_refused(se_nas("search", "run.yaml", "--enqueue", "empty"), "search.enqueue: must be an architecture file")
    (tmp_path / "broken.json").write_text("{}")
    assert_refused(
        se_nas("search", "run.yaml", "--enqueue", "broken.json"), f"{tmp_path}/broken.json: 'format' must be"
    )
    supernet = {**TABULAR, "search": "optuna"}
    write_run(tmp_path, supernet, changed(SPACE, "stages.0.kernel", [3, 7]))
    for word in (architecture, finished / "out"):
        assert_refused(
            se_nas("search", "run.yaml", "--enqueue", word),
            "space tiny: the architecture must be of this space (digest ",
        )
    write_run(tmp_path)
    assert_refused(se_nas("search", "run.yaml", "--enqueue", architecture), "run.yaml: search.enqueue: unknown key")
    assert not (tmp_path / "tiny").exists()


def test_another_budget_of_an_optuna_driven_run_is_answered_from_its_evaluations(se_nas: Run, tmp_path: Path) -> None:
    write_tabular(tmp_path, changed(TABULAR, "search.max_evaluations", 5))
    space = load_space(tmp_path / "space.yaml")
    lines = [json.dumps({"picks": a.as_dict(), "accuracy": 0.5}) for a in space.enumerate()]
    (tmp_path / "known.jsonl").write_text("\n".join(lines))
    code, errors, out = se_nas("search", "run.yaml", "--out", "run", "--enqueue", "no_se", "--quiet")
    assert (code, errors) == (0, [])
    assert "accuracy in the table of known architectures: 50.00 %" in out
    assert len(read_json(tmp_path / "run/search/evaluations.json")["evaluations"]) == 5
    code, errors, out = se_nas("decode", "run", "--budget", "macs=85k", "--out", "other")
    assert (code, errors) == (0, [])
    assert read_json(tmp_path / "other/certificate.json")["budgets"][0]["value"] <= 85e3
    assert_refused(
        se_nas("decode", "run", "--budget", "macs=10", "--out", "none"),
        "space tiny: an evaluated architecture must keep macs <= 10 MACs, but none does",
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "words", [("search", "x" * 5_000), ("space", "show", "x" * 5_000), ("data", "shard", "x" * 5_000, "out", "--quiet")]
)
def test_a_path_that_no_file_system_takes_is_one_short_line(se_nas: Run, words: tuple[str, ...]) -> None:
    code, errors, _ = se_nas(*words)
    assert code == 2
    assert len(errors) == 1
    assert len(errors[0]) < 500


def test_a_spaces_name_is_short_enough_for_the_files_that_bear_it(se_nas: Run, tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "space.yaml", {**SPACE, "name": "y" * 101})
    assert_refused(se_nas("space", "show", path), f"{path}: name: must have at most 100 characters")
