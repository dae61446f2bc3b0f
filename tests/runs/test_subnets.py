"""Networks that leave a supernet with its weights: as they are, fine-tuned, and in other commands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from markupsafe import escape

import se_nas
from se_nas.cost.counts import network_counts
from se_nas.errors import ConfigError, OutputError
from se_nas.records.models.certificate import SearchCertificate
from se_nas.records.models.run_result import RetrainResult, RunResult, SubnetResult
from se_nas.records.record import read_record
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.runs.subnets.fine_tuning import accuracy_lines, open_fine_tuning
from se_nas.runs.subnets.inherited import make_subnet
from se_nas.runs.subnets.pruning import prune
from se_nas.space.architecture_file import load_architecture
from se_nas.supernet.calibration import recalibrate
from se_nas.training.trained_network import load_trained
from tests.helpers.command_lines import call
from tests.helpers.tiny_runs import RUN, cache_latency, changed, no_clock, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run whose winner was retrained for an epoch, and its subnet in it."""
    home = tmp_path_factory.mktemp("subnets")
    run_file = write_run(home, changed(changed(RUN, "retrain.epochs", 1), "search.epochs", 1))
    cache_latency(home / "cache", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        no_clock(patch)
        run_search(run_file, load_run(run_file), home / "out", resume=False, progress=False, say=print)
        make_subnet(home / "out", (), home / "out" / "subnet", say=print)
        yield home / "out"


def test_a_subnet_is_the_answer_with_the_weights_that_the_search_judged_it_by(run: Path) -> None:
    folder, result = run / "subnet", read_record(SubnetResult, run / "subnet" / "result.json")
    searched = read_record(RunResult, run / "result.json")
    assert result.validation_accuracy == searched.search.validation_accuracy
    assert load_architecture(folder / "architecture.json") == load_architecture(run / "architecture.json")
    assert (folder / "certificate.json").read_text() == (run / "certificate.json").read_text()
    assert se_nas.evaluate(folder).top1 == result.test_accuracy
    assert load_trained(folder).taken.accuracies == {"network": result.test_accuracy}
    with pytest.raises(OutputError, match="must hold no run and no network yet"):
        make_subnet(run, (), folder, say=print)


def test_a_subnet_is_exported_like_any_trained_network(run: Path, tmp_path: Path) -> None:
    report = se_nas.export_trained(run / "subnet", tmp_path / "export", ["plain"])
    assert report.forms


def test_a_subnet_of_other_budgets_keeps_them(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("subnet", run, "--budget", "macs=60k", "--out", tmp_path / "small")
    budgets = {entry.metric: entry for entry in certificate(tmp_path / "small").budgets}
    assert (budgets["macs"].limit, budgets["macs"].holds) == (60e3, True)
    (told, *rest) = [line for line in capsys.readouterr().out.splitlines() if "test images" in line]
    assert told.startswith("with the supernet's weights: ")
    assert not rest  # of another network than the one that was trained from scratch


def certificate(folder: Path) -> SearchCertificate:
    return read_record(SearchCertificate, folder / "certificate.json")


def test_fine_tuning_goes_on_from_the_subnet_at_a_smaller_rate_and_stands_beside_the_training_from_scratch(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = open_fine_tuning(run / "subnet" / "network.pt", None, "small-images", {}, None)
    recipe = load_run(run / "config.yaml").retrain
    assert recipe is not None
    assert tuning.recipe == recipe.model_copy(update={"learning_rate": recipe.learning_rate * 0.1})
    faster = open_fine_tuning(run / "subnet" / "network.pt", None, "", {"learning_rate": 0.2}, None)
    assert faster.recipe.learning_rate == 0.2
    call("retrain", "--from", run, "--epochs", 1, "--device", "cpu")
    tuned = read_record(RetrainResult, run / "subnet" / "fine-tuned" / "result.json")
    words = [line.partition(":")[0] for line in accuracy_lines(run / "subnet")]
    assert words == ["with the supernet's weights", "fine-tuned for 1 epoch", "trained from scratch for 1 epoch"]
    page = (run / "report.html").read_text()  # which was written again
    places = [page.index(f"<td>{escape(word)}</td>") for word in words]
    assert places == sorted(places)
    assert f"fine-tuned for 1 epoch: {tuned.retrain.test_accuracy:.2%} of" in capsys.readouterr().out
    places = (run / "subnet", run / "subnet" / "fine-tuned", run / "retrain")
    first, after, scratch = (load_trained(place).network.stem.conv.weight.detach() for place in places)
    assert float((after - first).abs().max()) < float((scratch - first).abs().max())


def test_a_run_shows_what_its_network_is_worth_on_other_images_with_the_weights_of_either(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("fine-tuned")))
    words = ("--data", "digits", "--epochs", 1, "--batch-size", 200, "--device", "cpu")
    assert call("retrain", "--from", home, "--freeze", "stem,1", *words) == 0
    assert call("retrain", "--from", home / "retrain", "--freeze", "all", *words) == 0
    results = [
        read_record(RetrainResult, home / place / "transfer-digits" / "result.json").retrain
        for place in ("subnet", "retrain")
    ]
    known = [
        read_record(SubnetResult, home / "subnet/result.json"),
        read_record(RunResult, home / "result.json").retrain,
    ]
    assert [result.started_from and result.started_from.source_accuracy for result in results] == [
        found and found.test_accuracy for found in known
    ]
    told = capsys.readouterr().out
    anew = "transferred with a new classifier for 1 epoch"
    assert f"{anew}, stem, stage 1 frozen: {results[0].test_accuracy:.2%} of 355 test images of digits" in told
    page = (home / "report.html").read_text()
    for row in (f"<td>{anew}</td><td>stem, stage 1</td><td>digits</td>", f"<td>from scratch, then {anew}</td>"):
        assert row in page
    assert page.count('<td>synthetic</td><td class="n">10</td>') == 2  # as it was inherited, and trained from scratch


def test_a_network_is_cut_to_shares_of_its_costs_and_computes_the_same_where_nothing_goes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("prune", run / "retrain", "--keep", "macs=70%", "--keep", "params=80%", "--out", tmp_path / "cut")
    places = (run / "retrain", tmp_path / "cut")
    before, after = (load_architecture(place / "architecture.json").network for place in places)
    old, new = network_counts(before), network_counts(after)
    assert new.macs <= 0.7 * old.macs
    assert new.params <= 0.8 * old.params
    assert [block.kernel for block in after.blocks] == [block.kernel for block in before.blocks]
    assert [block.se is None for block in after.blocks] == [block.se is None for block in before.blocks]
    told = capsys.readouterr().out
    assert "before it was cut: " in told
    assert (
        se_nas.evaluate(tmp_path / "cut").top1 == read_record(SubnetResult, tmp_path / "cut/result.json").test_accuracy
    )
    assert call("retrain", "--from", tmp_path / "cut", "--epochs", 1, "--device", "cpu") == 0
    whole = prune(
        run / "retrain", {"macs": "100%"}, tmp_path / "all", data_dir=None, device=torch.device("cpu"), say=print
    )
    assert load_architecture(tmp_path / "all" / "architecture.json").network.blocks == before.blocks
    assert whole.accuracy_before is not None
    image = torch.randn(2, 3, 8, 8)
    networks = [load_trained(place).network for place in (run / "retrain", tmp_path / "all")]
    for network in networks:
        recalibrate(network, [torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))])
    with torch.no_grad():
        assert torch.allclose(networks[0](image), networks[1](image), atol=1e-4)
    limits = ("--keep", f"macs={0.8 * old.macs:.0f}", "--keep", "params=80%")
    assert call("prune", run / "retrain", *limits, "--out", tmp_path / "limits") == 0
    assert network_counts(load_architecture(tmp_path / "limits" / "architecture.json").network).macs <= 0.8 * old.macs
    for words, told in (
        (("macs=fast",), "macs: must be a share such as 70% or a limit such as 1.2M, but got 'fast'"),
        (("macs=170%",), "macs: must be a share above 0% and at most 100%, but got '170%'"),
        (("latency_ms=70%",), "must be on what is counted without running a network, macs, params"),
        (("macs=70%", "macs=50k"), "'macs': must be given once, but is given twice"),
    ):
        assert call("prune", run / "retrain", *(f"--keep={word}" for word in words), "--out", tmp_path / "no") == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert told in line


def test_what_is_no_search_or_says_too_much_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, told in (
        (("--from", tmp_path), "of a subnet or of a retraining, but is none of these"),
        ((run / "architecture.json", "--from", run), "ARCHITECTURE: must be left out"),
        (("--epochs", 1), "must be given, or --from and what is trained, but got neither"),
    ):
        assert call("retrain", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    lacking = shutil.copytree(run, tmp_path / "lacking", ignore=shutil.ignore_patterns("checkpoint.pt*", "subnet"))
    with pytest.raises(ConfigError, match="must be of a search that trained a supernet, but it has none"):
        make_subnet(lacking, (), tmp_path / "out", say=print)
    assert torch.is_tensor(load_trained(run / "subnet").network.stem.conv.weight)
