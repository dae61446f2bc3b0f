"""A law: whatever one file of a run's folder has become, a command ends well or says so in plain lines."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from se_nas.cli import main as cli
from se_nas.layers.network import build
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.yaml.file import load_space, parse_space
from se_nas.training.trained_network import save_weights
from tests.helpers.tiny_runs import RUN, SPACE, cache_latency, changed, no_clock, write_run
from tests.records.damages import damages
from tests.search.known_worth import write_table

RESULTS = Path(__file__).parents[2] / "runs" / "results"
TABULAR = {
    "strategy": "optuna",
    "evaluator": "table",
    "table": "known.jsonl",
    "max_evaluations": 12,
    "objectives": ["accuracy", "macs"],
}
PRIMARY = "primary={against: random_mean, difference: 0.01, noise: 0.01, spread: 0.01}"
SETTINGS = (
    *(PRIMARY, "random=2", "seeds=[3, 4]", "best_of=2", "ratios=[]"),
    *("within=2", "space=3", "contexts=1", "timed=2"),
)


@dataclass(frozen=True)
class Case:
    """A file of a run's folder, and a command that reads it; `{run}` is the folder."""

    run: str
    file: str
    command: tuple[str, ...]


def _cases() -> Iterator[Case]:
    shown = ("report", "{run}")
    again = ("search", "{run}/../run.yaml", "--out", "{run}", "--resume", "--quiet")
    other = ("decode", "{run}", "--budget", "macs=80k", "--out", "{run}/other")
    for run in ("differentiable", "tabular"):
        for file in ("result", "architecture", "certificate", "choices", "latency"):
            yield Case(run, f"{file}.json", shown)
        yield Case(run, "latency.json", other)
        for file in ("certificate", "decodes", "architecture", "environment", "parts", "latency"):
            yield Case(run, f"{file}.json", again)
    for file in ("search/history.json", "retrain/history.json"):
        yield Case("differentiable", file, shown)
    yield Case("differentiable", "search/scores.json", other)
    for file in ("search/log.jsonl", "retrain/log.jsonl"):
        yield Case("differentiable", file, again)
    for file in ("search/evaluations.json", "search/importance.json"):
        yield Case("tabular", file, shown)
    yield Case("tabular", "search/evaluations.json", other)
    for file in ("search/study.json", "search/study.journal.sum", "search/table.jsonl", "search/evaluations.json"):
        yield Case("tabular", file, again)
    handed_on = ("export", "{run}/retrain", "--to", "plain")
    for file in ("architecture.json", "data.json", "export/export.json"):
        yield Case("differentiable", f"retrain/{file}", handed_on)
    told = ("evidence", "{run}", "--part", "ledger", "--finished-only", "--quiet")
    for file in ("result.json", "evidence/spent.json", "evidence/plan.json", "evidence/trainings/*.json"):
        yield Case("differentiable", file, told)
    compared = ("evidence", "{run}", "--part", "controls", "--finished-only", "--quiet")
    for file in ("evidence/supernet_scores.json", "evidence/trainings/*.json"):
        yield Case("differentiable", file, compared)
    for part in ("controls", "ranking", "stability", "where_se_pays", "latency_check", "ledger"):
        yield Case("evidence", f"evidence/{part}.json", shown)
    yield Case("excitation", "excitation/excitation.json", shown)
    yield Case("differentiable", "search/start.json", again)
    for file in ("result", "architecture", "transfer-digits/result", "transfer-digits/architecture"):
        yield Case("differentiable", f"subnet/{file}.json", shown)
    trained = ("--epochs", "1", "--quiet", "--out", "{run}/other")
    for file in ("result", "architecture", "data"):
        yield Case("differentiable", f"subnet/{file}.json", ("retrain", "--from", "{run}/subnet", *trained))
    cut = ("retrain", "--from", "{run}/retrain/pruned", *trained)
    yield Case("differentiable", "retrain/pruned/result.json", cut)
    for file in ("architecture", "data"):
        cutting = ("prune", "{run}/retrain", "--keep", "macs=80%", "--out", "{run}/other")
        yield Case("differentiable", f"retrain/{file}.json", cutting)
    longer = ("retrain", "{run}/retrain/extended", "--extend", "1", "--quiet", "--out", "{run}/other")
    yield Case("differentiable", "retrain/extended/result.json", longer)


CASES = tuple(_cases())


