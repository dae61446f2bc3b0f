"""One part of every block varied and all else kept, as in an ablation: what each option costs, counted and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from se_nas.cost.counts import network_counts
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.timing import Measurement, clock_name, latency_conditions
from se_nas.cost.metrics import METRICS
from se_nas.cost.table import count_tables
from se_nas.errors import ConfigError
from se_nas.hardware.environment import describe_environment
from se_nas.records.models.certificate import Timing
from se_nas.records.models.sweep import SweepFile, SweptOption
from se_nas.records.record import write_record
from se_nas.records.yaml_input import parse_yaml
from se_nas.search.budgets.decode import greatest_cost
from se_nas.space.counts import Counts
from se_nas.space.search_space import SearchSpace
from se_nas.space.specs import NetworkSpec
from se_nas.space.yaml.file import dump_space, parse_space

_SOURCE = "--set"
#: What is proposed for a sweep of SE in place of a file without it.
_WITH_SE = "search_spaces/baselines/se_resnet50.yaml"
#: What names a block or lists its branches is no property with a value for each option.
_NOT_SWEPT = ("kind", "name", "branches")


@dataclass(frozen=True)
class Swept:
    """One option, and the network with it in every block that has the part."""

    option: str
    network: NetworkSpec
    counts: Counts

    @property
    def costs(self) -> dict[str, float]:
        """By every metric that is counted."""
        return {name: metric.of(self.network) for name, metric in METRICS.items() if metric.counted}


@dataclass(frozen=True)
class Sweep:
    """Options of one part.

    Attributes:
        space: its name.
        part: as blocks of a space file have it: "se" (its options), "se.position", "kernel".
        points: one for each option, in the order given.
    """

    space: str
    part: str
    points: tuple[Swept, ...]


@dataclass(frozen=True)
class MeasuredSweep:
    """Latencies of the points of a sweep, in their order, and the conditions under which they hold."""

    key: LatencyKey
    latencies: tuple[Measurement, ...]

    @property
    def conditions(self) -> str:
        """The conditions in plain words."""
        key = self.key
        threads = f"{key.threads} thread{'s' if key.threads > 1 else ''}, " if key.torch_device.type == "cpu" else ""
        return (
            f"{key.device}, {key.runtime}, {key.dtype}, batch {key.batch_size}, {threads}{clock_name(key)}, "
            f"n = {self.latencies[0].n}"
        )


def parse_sweep(word: str) -> tuple[str, tuple[str, ...]]:
    """`PART=OPTION,OPTION` as the part and its options.

    Raises:
        ConfigError: the word has another form.
    """
    part, _, listed = word.partition("=")
    options = tuple(option.strip() for option in listed.split(","))
    if not part or not all(options) or len(set(options)) != len(options):
        problem = f"a sweep must be PART=OPTION,... with distinct options, such as se=2,4,8, but got {word!r}"
        raise ConfigError(_SOURCE, [problem])
    return part, options


def sweep_space(space: SearchSpace, part: str, options: Sequence[str]) -> Sweep:
    """Give every block of a space that has a part each of its options in turn; choices left take the greatest MACs.

    Args:
        part: see `Sweep`; blocks that do not have it stay as they are.
        options: each as a space file would have it.

    Raises:
        ConfigError: no block has the part, or it has no such option.
    """
    points = []
    for option in options:
        one = _with_option(space, part, option)
        network = one.resolve(greatest_cost(one, count_tables(one), "macs").architecture)
        points.append(Swept(option, network, network_counts(network)))
    return Sweep(space.name, part, tuple(points))


def _with_option(space: SearchSpace, part: str, word: str) -> SearchSpace:
    """The space with one option of the part, made as a file so that it is checked as one."""
    data = parse_yaml(dump_space(space), space.name)
    blocks = [block for stage in data["stages"] for block in stage["blocks"]]
    places = [(holder, key) for block in blocks for name, holder, key in _parts(block) if name == part]
    if not places:
        known = ", ".join(dict.fromkeys(name for block in blocks for name, _, _ in _parts(block)))
        without_se = part.partition(".")[0] == "se" and not any("se" in block for block in blocks)
        instead = f"; a file that has it is {_WITH_SE}" if without_se else ""
        must = f"must name a part that blocks of {space.name} have ({known})"
        raise ConfigError(_SOURCE, [f"{must}, but got {part!r}{instead}"])
    try:
        option = parse_yaml(word, _SOURCE)
    except ConfigError:
        option = word
    for holder, key in places:
        holder[key] = [option] if isinstance(holder[key], list) else option
    try:
        return parse_space(data, space.name)
    except ConfigError as error:
        # it is one option, wrong in the same way wherever it stands
        raise ConfigError(_SOURCE, [f"{part}={word}: {space.name}: {error.problems[0]}"]) from error


def _parts(block: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Name, holder and key of each part of a block that has options."""
    for key in block:
        if key not in ("se", *_NOT_SWEPT):
            yield key, block, key
    for key in block.get("se", {}):
        yield "se" if key == "options" else f"se.{key}", block["se"], key


def _whole(costs: Mapping[str, float]) -> dict[str, float]:
    return {metric: int(cost) if cost.is_integer() else cost for metric, cost in costs.items()}


def write_sweep(folder: Path, sweep: Sweep, measured: MeasuredSweep | None) -> Path:
    """Write sweep.json, with what is counted in each metric's unit and latencies in milliseconds; returns its path.

    Raises:
        OutputError: the folder cannot be written to.
    """
    timed = [Timing(**asdict(one)) for one in measured.latencies] if measured else [None] * len(sweep.points)
    conditions = measured and latency_conditions(measured.key)
    record = SweepFile(
        space=sweep.space,
        part=sweep.part,
        points=tuple(
            SweptOption.model_validate({"option": point.option, **_whole(point.costs), "latency": latency})
            for point, latency in zip(sweep.points, timed, strict=True)
        ),
        latency_conditions=conditions,
        environment=describe_environment(),
    )
    return write_record(folder / "sweep.json", record)
