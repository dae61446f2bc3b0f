"""The trained network that a run file names for its search to start from, as a point of the run's space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from se_nas.data.in_memory.images import DataInfo
from se_nas.errors import CheckpointError, ConfigError, ModelError
from se_nas.layers.from_model.pretrained import licence_of, timm_model
from se_nas.layers.from_model.space import space_of
from se_nas.layers.network import Network
from se_nas.layers.pairing import CLASSIFIER, StateDictInOrder, paired_by_order, with_zeros_around
from se_nas.records.checkpoint import check_finite, weights_digest
from se_nas.records.files import beside
from se_nas.records.models.starting_weights import StartingWeights, WeightsSource
from se_nas.records.shipped import find_space
from se_nas.runs.networks.open_architecture import open_architecture
from se_nas.search.starting import StartingConfig, TrainedPoint
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import load_architecture
from se_nas.space.points.finding import points
from se_nas.space.points.given import Given, KnownNetwork
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.training.initial_weights import read_state_dict
from se_nas.training.trained_network import ARCHITECTURE, DataCard, check_fit

TIMM = "timm:"
#: What an error names that is of these keys of a run file.
_WEIGHTS, _ARCHITECTURE = "search.weights", "search.architecture"


def with_whole_paths(run_file: Path, config: StartingConfig) -> StartingConfig:
    """The configuration with whole paths, so that it can be read from the run's folder too."""
    changes = {}
    if config.weights is not None and not config.weights.startswith(TIMM):
        changes["weights"] = str(beside(run_file, config.weights).resolve())
    if config.architecture is not None and not config.architecture.startswith(TIMM):
        changes["architecture"] = str(_architecture_file(run_file, config.architecture).resolve())
    return config.model_copy(update=changes)


def _architecture_file(run_file: Path, word: str) -> Path:
    path = beside(run_file, word)
    if path.is_dir():
        return path / ARCHITECTURE
    return path if path.suffix == ".json" else find_space(word, run_file.parent)


def trained_point(config: StartingConfig, space: SearchSpace) -> TrainedPoint | None:
    """The network whose weights a search is to start from; None where they are to be random.

    Raises:
        SeNasError: the weights cannot be read, or are of no network of the space, or of several.
    """
    if config.weights is None:
        return None
    try:
        return _point(config.weights, config.architecture, space)
    except CheckpointError as error:
        raise CheckpointError(f"{_WEIGHTS}: {error}") from error


def check_same_file(config: StartingConfig, record: StartingWeights | None) -> None:
    """Raise ConfigError where the file that a run began with is there and another now."""
    if record is None or config.weights is None or config.weights.startswith(TIMM):
        return
    path = Path(config.weights)
    if path.is_file() and read_state_dict(path).digest != record.weights.digest:
        must = f"must be the file of the run that --resume continues, with SHA-256 {record.weights.digest}..."
        raise ConfigError(_WEIGHTS, [f"{path}: {must}, but it is another"])


def other_images(config: StartingConfig, info: DataInfo) -> list[str]:
    """In what the images of a retraining whose weights are taken differ from those of the run: a line for each."""
    card = None if config.weights is None else DataCard.load(Path(config.weights).parent)
    if card is None:
        return []
    before = f"weights: {config.weights} was trained on {card.name}"
    lines = []
    if (card.mean, card.std) != (tuple(info.mean), tuple(info.std)):
        lines.append(f"{before}, normalised by another mean and deviation than {info.name} here")
    if card.classes != tuple(info.class_names):
        lines.append(f"{before}, whose classes are others than those of {info.name}, or in another order")
    return lines