def _call(*words: object) -> tuple[int, BaseException | None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["se-nas", *map(str, words)])
        no_clock(patch)
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), None
        except Exception as error:
            return 1, error
    return 0, None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Finished runs by name, each in its folder `out` beside its run file; to be copied."""
    home = tmp_path_factory.mktemp("runs")
    started = changed(RUN, "search.weights", str(_write_trained(home / "trained")))
    for name, run in (
        ("differentiable", changed(changed(started, "search.epochs", 1), "retrain.epochs", 1)),
        ("tabular", {**RUN, "search": TABULAR, "retrain": None}),
    ):
        write_run(home / name, run)
        write_table(home / name / "known.jsonl", load_space(home / name / "space.yaml"))
    cache_latency(home, home / "tabular")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home))
        for name in ("differentiable", "tabular"):
            out = home / name / "out"
            assert _call("search", home / name / "run.yaml", "--out", out, "--quiet") == (0, None)
        out = home / "differentiable" / "out"
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        assert _call("evidence", out, "--part", "controls", *settings, "--quiet") == (0, None)
        assert _call("export", out / "retrain", "--to", "plain") == (0, None)
        onto = ("--data", "digits", "--epochs", 1, "--batch-size", 500, "--quiet")
        assert _call("retrain", "--from", out, *onto) == (0, None)
        assert _call("prune", out / "retrain", "--keep", "macs=80%") == (0, None)
        assert _call("retrain", out, "--extend", 1, "--quiet") == (0, None)
        shutil.copytree(RESULTS / "cifar10_evidence_penalty", home / "evidence" / "out")
        shutil.copytree(home / "tabular" / "out", home / "excitation" / "out")
        shutil.copytree(RESULTS / "excitation_cifar10_cpu", home / "excitation" / "out" / "excitation")
        yield home


def _write_trained(folder: Path) -> Path:
    """The weights of a network of the space, in a folder as a retraining leaves it, which nothing has trained."""
    space = parse_space({**SPACE, "classes": 10}, "tiny")
    architecture = next(space.enumerate())
    save_architecture(folder / "architecture.json", ArchitectureFile.of(space, architecture))
    save_weights(folder / "network.pt", build(space.resolve(architecture)), None)
    return folder / "network.pt"


def _tried(case: Case, runs: Path, place: Path, rng: random.Random, most: int) -> Iterator[str]:
    """The damages of a case, drawn by chance, each tried in a copy of the run; those that are no plain error."""
    home = Path(shutil.copytree(runs / case.run, place / case.run, dirs_exist_ok=True))
    (file,) = list((home / "out").glob(case.file))[:1]
    whole = file.read_bytes()
    every = list(damages(whole, rng))
    for name, content in rng.sample(every, min(most, len(every))):
        file.write_bytes(content)
        words = [word.format(run=home / "out") for word in case.command]
        code, error = _call(*words)
        if error is not None:
            yield f"{case.file}: {name}: {case.command[0]}: {type(error).__name__}: {error}"
        elif code not in (0, 2):
            yield f"{case.file}: {name}: {case.command[0]}: ended with {code}"
        for path in (home / "out").rglob("*"):  # what the command changed
            before = runs / case.run / "out" / path.relative_to(home / "out")
            if path.is_file() and before.is_file() and path.read_bytes() != before.read_bytes():
                shutil.copy2(before, path)
        shutil.rmtree(home / "out" / "other", ignore_errors=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.run}-{case.file}-{case.command[0]}")
def test_a_damaged_file_ends_in_plain_lines_or_does_no_harm(
    case: Case, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    most = 2 if case.command[0] in ("report", "decode") and not case.file.startswith("subnet") else 1
    assert list(_tried(case, runs, tmp_path, random.Random(0), most)) == []
    errors = capsys.readouterr().err.splitlines()
    assert all("Traceback" not in line and len(line) < 1000 for line in errors)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.run}-{case.file}-{case.command[0]}")
def test_every_damage_ends_in_plain_lines_or_does_no_harm(case: Case, runs: Path, tmp_path: Path) -> None:
    assert list(_tried(case, runs, tmp_path, random.Random(0), 10**6)) == []


def test_the_committed_results_are_read(tmp_path: Path) -> None:
    """Old files without a format or a version are what they were."""
    folders = sorted({path.parent for path in RESULTS.rglob("result.json")})
    assert len(folders) >= 5
    for number, folder in enumerate(folders):
        made = Path(shutil.copytree(folder, tmp_path / str(number)))
        needed = all((made / name).exists() for name in ("architecture.json", "certificate.json"))
        whole = (made / "space.yaml").exists() or not (made / "search/evaluations.json").exists()
        code, error = _call("report", made)
        assert (code, error) == (0 if needed and whole else 2, None), folder
