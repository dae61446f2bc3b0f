"""A trained network cut to budgets: the channels that matter least go, by the exact decode of a space around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from se_nas.cost.budget import Budget, format_cost, parse_budgets
from se_nas.cost.latency.timing import latency_key, measure_network
from se_nas.cost.metrics import LATENCY
from se_nas.cost.table import CostTable, count_tables
from se_nas.errors import ConfigError, OutputError, short
from se_nas.hardware.lines import Say
from se_nas.layers.network import Network
from se_nas.records.models.run_result import SubnetResult
from se_nas.records.record import write_record
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.runs.shown_images import ImageRequest, shown_images, trained_network
from se_nas.search.budgets.decode import decode
from se_nas.search.certificate import certify
from se_nas.space.architecture import Architecture
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.space.block_plan import block_plan
from se_nas.space.points.finding import points
from se_nas.space.points.given import KnownNetwork
from se_nas.space.points.narrowed import narrowed
from se_nas.space.search_space import SearchSpace
from se_nas.supernet.calibration import recalibrate
from se_nas.supernet.supernet import SuperNet
from se_nas.supernet.warm_start.channels import Channels, channel_groups
from se_nas.supernet.warm_start.sorting import importance, mean_gates, sort_channels
from se_nas.supernet.warm_start.taking import take
from se_nas.training.evaluate import top_accuracies
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS, DataCard, save_weights

#: Training images over which norms are recalibrated, and mean gates are taken.
_IMAGES = 2048


def prune(
    source: Path, keep: Mapping[str, str], out: Path, *, data_dir: Path | None, device: torch.device, say: Say
) -> SubnetResult:
    """Write what is left of a trained network into `out`, a folder as `make_subnet` makes it; nothing is trained.

    Args:
        source: the folder of a retraining, or of a run whose winner was retrained.
        keep: by metric a share of what the network costs, such as "70%", or a limit.

    Raises:
        ConfigError: a share or a limit is none.
        InfeasibleBudgetError: not so much can be cut.
        OutputError: `out` holds something already, or cannot be written to.
        SeNasError: the network or the images cannot be read.
    """
    with alone_in(out):
        if (out / "config.yaml").exists():
            must = "the folder for the network must hold no run and no network yet, but it does"
            raise OutputError(f"{out}: {must}; choose another --out")
        network, file, home = trained_network(ImageRequest(source=source), say)
        space = narrowed(file.network, f"{file.space_name} cut"[:100])
        whole = points(space, KnownNetwork(file.network))[0].architecture
        tables = count_tables(space)
        budgets = _budgets(keep, tables, whole)
        request = ImageRequest(source=source, data_dir=data_dir, training=True, images=_IMAGES)
        training = shown_images(request, home, file.network, device, progress=False)
        calibration = [x.cpu() for x, _ in training.batches("reading training images")]
        sort_channels(network, space, whole, calibration[:4])
        scores = _scores(space, whole, network, mean_gates(network, calibration[:4]))
        found = decode(space, tables, budgets, scores)
        supernet = SuperNet(space).eval()
        take(supernet, whole, network.state_dict())
        cut = supernet.export(found.architecture).to(device)
        recalibrate(cut, (x.to(device) for x in calibration))
        testing = ImageRequest(source=source, data_dir=data_dir)
        shown = shown_images(testing, home, file.network, device, progress=False)
        before, after = (top_accuracies(each.to(device), shown.batches("testing"), device) for each in (network, cut))
        spec = space.resolve(found.architecture)
        key = latency_key("cpu")
        certificate = certify(spec, budgets, {LATENCY: key}, None, {LATENCY: measure_network(spec, key)})
        for entry in certificate.budgets:
            say(
                f"budget {entry.metric}: {format_cost(entry.metric, entry.value)} of "
                f"{format_cost(entry.metric, entry.limit)} ({entry.how})"
            )
        result = SubnetResult(
            run=source.resolve().name,
            data=shown.data,
            seed=0,
            calibration_images=sum(len(x) for x in calibration),
            accuracy_before=before.top1,
            test_accuracy=after.top1,
            test_images=after.images,
        )
        card = DataCard.load(home)
        known = next((RunFolder(at).config for at in (home, home.parent) if (at / "config.yaml").exists()), {})
        if card is not None:
            card.save(out)
        save_architecture(out / ARCHITECTURE, ArchitectureFile.of(space, found.architecture))
        write_record(out / "certificate.json", certificate)
        save_weights(out / WEIGHTS, cut.cpu(), None, accuracies={"network": after.top1})
        write_record(out / "result.json", result)
        data = known.get("data") or {"name": shown.data, "dir": str(data_dir.resolve()) if data_dir else None}
        RunFolder(out).begin({"data": data, "seed": known.get("seed", 0), "run": str(home.resolve())})
        return result


def _budgets(keep: Mapping[str, str], tables: Mapping[str, CostTable], whole: Architecture) -> list[Budget]:
    return [_budget(metric, word, tables, whole) for metric, word in keep.items()]


def _budget(metric: str, word: str, tables: Mapping[str, CostTable], whole: Architecture) -> Budget:
    """A share of what the network costs, or a limit by itself."""
    if metric not in tables:
        must = f"must be on what is counted without running a network, {', '.join(tables)}"
        raise ConfigError("--keep", [f"{must}, but got {short(metric)}"])
    if not word.endswith("%"):
        try:
            return parse_budgets({metric: word}, "--keep")[0]
        except ConfigError as error:
            must = "must be a share such as 70% or a limit such as 1.2M"
            raise ConfigError("--keep", [f"{metric}: {must}, but got {short(word)}"]) from error
    try:
        value = float(word.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ConfigError("--keep", [f"{metric}: must be a share above 0% and at most 100%, but got {short(word)}"])
    return Budget(metric, value * tables[metric].cost(whole))


def _scores(
    space: SearchSpace, whole: Architecture, network: Network, gates: Mapping[int, Tensor]
) -> dict[str, list[float]]:
    """For each choice and option the share of the importance that is kept, as often as the channels are read."""
    state = network.state_dict()
    groups = {(use.tensor, use.dim): group for group in channel_groups(network.spec) for use in group.uses}
    picks = whole.as_dict()
    scores = {choice.name: [0.0] * len(choice.options) for choice in space.choices}

    def kept(place: tuple[str, int], channels: int) -> float:
        group: Channels | None = groups.get(place)
        if group is None:  # their order is fixed, and all are alike for all that is known
            return channels / int(state[place[0]].shape[place[1]])
        each = importance(group, state, gates)
        readers = sum(use.reads for use in group.uses)
        return readers * float(each[:channels].sum() / each.sum())

    stage = -1
    for number, (slot, op) in enumerate(space.slots_in_use(picks)):
        last = block_plan(op.block(**op.picked(picks))).last
        if slot.op.choice is not None:
            scores[slot.op.choice] = [0.0 if each is op else float("-inf") for each in slot.ops]
        if last is None:
            continue
        name = f"blocks.{number}.{last.name}.weight"
        axis = op.axis("expansion")
        if axis.choice is not None:
            sizes = [op.block(**{**op.picked(picks), "expansion": option}).expanded for option in axis.options]
            scores[axis.choice] = [kept((name, 1), size) for size in sizes]
        width = op.width
        if width.axis.choice is not None and slot.stage != stage:
            scores[width.axis.choice] = [kept((name, 0), size) for size in width.values]
        stage = slot.stage
    for width, name in zip(space.head_widths, ("head.conv.conv.weight", "head.hidden.weight"), strict=True):
        if width.axis.choice is not None:
            scores[width.axis.choice] = [kept((name, 0), size) for size in width.values]
    return scores
