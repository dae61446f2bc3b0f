"""A search that starts from trained weights: what it takes, what it says of them, and what it refuses in one line."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from se_nas.errors import CheckpointError, ConfigError, SeNasError
from se_nas.layers.network import Network
from se_nas.records.checkpoint import load_checkpoint, save_checkpoint
from se_nas.records.models.certificate import SearchCertificate
from se_nas.records.models.starting_weights import StartingWeights, WeightsSource
from se_nas.records.record import read_record
from se_nas.runs.networks.starting_weights import trained_point
from se_nas.runs.run_file import load_run
from se_nas.runs.search import run_search
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.differentiable.search import DifferentiableConfig
from se_nas.search.starting import Start, StartingConfig
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from se_nas.supernet.calibration import recalibrate
from se_nas.supernet.supernet import SuperNet
from se_nas.training.trained_network import save_weights
from tests.helpers.tiny_runs import RUN, SPACE, cache_latency, changed, write_run

PICKS = {"stage1.depth": 1, "stage1.block1.kernel": 3, "stage2.block1.kernel": 5}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return parse_space({**SPACE, "classes": 10}, "tiny")


def architecture_without_se(space: SearchSpace) -> Any:
    picks = {choice.name: choice.options[0] for choice in space.choices}
    return space.architecture({**picks, **PICKS})


@pytest.fixture(scope="module")
def trained(space: SearchSpace) -> Network:
    """A network of the space without SE whose norms are told apart."""
    torch.manual_seed(7)
    network = Network(space.resolve(architecture_without_se(space)))
    for name, value in network.state_dict().items():
        if value.dim() == 1 and value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 1.5) if "var" in name or "weight" in name else torch.nn.init.normal_(
                value
            )
    return network.eval()


@pytest.fixture(scope="module")
def weights(trained: Network, space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retraining's folder."""
    folder = tmp_path_factory.mktemp("trained")
    save_architecture(folder / "architecture.json", ArchitectureFile.of(space, architecture_without_se(space)))
    save_weights(folder / "network.pt", trained, None)
    return folder / "network.pt"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("runs")
    write_run(home / "files")
    cache_latency(home / "cache", home / "files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        yield home


def search_from(home: Path, name: str, search: dict[str, Any]) -> Path:
    return write_run(home / name, changed(changed(RUN, "search", search), "retrain", None))


def check_start(folder: Path, said: list[str], trained: Network, space: SearchSpace) -> None:
    """The supernet began as the trained network, and record, certificate and page say whose weights it had."""
    record = read_record(StartingWeights, folder / "search" / "start.json")
    count = sum("num_batches" not in name for name in trained.state_dict())
    assert (record.taken, record.classifier, record.sorted) == (count, True, 0)
    assert any(line.startswith("weights: ") and f"{count} tensors" in line for line in said)
    assert "the supernet's weights move at a learning rate of at most 0.01" in said
    certificate = read_record(SearchCertificate, folder / "certificate.json")
    assert certificate.started_from == record.weights
    assert record.weights.digest in (folder / "report.html").read_text()
    start = Start.load(folder / "search", space)
    assert start is not None
    supernet = SuperNet(space).eval()
    start.put_into(supernet)
    image = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(supernet.activate(start.architecture)(image), trained(image), atol=1e-5)


def test_a_run_that_starts_from_a_retraining_is_killed_and_resumed_without_its_file_but_not_with_another(
    home: Path, weights: Path, trained: Network, space: SearchSpace, tmp_path: Path
) -> None:
    own = shutil.copytree(weights.parent, tmp_path / "own") / "network.pt"
    run_file = search_from(home, "resumed", {**RUN["search"], "weights": str(own)})
    folder, said = home / "resumed" / "out", []

    def kill(entry: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(run_file, load_run(run_file), folder, resume=False, progress=False, say=said.append, on_epoch=kill)
    state = load_checkpoint(own)["network"]
    save_checkpoint(own, {"network": {name: value * 2 for name, value in state.items()}, "average": None})
    with pytest.raises(ConfigError, match=r"search\.weights: .*must be the file of the run that --resume continues"):
        run_search(run_file, load_run(run_file), folder, resume=True, progress=False, say=said.append)
    shutil.rmtree(own.parent)
    run_search(run_file, load_run(run_file), folder, resume=True, progress=False, say=said.append)
    check_start(folder, said, trained, space)


@pytest.mark.slow
def test_the_supernet_of_an_optuna_driven_search_starts_from_a_retraining(
    home: Path, weights: Path, trained: Network, space: SearchSpace
) -> None:
    supernet = {"epochs": 1, "batch_size": 20, "calibration_images": 48}
    search = {"strategy": "optuna", "max_evaluations": 3, "supernet": supernet, "weights": str(weights)}
    run_file, said = search_from(home, "optuna", search), []
    folder = home / "optuna" / "out"
    run_search(run_file, load_run(run_file), folder, resume=False, progress=False, say=said.append)
    check_start(folder, said, trained, space)


def point_of(path: Path, space: SearchSpace, architecture: str | None = None) -> Start:
    point = trained_point(StartingConfig(strategy="any", weights=str(path), architecture=architecture), space)
    assert point is not None
    return Start(point.architecture, {name: point.network.state_dict()[name] for name in point.trained})


@pytest.fixture
def foreign(trained: Network, tmp_path: Path) -> dict[str, Tensor]:
    """Its state dict as another library might name it."""
    return {f"part{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(trained.state_dict().items())}


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def test_a_state_dict_of_other_names_is_the_one_network_of_the_space_that_has_its_shapes(
    trained: Network, foreign: dict[str, Tensor], space: SearchSpace, tmp_path: Path
) -> None:
    start = point_of(saved(tmp_path / "w.pt", foreign), space)
    assert start.architecture == architecture_without_se(space)
    assert torch.equal(start.weights["blocks.1.project.weight"], trained.state_dict()["blocks.1.project.weight"])


def with_part(place: str, value: Any) -> SearchSpace:
    return parse_space(changed({**SPACE, "classes": 10}, place, value), "other")


def test_larger_options_compute_what_the_network_computed(
    trained: Network, foreign: dict[str, Tensor], tmp_path: Path
) -> None:
    """Larger kernels and expansions, more blocks; and SE that has no say yet is one gate, which the norm behind takes
    up."""
    space = with_part("stages.1.expansion", [1, 2, 4])
    start = point_of(saved(tmp_path / "w.pt", foreign), space)
    supernet = SuperNet(space).eval()
    came = start.put_into(supernet)
    assert came.padded > 0
    assert came.opened > 0
    picks = start.architecture.as_dict()
    image = torch.randn(4, 3, 8, 8)
    expected = trained(image)
    for change in (
        {},
        {"stage1.block1.kernel": 5},
        {"stage2.block1.expansion": 4},
        {"stage1.depth": 2},
        {"stage1.depth": 2, "stage1.block2.se": "r2", "stage2.block1.expansion": 4},
    ):
        other = space.architecture({**picks, **change})
        assert torch.allclose(supernet.activate(other)(image), expected, atol=1e-5), change
    with_se = supernet.export(space.architecture({**picks, "stage1.block1.se": "r2", "stage2.block1.se": "r4"}))
    plain = supernet.export(start.architecture)
    for network in (with_se, plain):
        recalibrate(network, [torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))])
    one_gate = supernet.activate(space.architecture({**picks, "stage1.block1.se": "r2"}))(image)
    assert not torch.allclose(one_gate, expected, atol=1e-3)  # before the norms are recalibrated
    assert torch.allclose(with_se(image), plain(image), atol=1e-3)
    fewer = space.architecture({**picks, "stage2.block1.expansion": 1})
    assert not torch.allclose(supernet.activate(fewer)(image), expected, atol=1e-2)


def test_a_network_of_smaller_kernels_than_the_space_has_is_a_point_with_zeros_around_them(
    trained: Network, foreign: dict[str, Tensor], tmp_path: Path
) -> None:
    space = with_part("stages.0.kernel", [5, 7])
    start = point_of(saved(tmp_path / "w.pt", foreign), space)
    assert start.architecture["stage1.block1.kernel"] == 5
    supernet = SuperNet(space).eval()
    start.put_into(supernet)
    image = torch.randn(4, 3, 8, 8)
    assert torch.allclose(supernet.activate(start.architecture)(image), trained(image), atol=1e-5)


def test_weights_that_fit_several_networks_are_refused_until_the_architecture_is_named(tmp_path: Path) -> None:
    space = with_part("stages.1.se", {"options": [2, 4], "divisor": 4, "gate": ["sigmoid", "hard_sigmoid"]})
    picks = {choice.name: choice.options[0] for choice in space.choices}
    architecture = space.architecture({**picks, "stage2.block1.se_gate": "hard_sigmoid"})
    path = saved(tmp_path / "w.pt", Network(space.resolve(architecture)).state_dict())
    with pytest.raises(CheckpointError, match=r"they fit several, which differ in stage2\.block1\.se_gate: name it in"):
        point_of(path, space)
    file = save_architecture(tmp_path / "named.json", ArchitectureFile.of(space, architecture))
    assert point_of(path, space, str(file)).architecture == architecture


def test_a_classifier_for_other_classes_stays_random(foreign: dict[str, Tensor], tmp_path: Path) -> None:
    start = point_of(saved(tmp_path / "w.pt", foreign), parse_space({**SPACE, "classes": 4}, "other"))
    assert not [name for name in start.weights if name.startswith("head.classifier")]


def _another(state: dict[str, Tensor]) -> Any:
    return dict(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)).state_dict())


