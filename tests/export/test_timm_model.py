"""The network as a timm model: it is the same network, and it keeps what timm's own tests ask of every model."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor, nn

from se_nas.data.on_disk.transforms import EvalTransform
from se_nas.errors import ArchitectureError, CheckpointError, ConfigError
from se_nas.export import timm_folder
from se_nas.export.record import Normalisation
from se_nas.layers.torchvision_guard import import_timm
from se_nas.records.checkpoint import save_checkpoint
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import load_space, parse_space
from se_nas.training.trained_network import DataCard
from tests.export.trained import trained
from tests.helpers.strategies import spaces_with_architectures

timm = import_timm()
#: Which does not note by itself what a model is built from.
OLD_TIMM = not hasattr(timm.models, "get_model_args")
BASELINES = Path(__file__).resolve().parents[2] / "search_spaces" / "baselines"

_SE = {"options": [4], "ratio_of": "expanded"}
_MOBILE: dict[str, Any] = {
    "name": "mobile",
    "resolution": 64,
    "channels": 3,
    "classes": 6,
    "channel_divisor": 4,
    "stem": {"width": 8, "stride": 2, "activation": "hard_swish"},
    "stages": [
        {"width": 8, "kernel": 3, "expansion": 1},
        {"width": 12, "stride": 2, "depth": 2, "kernel": 3, "expansion": 2, "se": _SE},
        {"width": 16, "stride": 2, "kernel": 5, "expansion": 2, "se": {**_SE, "position": "standard"}},
        {"width": 20, "stride": 2, "kernel": 3, "expansion": 2, "activation": "hard_swish"},
        {"width": 20, "depth": 2, "kernel": 3, "expansion": 2, "se": _SE},
        {"width": 24, "stride": 2, "kernel": 3, "expansion": 2, "se": _SE},
    ],
    "head": {"width": 32, "hidden": 40, "activation": "hard_swish", "dropout": 0.2},
}
_RESIDUAL: dict[str, Any] = {
    "name": "residual",
    "resolution": 64,
    "channels": 3,
    "classes": 6,
    "stem": {"width": 8, "kernel": 7, "stride": 2, "pool": True},
    "stages": [
        {"width": width, "stride": stride, "blocks": [{"kind": "bottleneck", "expansion": 0.5, "se": _SE}]}
        for width, stride in ((16, 1), (24, 2), (32, 2), (40, 2))
    ],
    "head": {"width": 0, "hidden": 0},
}


def only(space: SearchSpace) -> ArchitectureFile:
    (architecture,) = space.enumerate()
    return ArchitectureFile.of(space, architecture)


MOBILE = only(parse_space(_MOBILE, "mobile"))
RESIDUAL = only(parse_space(_RESIDUAL, "residual"))
BOTH = pytest.mark.parametrize("spec", [MOBILE.network, RESIDUAL.network], ids=["mobile", "residual"])


def create(spec: object, **options: Any) -> Any:
    return timm.create_model("se_nas", architecture=spec, **options)


def images(spec: NetworkSpec, batch: int = 2) -> Tensor:
    return torch.randn(batch, spec.in_channels, spec.resolution, spec.resolution)


def close(found: Tensor, expected: Tensor, bar: float = 1e-5) -> bool:
    return found.shape == expected.shape and float((found - expected).abs().max()) <= bar * float(expected.abs().max())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    timm_folder.write_timm_folder(trained(MOBILE.network), MOBILE, tmp_path / "timm", DARK)
    return tmp_path / "timm"


# It is the network


@settings(max_examples=15)
@given(spaces_with_architectures())
def test_it_is_the_network(drawn: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = drawn
    spec = space.resolve(architecture)
    network = trained(spec).eval()
    model = create(spec).eval()
    assert list(model.state_dict()) == list(network.state_dict())
    model.load_state_dict(network.state_dict())
    x = images(spec)
    with torch.no_grad():
        expected = network(x)
        assume(expected.isfinite().all())  # a deep one without norms may overflow
        assert close(model(x), expected)


@BOTH
def test_it_trains_as_the_network_does(spec: NetworkSpec) -> None:
    network = trained(spec)
    model = create(spec, drop_rate=0.0, drop_path_rate=0.0)
    model.load_state_dict(network.state_dict())
    network.set_dropout(0.0)
    x = images(spec)
    for each in (network, model):
        each(x).square().sum().backward()
    for (name, parameter), other in zip(model.named_parameters(), network.parameters(), strict=True):
        assert close(parameter.grad, other.grad, 1e-4), name


def test_drop_rates_are_the_network_s_own() -> None:
    assert create(MOBILE.network).head.dropout.p == 0.2
    model = create(MOBILE.network, drop_rate=0.5, drop_path_rate=0.4)
    assert model.head.dropout.p == 0.5
    assert [block.drop_path.rate for block in model.blocks if hasattr(block, "drop_path")] == pytest.approx(
        [0.0, 0.4 * 2 / 8, 0.4 * 5 / 8, 0.4 * 6 / 8]
    )
    features = create(MOBILE.network, features_only=True, drop_rate=0.5, drop_path_rate=0.4)
    assert features.blocks[6].drop_path.rate == pytest.approx(0.4 * 6 / 8)


# What timm's tests of every model ask (tests/test_models.py of its repository)


@BOTH
def test_every_parameter_has_a_gradient(spec: NetworkSpec) -> None:
    model = create(spec, num_classes=42)
    logits = model(images(spec))
    logits.mean().backward()
    assert logits.shape == (2, 42)
    assert logits.isfinite().all()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@BOTH
def test_default_cfg_and_classifiers(spec: NetworkSpec) -> None:
    model = create(spec).eval()
    names = model.state_dict().keys()
    cfg = model.default_cfg
    assert timm.is_model("se_nas")
    assert timm.models.get_pretrained_cfg_value("se_nas", "first_conv") == cfg["first_conv"]
    assert cfg is model.pretrained_cfg
    assert cfg["architecture"] == "se_nas"
    assert cfg["input_size"] == (3, 64, 64)
    assert cfg["num_classes"] == model.num_classes == 6
    assert cfg["classifier"] + ".weight" in names
    assert cfg["first_conv"] + ".weight" in names
    assert timm.models.get_model_input_config(model)["input_size"] == (3, 64, 64)
    assert timm.data.resolve_data_config(model=model)["mean"] == timm.data.IMAGENET_DEFAULT_MEAN
    x = images(spec, 1)
    with torch.no_grad():
        logits = model(x)
        features = model.forward_features(x)
        assert features.shape == (1, model.num_features, *cfg["pool_size"])
        assert torch.equal(model.forward_head(features), logits)
        before = model.forward_head(features, pre_logits=True)
        assert before.shape == (1, model.head_hidden_size)
        assert torch.equal(model.get_classifier()(before), logits)
        model.reset_classifier(0)
        assert torch.equal(model(x), before)
        assert isinstance(model.get_classifier(), nn.Identity)
        model.reset_classifier(0, "")
        assert model(x).shape == (1, model.head_hidden_size, *cfg["pool_size"])
        assert close(model(x).mean((2, 3)), before) == (not spec.head.hidden)  # not linear after the pooling
        model.reset_classifier(7, "max")
        assert model(x).shape == (1, 7)
        assert model.num_classes == 7
        without = create(spec, num_classes=0, global_pool="").eval()
        assert without(x).shape == (1, without.head_hidden_size, *cfg["pool_size"])
        assert create(spec, num_classes=0).eval()(x).shape == (1, without.head_hidden_size)


def test_a_pooling_that_joins_two_doubles_the_classifier_s_inputs() -> None:
    model = create(RESIDUAL.network, global_pool="catavgmax")
    assert model.get_classifier().in_features == model.head_hidden_size == 80
    assert model(images(RESIDUAL.network)).shape == (2, 6)
    with pytest.raises(ConfigError, match="must keep the 32 inputs of the hidden layer, but got catavgmax"):
        create(MOBILE.network, global_pool="catavgmax")
    with pytest.raises(ConfigError, match=r"global_pool: must be one of 'avg', .* but got 'mean'"):
        create(MOBILE.network, global_pool="mean")
    with pytest.raises(ConfigError, match="global_pool: must be given for a classifier of 6 classes"):
        create(MOBILE.network, global_pool="")


@BOTH
def test_intermediate_maps_are_those_of_feature_info(spec: NetworkSpec) -> None:
    model = create(spec).eval()
    info = timm.models.FeatureInfo(model.feature_info, len(model.feature_info))
    assert info.reduction() == [2, 4, 8, 16, 32]
    layers = dict(model.named_modules())
    seen: dict[str, Tensor] = {}
    for name in info.module_name():
        layers[name].register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    x = images(spec)
    with torch.no_grad():
        last, maps = model.forward_intermediates(x)
        assert torch.equal(last, model.forward_features(x))
        for found, channels, reduction, name in zip(
            maps, info.channels(), info.reduction(), info.module_name(), strict=True
        ):
            assert found.shape == (2, channels, 64 // reduction, 64 // reduction)
            assert torch.equal(found, seen[name])
        model.blocks[-1].register_forward_hook(lambda *_: pytest.fail("ran a block that no map needs"))
        (third,) = model.forward_intermediates(x, indices=[2], stop_early=True, intermediates_only=True)
    assert torch.equal(third, maps[2])
    with pytest.raises(ConfigError, match="output_fmt: must be NCHW, but got NHWC"):
        model.forward_intermediates(x, output_fmt="NHWC")


@BOTH
def test_a_pyramid_has_the_network_s_maps(spec: NetworkSpec) -> None:
    network = trained(spec).eval()
    whole = create(spec).eval()
    whole.load_state_dict(network.state_dict())
    features = create(spec, features_only=True).eval()
    features.load_state_dict(network.state_dict())
    x = images(spec)
    with torch.no_grad():
        expected = whole.forward_intermediates(x, intermediates_only=True)
        found = features(x)
    assert features.feature_info.channels() == [map.shape[1] for map in found]
    assert features.feature_info.reduction() == [2, 4, 8, 16, 32]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert "classifier" not in features.default_cfg
    assert features.default_cfg["input_size"] == (3, 64, 64)


def test_a_part_of_a_pyramid() -> None:
    spec = MOBILE.network
    features = create(spec, features_only=True, out_indices=(1, 3))
    assert features.feature_info.channels() == [12, 20]
    assert len(features.blocks) == 7
    maps = features(images(spec))
    assert [map.shape[2] for map in maps] == [16, 4]
    sum(map.mean() for map in maps).backward()
    assert all(parameter.grad is not None for parameter in features.parameters())
    assert create(spec, features_only=True, out_indices=2).feature_info.reduction() == [16, 32]
    assert create(spec, features_only=True, out_indices=[-1]).feature_info.channels() == [24]
    for wrong in ((1, 5), 6, ()):
        with pytest.raises(ConfigError, match="out_indices: must be of the 5 maps, of reductions 2, 4, 8, 16, 32"):
            create(spec, features_only=True, out_indices=wrong)


@pytest.mark.parametrize("kind", ["getter", "hook", "fx"])
def test_timm_s_own_extractors_find_the_same_maps(kind: str) -> None:
    spec = MOBILE.network
    network = trained(spec)
    features = create(spec, features_only=True, out_indices=(2, 4)).eval()
    features.load_state_dict(network.state_dict())
    given = {"state_dict": dict(network.state_dict())}
    theirs = create(
        spec,
        features_only=True,
        out_indices=(2, 4),
        feature_cls=kind,
        pretrained=True,
        pretrained_cfg_overlay=given,
    ).eval()
    x = images(spec)
    with torch.no_grad():
        for one, other in zip(theirs(x), features(x), strict=True):
            assert close(one, other)


@BOTH
@pytest.mark.parametrize(("wanted", "numbers"), [([0], [0]), ([-4, 2], [1, 2]), (1, [4])])
def test_layers_that_no_map_needs_can_be_left_out(
    spec: NetworkSpec, wanted: int | list[int], numbers: list[int]
) -> None:
    model = create(spec).eval()
    x = images(spec)
    with torch.no_grad():
        whole = model.forward_intermediates(x, intermediates_only=True)
        assert model.prune_intermediate_layers(wanted) == numbers
        last, maps = model.forward_intermediates(x)
    assert isinstance(maps, list)
    assert len(maps) == len(model.feature_info) == numbers[-1] + 1
    assert all(torch.equal(one, other) for one, other in zip(maps, whole, strict=False))
    assert torch.equal(last, whole[numbers[-1]])
    assert last.shape[1] == model.num_features == model.spec.head.in_channels
    assert last.shape[2] == model.spec.head.resolution
    assert torch.equal(model(x), last)
    model.reset_classifier(3, "avg")
    model.train()(x).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    with pytest.raises(ConfigError, match="out_indices: must be of the"):
        model.prune_intermediate_layers([numbers[-1] + 1])


def test_the_head_can_stay_with_the_last_map() -> None:
    model = create(MOBILE.network).eval()
    names = list(model.state_dict())
    assert model.prune_intermediate_layers([1, 4], prune_head=False) == [1, 4]
    assert list(model.state_dict()) == names
    assert model(images(MOBILE.network)).shape == (2, 6)
    getter = create(MOBILE.network, features_only=True, out_indices=(-4,), feature_cls="getter")
    assert [name for name, _ in getter.named_children()] == ["model"]
    assert len(getter.model.blocks) == 3
    assert [map.shape[2] for map in getter(images(MOBILE.network))] == [16]


@pytest.mark.parametrize("name", ["efficientnet_b0", "mnasnet_a1", "resnet50", "se_resnet50"])
def test_published_networks_have_timm_s_pyramids(name: str) -> None:
    spec = only(load_space(BASELINES / f"{name}.yaml")).network
    theirs = {"mnasnet_a1": "semnasnet_100", "se_resnet50": "seresnet50"}.get(name, name)
    with torch.device("meta"):
        expected = timm.create_model(theirs, features_only=True).feature_info
        found = create(spec, features_only=True).feature_info
    assert found.channels() == expected.channels()
    assert found.reduction() == expected.reduction()


@BOTH
def test_checkpointing_gives_the_same_gradients(spec: NetworkSpec) -> None:
    x = images(spec)
    for options in ({"drop_rate": 0.0}, {"features_only": True}):
        model = create(spec, **options)
        gradients = []
        for enable in (False, True):
            model.set_grad_checkpointing(enable)
            model.zero_grad()
            found = model(x)
            sum(map.square().mean() for map in (found if isinstance(found, list) else [found])).backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        for one, other in zip(*gradients, strict=True):
            assert close(one, other)


def test_groups_of_layers() -> None:
    model = create(MOBILE.network)
    fine = timm.models.group_parameters(model, model.group_matcher())
    assert [names[0].rpartition(".")[0].split(".")[:2] for names in fine.values()] == [
        ["stem", "conv"],
        *(["blocks", str(index)] for index in range(8)),
        ["head", "conv"],
    ]
    coarse = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    assert [sorted({name.split(".")[1] for name in names}) for names in list(coarse.values())[1:-1]] == [
        ["0"],
        ["1", "2"],
        ["3"],
        ["4", "5", "6"],
        ["7"],
    ]
    every = sorted(name for name, _ in model.named_parameters())
    for groups in (fine, coarse):
        assert sorted(name for names in groups.values() for name in names) == every


def test_timm_s_optimizer_spares_norms_and_biases() -> None:
    model = create(MOBILE.network)
    optimizer = import_module("timm.optim").create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=0.1)
    free = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    assert {name for name, p in model.named_parameters() if id(p) in free} == {
        name for name, p in model.named_parameters() if p.ndim == 1
    }


def test_device_and_type() -> None:
    model = create(MOBILE.network, dtype=torch.float64)
    model.reset_classifier(9)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert create(MOBILE.network, device="meta").get_classifier().weight.device.type == "meta"


# Files


def test_a_folder_is_a_model(folder: Path, tmp_path: Path) -> None:
    spec, x = MOBILE.network, images(MOBILE.network)
    network = trained(spec).eval()
    assert sorted(path.name for path in folder.iterdir()) == ["architecture.json", "config.json", "weights.pth"]
    by_name = create(folder / "architecture.json", checkpoint_path=str(folder / "weights.pth")).eval()
    by_folder = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        for model in (timm_folder.load_timm_folder(folder), by_name, by_folder):
            assert close(model(x), network(x))
        features = create(
            str(folder / "architecture.json"),
            checkpoint_path=folder / "weights.pth",
            features_only=True,
            out_indices=[3],
        ).eval()
        assert torch.equal(features(x)[0], by_name.forward_intermediates(x, [3], intermediates_only=True)[0])
        gray = timm.create_model(f"local-dir:{folder}", pretrained=True, in_chans=1, num_classes=4).eval()
        features = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True).eval()
        # timm adds up the filters of the colours
        assert close(gray.forward_features(x[:, :1]), by_name.forward_features(x[:, :1].expand(-1, 3, -1, -1)))
        assert len(features(x)) == 5
    assert gray(x[:, :1]).shape == (2, 4)


def test_the_trained_network_s_own_specification_is_written(tmp_path: Path) -> None:
    """The file that a search left may describe a smaller network than the one that was trained."""
    timm_folder.write_timm_folder(trained(RESIDUAL.network), MOBILE, tmp_path, DARK)
    assert timm_folder.load_timm_folder(tmp_path)(images(RESIDUAL.network)).shape == (2, 6)
    assert json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["mean"] == [0.1, 0.2, 0.3]


DARK = Normalisation(
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    resolution=64,
    crop=0.9,
    interpolation="bilinear",
    class_names=("ash", "b", "c", "d", "e", "\u706b"),
)


def assert_dark(model: Any) -> None:
    found = timm.data.resolve_model_data_config(model)
    assert (tuple(found["mean"]), tuple(found["std"])) == (DARK.mean, DARK.std)
    assert (tuple(found["input_size"]), found["crop_pct"], found["interpolation"]) == ((3, 64, 64), 0.9, "bilinear")
    assert tuple(model.pretrained_cfg["label_names"]) == DARK.class_names


def test_every_way_into_timm_says_what_the_images_went_through(tmp_path: Path) -> None:
    folder = tmp_path / "timm"
    timm_folder.write_timm_folder(trained(MOBILE.network), MOBILE, folder, DARK)
    paths = {"architecture": str(folder / "architecture.json"), "checkpoint_path": str(folder / "weights.pth")}
    assert_dark(timm.create_model("se_nas", **paths))
    assert_dark(timm.create_model("se_nas", **paths, features_only=True))
    assert_dark(timm.create_model(f"local-dir:{folder}", pretrained=True))
    assert timm.create_model("se_nas", **paths, pretrained_cfg={"crop_pct": 1.0}).pretrained_cfg["crop_pct"] == 1.0


def test_the_folder_of_a_retraining_says_what_its_images_went_through(tmp_path: Path) -> None:
    save_architecture(tmp_path / "architecture.json", MOBILE)
    assert DARK.class_names is not None
    tested = EvalTransform(64, 0.9, "bilinear")
    DataCard.of("mine", DARK.class_names, DARK.mean, DARK.std, tested).save(tmp_path)
    assert_dark(create(str(tmp_path / "architecture.json")))


def test_where_nothing_says_what_images_went_through_a_line_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_architecture(tmp_path / "architecture.json", MOBILE)
    with caplog.at_level(logging.WARNING):
        model = create(tmp_path / "architecture.json")
    assert model.pretrained_cfg["input_size"] == (3, 64, 64)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"nothing beside {tmp_path / 'architecture.json'} says what its images went through")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_model_saved_for_the_hub_loads_in_another_folder(tmp_path: Path, kind: Callable[[Path], object]) -> None:
    pytest.importorskip("huggingface_hub")
    folder, saved, moved = tmp_path / "timm", tmp_path / "saved", tmp_path / "moved"
    timm_folder.write_timm_folder(trained(MOBILE.network), MOBILE, folder, DARK)
    model = create(kind(folder / "architecture.json"), checkpoint_path=str(folder / "weights.pth")).eval()
    timm.models.save_for_hf(model, saved, model_args={"architecture": model.spec.to_dict()} if OLD_TIMM else None)
    assert str(tmp_path) not in (saved / "config.json").read_text()
    shutil.rmtree(folder)
    saved.rename(moved)
    again = timm.create_model(f"local-dir:{moved}", pretrained=True).eval()
    x = images(MOBILE.network)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert_dark(again)


def test_other_classes_keep_their_own_classifier(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"checkpoint_path": folder / "weights.pth"}
    with caplog.at_level(logging.WARNING):
        model = create(folder / "architecture.json", num_classes=9, **options)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == ("the weights are of a classifier of 6 classes; that of 9 classes is left as it was initialised")
    network = trained(MOBILE.network)
    for name, value in network.state_dict().items():
        assert torch.equal(model.state_dict()[name], value) != name.startswith("head.classifier")
    assert float(model.get_classifier().weight.detach().std()) == pytest.approx(0.01, rel=0.2)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        create(folder / "architecture.json", num_classes=0, **options)
    assert caplog.records == []


def test_a_classifier_without_bias_stays_one_of_other_classes(tmp_path: Path) -> None:
    spec = replace(MOBILE.network, head=replace(MOBILE.network.head, hidden_bias=False, classifier_bias=False))
    network = trained(spec).eval()
    model = create(spec).eval()
    model.load_state_dict(network.state_dict())
    x = images(spec)
    with torch.no_grad():
        assert close(model(x), network(x))
    other = create(spec, num_classes=9)
    other.load_state_dict(network.state_dict())
    assert [name for name in other.state_dict() if name.startswith("head.classifier")] == ["head.classifier.weight"]
    assert other(x).shape == (2, 9)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("options", [{}, {"features_only": True}])
def test_weights_of_a_retraining(averaged: bool, options: dict[str, Any], tmp_path: Path) -> None:
    network, average = trained(MOBILE.network, 0), trained(MOBILE.network, 1)
    state = {"network": network.state_dict(), "average": average.state_dict() if averaged else None, "epoch": 3}
    save_checkpoint(tmp_path / "network.pt", state)
    save_architecture(tmp_path / "architecture.json", MOBILE)
    model = create(tmp_path / "architecture.json", checkpoint_path=tmp_path / "network.pt", **options)
    expected = (average if averaged else network).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    by_cfg = create(MOBILE.network, pretrained=True, pretrained_cfg={"file": str(tmp_path / "network.pt")}, **options)
    assert all(torch.equal(value, expected[name]) for name, value in by_cfg.state_dict().items())


def _lacking(state: dict[str, Tensor]) -> None:
    del state["blocks.1.project.weight"]


def _foreign(state: dict[str, Tensor]) -> None:
    state["blocks.1.project.bias"] = torch.zeros(12)


def _misshapen(state: dict[str, Tensor]) -> None:
    state["blocks.1.project.weight"] = torch.zeros(12, 8, 1, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_lacking, r"with blocks\.1\.project\.weight of shape \(12, 16, 1, 1\), but got nothing"),
        (_foreign, r"which has no blocks\.1\.project\.bias"),
        (_misshapen, r"of shape \(12, 16, 1, 1\), but got \(12, 8, 1, 1\)"),
    ],
)
def test_other_weights_are_refused(spoil: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path) -> None:
    state = trained(MOBILE.network).state_dict()
    spoil(state)
    torch.save(state, tmp_path / "weights.pth")
    for options in ({}, {"features_only": True}):
        with pytest.raises(CheckpointError, match=message) as caught:
            create(MOBILE.network, checkpoint_path=tmp_path / "weights.pth", **options)
        assert "\n" not in str(caught.value)


def test_weights_for_other_channels_are_refused_as_a_file_and_adapted_as_pretrained(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"stem\.conv\.weight of shape \(8, 1, 3, 3\), but got \(8, 3, 3, 3\)"):
        create(folder / "architecture.json", checkpoint_path=folder / "weights.pth", in_chans=1)
    weights = {"file": str(folder / "weights.pth")}
    model = create(folder / "architecture.json", pretrained=True, pretrained_cfg=weights, in_chans=1)
    expected = trained(MOBILE.network).state_dict()["stem.conv.weight"].sum(1, keepdim=True)
    assert close(model.state_dict()["stem.conv.weight"], expected)


def test_a_checkpoint_of_a_loop_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", {"run": {}, "position": {}, "parts": {}})
    with pytest.raises(CheckpointError, match="weights of a network, but holds run, position, parts"):
        create(MOBILE.network, checkpoint_path=tmp_path / "checkpoint.pt")


def test_an_architecture_must_be_given(tmp_path: Path) -> None:
    for wrong in (None, 3):
        with pytest.raises(ArchitectureError, match=f"must be given architecture=.*, but got {wrong}"):
            create(wrong)
    with pytest.raises(ArchitectureError, match=r"there\.json: file: must be readable"):
        create(tmp_path / "there.json")
    broken = MOBILE.network.to_dict()
    broken["stem"]["kernel"] = "wide"
    with pytest.raises(ArchitectureError, match=r"architecture: stem\.kernel: .*, but got 'wide'"):
        create(broken)


def test_a_head_that_reads_every_position_has_one_pooling_and_its_stem_s_maps_are_features() -> None:
    data = {
        "name": "flat",
        "resolution": 16,
        "classes": 5,
        "stem": {"width": 8, "stride": 2, "then": [{"width": 8, "pool": "ceil", "norm": False}]},
        "stages": [{"width": 8, "stride": 2, "blocks": [{"kind": "conv"}]}],
        "head": {"max_pool": True, "flatten": True, "hidden": 6, "hidden_layers": 2},
    }
    spec = only(parse_space(data, "flat")).network
    with pytest.raises(ConfigError, match="global_pool: must be avg, as the head reads every position, but got 'max'"):
        create(spec, global_pool="max")
    levels = [(level["module"], level["reduction"]) for level in create(spec).feature_info]
    assert levels == [("stem.activation2", 2), ("stem.pool2", 4), ("blocks.0", 8)]
    maps = create(spec, features_only=True)(torch.randn(1, 3, 16, 16))
    assert [tuple(x.shape) for x in maps] == [(1, 8, 8, 8), (1, 8, 4, 4), (1, 8, 2, 2)]