def _point(weights: str, architecture: str | None, space: SearchSpace) -> TrainedPoint:
    if weights.startswith(TIMM):
        if architecture is not None:
            raise ConfigError(_ARCHITECTURE, [f"must be left out where the weights are {weights}, but is given"])
        name = weights.removeprefix(TIMM)
        model = timm_model(name, f"{_WEIGHTS}: {weights}", pretrained=True)
        source = WeightsSource(
            source=weights, digest=weights_digest(model.state_dict())[:16], licence=licence_of(model)
        )
        return _of_model(model, source, space)
    path = Path(weights)
    state, digest, _ = read_state_dict(path)
    source = WeightsSource(source=f"{path.parent.name}/{path.name}", digest=digest)
    try:
        check_finite(state)
        if architecture is not None and architecture.startswith(TIMM):
            model = timm_model(
                architecture.removeprefix(TIMM), _ARCHITECTURE, pretrained=False, classes=len(list(state.values())[-1])
            )
            held = model.state_dict()
            counts = {name: value for name, value in held.items() if name.endswith("num_batches_tracked")}
            check_fit({**counts, **state}, held)
            model.load_state_dict({**counts, **state})
            return _of_model(model, source, space)
        spec = _spec_of(path, architecture, state)
        if spec is not None:
            return _of_spec(spec, state, source, space)
        return _in_order(state, source, space)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _spec_of(path: Path, architecture: str | None, state: Mapping[str, Tensor]) -> NetworkSpec | None:
    """The network that is named, or that a retraining's folder has beside its weights; None where neither is."""
    if architecture is not None:
        file = open_architecture(Path(architecture))
    elif (path.parent / ARCHITECTURE).exists() and next(iter(state)).startswith("stem."):
        file = load_architecture(path.parent / ARCHITECTURE)
    else:
        return None
    return file.network


def _of_model(model: nn.Module, source: WeightsSource, space: SearchSpace) -> TrainedPoint:
    """Of a model whose layers are known by what they do or, where they are not, by their order and shapes."""
    try:
        found = space_of(model, resolution=max(space.resolutions))
    except ModelError:
        return _in_order(model.state_dict(), source, space)
    return _of_spec(found.network.spec, found.network.state_dict(), source, space)


def _of_spec(spec: NetworkSpec, state: Mapping[str, Tensor], source: WeightsSource, space: SearchSpace) -> TrainedPoint:
    """Of a network all of which is known, with weights by its names or in its order."""
    own = Network(spec).state_dict()
    by_name = state.keys() == own.keys()
    if by_name:
        check_fit(state, own)
    tensors = dict(state) if by_name else paired_by_order(state, own)
    return _filled(space, _only_point(space, KnownNetwork(spec)), tensors, source)


def _in_order(state: Mapping[str, Tensor], source: WeightsSource, space: SearchSpace) -> TrainedPoint:
    """Of a network of which the tensors alone are known."""
    architecture = _only_point(space, StateDictInOrder(state))
    own = Network(space.resolve(architecture)).state_dict()
    return _filled(space, architecture, paired_by_order(state, own, smaller_kernels=True), source)


def _only_point(space: SearchSpace, given: Given) -> Architecture:
    found = points(space, given)
    if not found:
        must = f"the weights must be those of a network of space {space.name}"
        raise CheckpointError(f"{must}, but {given.misfit()}")
    if len(found) > 1 or found[0].unclear is not None:
        must = f"the weights must fit one network of space {space.name} alone"
        between = found[0].unclear or _difference(found[0].architecture, found[1].architecture)
        raise CheckpointError(f"{must}, but they fit several, which differ in {between}: name it in {_ARCHITECTURE}")
    return found[0].architecture


def _difference(one: Architecture, other: Architecture) -> str:
    picks = other.as_dict()
    return next((name for name, option in one.picks if picks.get(name) != option), "nothing")


def _filled(
    space: SearchSpace, architecture: Architecture, tensors: Mapping[str, Tensor], source: WeightsSource
) -> TrainedPoint:
    network = Network(space.resolve(architecture))
    own = network.state_dict()
    fitting = {
        name: with_zeros_around(tensor, own[name].shape)
        for name, tensor in tensors.items()
        if not name.startswith(CLASSIFIER) or tensor.shape == own[name].shape
    }
    network.load_state_dict({**own, **fitting})
    counted = frozenset(name for name in fitting if not name.endswith("num_batches_tracked"))
    smaller = sum(tensors[name].shape != own[name].shape and tensors[name].dim() == 4 for name in counted)
    return TrainedPoint(network=network, architecture=architecture, source=source, trained=counted, smaller=smaller)