def _half(state: dict[str, Tensor]) -> Any:
    return dict(list(state.items())[: len(state) // 2])


def _with_nan(state: dict[str, Tensor]) -> Any:
    name = next(name for name, value in state.items() if value.dim() == 4)
    return {**state, name: torch.full_like(state[name], float("nan"))}


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            _another,
            "must be those of a network of space tiny, but have 0.bias of shape (8,) where none of these has one",
        ),
        (_half, "must be those of a network of space tiny, but end after part"),
        (_with_nan, "must be finite numbers, but some of part"),
        (lambda state: {"state_dict": {}}, "must hold the state dict of a network"),
        (lambda state: _Evil(), "must hold tensors and plain values, but got UnpicklingError"),
    ],
)
def test_weights_that_cannot_be_taken_are_one_line(
    damage: Any, words: str, foreign: dict[str, Tensor], space: SearchSpace, tmp_path: Path
) -> None:
    with pytest.raises(SeNasError) as caught:
        point_of(saved(tmp_path / "w.pt", damage(foreign)), space)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith("search.weights: ")


def test_a_pickle_and_a_file_that_is_not_there_are_one_line(space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(CheckpointError, match="must hold tensors and plain values, but got"):
        point_of(path, space)
    with pytest.raises(CheckpointError, match="must be readable, but got: No such file"):
        point_of(tmp_path / "none.pt", space)


def test_weights_of_timm_are_paired_by_what_its_layers_do(tmp_path: Path) -> None:
    from se_nas.layers.from_model.pretrained import timm_model
    from se_nas.layers.from_model.space import space_of

    torch.manual_seed(0)
    model = timm_model("resnet10t", "test", pretrained=False, classes=10)
    space = space_of(model, resolution=32, se=["none", 8]).space
    start = point_of(saved(tmp_path / "w.pt", model.state_dict()), space, "timm:resnet10t")
    supernet = SuperNet(space).eval()
    start.put_into(supernet)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(supernet.activate(start.architecture)(image), model(image), atol=1e-5)
    with pytest.raises(ConfigError, match="must be a timm model, but got 'resnet10x'; did you mean"):
        point_of(tmp_path / "w.pt", space, "timm:resnet10x")
    with pytest.raises(CheckpointError, match=r"must be of this architecture, with .* but got"):
        point_of(tmp_path / "w.pt", space, "timm:resnet18")


def test_weights_that_timm_downloads_come_from_the_hubs_cache_and_their_lack_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By timm's and the hub's own code: the cache in its layout stands for the download."""
    from huggingface_hub import constants
    from safetensors.torch import save_file

    from se_nas.layers.from_model.pretrained import timm_model
    from se_nas.layers.from_model.space import space_of
    from se_nas.records.checkpoint import weights_digest

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    torch.manual_seed(0)
    model: Any = timm_model("test_resnet", "test", pretrained=False)
    for name, value in model.state_dict().items():
        if "running" in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    space = space_of(model, resolution=32, se=["none", 8]).space
    config = StartingConfig(strategy="any", weights="timm:test_resnet")
    repository, commit = tmp_path / f"models--timm--test_resnet.{model.pretrained_cfg['tag']}", 40 * "a"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    file = repository / "snapshots" / commit / "model.safetensors"
    file.parent.mkdir(parents=True)
    for content in (None, b"not weights"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            trained_point(config, space)
        (line,) = str(caught.value).splitlines()
        must = "timm's weights of test_resnet must be on this machine, or within reach of it, but got "
        assert line.startswith(f"search.weights: {must}")
        assert len(line) < 400
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    point = trained_point(config, space)
    assert point is not None
    assert point.source == WeightsSource(
        source="timm:test_resnet", digest=weights_digest(model.state_dict())[:16], licence="apache-2.0"
    )
    start = point_of(Path("timm:test_resnet"), space)
    supernet = SuperNet(space).eval()
    start.put_into(supernet)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(supernet.activate(start.architecture)(image), model(image), atol=1e-5)


def test_the_supernets_rate_is_a_tenth_unless_one_is_said() -> None:
    rates = [DifferentiableConfig(**more).weight_rate for more in ({}, {"weights": "w"})]
    assert rates == [0.1, 0.01]
    assert DifferentiableConfig(weights="w", learning_rate=0.3).weight_rate == 0.3
    inner = [OptunaConfig(supernet=more, weights="w").weight_rate for more in ({"epochs": 3}, {"learning_rate": 0.2})]
    assert inner == [0.01, 0.2]
    assert OptunaConfig().weight_rate == 0.1
    again = OptunaConfig.model_validate(OptunaConfig(weights="w").model_dump())  # as a run's folder holds it
    assert again == OptunaConfig(weights="w")


def test_keys_that_have_no_use_are_refused() -> None:
    with pytest.raises(ValueError, match="architecture must be left out without weights"):
        DifferentiableConfig(architecture="a.json")
    with pytest.raises(ConfigError, match="weights must be left out with evaluator stand_alone, which trains no"):
        load_run_with({"strategy": "optuna", "evaluator": "stand_alone", "weights": "w.pt"})


def load_run_with(search: dict[str, Any]) -> Any:
    from se_nas.runs.run_file import parse_run

    return parse_run({**RUN, "search": search}, "run")


def test_where_resolution_is_a_choice_a_network_is_a_point_at_its_own(
    trained: Network, foreign: dict[str, Tensor], weights: Path, tmp_path: Path
) -> None:
    space = with_part("resolution", [8, 16])
    assert point_of(weights, space).architecture["resolution"] == 8
    start = point_of(saved(tmp_path / "w.pt", foreign), space)
    assert start.architecture["resolution"] == 16  # of which shapes say nothing
    supernet = SuperNet(space).eval()
    start.put_into(supernet)
    image = torch.randn(4, 3, 8, 8)
    assert torch.allclose(supernet.activate(start.architecture)(image), trained(image), atol=1e-5)
