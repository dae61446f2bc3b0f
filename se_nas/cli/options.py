"""Options that several commands share, and the groups that they form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from se_nas.errors import ConfigError, short
from se_nas.records.files import from_home
from se_nas.search.black_box.storages.url import masked

if TYPE_CHECKING:
    from se_nas.cost.latency.key import LatencyKey
    from se_nas.data.file_options import FileOptions
    from se_nas.runs.run_file import RunConfig

Device = Annotated[
    str,
    typer.Option(help="Device: auto, cpu, cuda, mps or xpu; cuda:1 is the second. auto takes the fastest there is."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the data set, in CIFAR's official layout or with a folder for each class."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch a CIFAR data set into --data-dir if it is not there.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from what the output folder already holds.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")]


def _without_password(context: typer.Context, option: typer.CallbackParam, url: str | None) -> str | None:
    """Of `--storage`: every user of a machine can read the command lines there; not so the environment."""
    source = context.get_parameter_source(option.name or "")
    if url and source and source.name == "COMMANDLINE" and masked(url) != url:
        must = "must hold no password where others can read it, on the command line: put the URL into SE_NAS_STORAGE"
        raise ConfigError("--storage", [f"{must}, or its password into PGPASSWORD or ~/.pgpass, but got {masked(url)}"])
    return url


Storage = Annotated[
    str | None,
    typer.Option(
        envvar="SE_NAS_STORAGE",
        callback=_without_password,
        help="Database that several workers share, such as postgresql+psycopg://user@host/name. It is written into no "
        "file. A URL that holds a password must come from the environment variable.",
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", help="METRIC=LIMIT sets a budget, such as macs=15M, params=300k or latency_ms=2.5; may be repeated."
    ),
]


def _import_plugins(words: list[str] | None) -> list[str]:
    """Of `--plugin`: import them before anything is read; files by their whole paths."""
    if not words:
        return []
    from se_nas.plugins import load_plugins

    found = [str(Path(word).resolve()) if word.endswith(".py") else word for word in words]
    load_plugins(found, "--plugin")
    return found


Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        callback=_import_plugins,
        help="Module or .py file of your own that adds a data set, a block or another part; may be repeated.",
    ),
]


def _known_loggers(names: list[str] | None) -> list[str] | None:
    """Of `--logger`, after `--plugin`; an unknown name is one line."""
    from pydantic_core import PydanticCustomError

    from se_nas.records.run_log import LOGGERS

    try:
        return [LOGGERS.checked(name) for name in names] if names else None
    except PydanticCustomError as error:
        hint = (error.context or {}).get("hint", "")
        raise ConfigError("--logger", [f"{error.message()}, but got {short(names)}{hint}"]) from error


Loggers = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        callback=_known_loggers,
        help="What takes the numbers: tensorboard, wandb, mlflow, or one of a plugin; may be repeated.",
    ),
]
Weights = Annotated[
    Path | None, typer.Option(help="File of the weights, such as FOLDER/best.pt; by default FOLDER/network.pt.")
]
Average = Annotated[
    bool | None,
    typer.Option(
        help="Use the averaged weights, or those of the last step. By default those that did better on the held-out "
        "images of the training."
    ),
]
MaxDamaged = Annotated[
    int,
    typer.Option(
        min=0,
        help="Stop when a rank has met more damaged images than this. Up to then each is named and left out.",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Run folder. By default it has the run's name and lies beside the run file, or in the working folder for "
        "a shipped one.",
    ),
]
SpaceFile = Annotated[
    Path, typer.Argument(metavar="SPACE", help="Search space: a YAML file, or the name of a shipped space.")
]


ValLabels = Annotated[
    Path | None,
    typer.Option(
        help="Text with the class of each test image, where these lie unsorted in val: a line for each, its name and "
        "its class, or its class alone in the order of the names."
    ),
]


@dataclass(frozen=True)
class ImageFiles:
    """How image files are read."""

    max_damaged: MaxDamaged = 100
    val_labels: ValLabels = None
    ignore_orientation: Annotated[
        bool,
        typer.Option(
            "--ignore-orientation", help="Leave images as they are stored; by default they are turned as EXIF says."
        ),
    ] = False
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Values that become black and white in images of more than 8 bits; by default 0 65535, for 16 bits."
        ),
    ] = None

    def chosen(self) -> FileOptions:
        """As the loaders take them; DataError where they make no sense."""
        from se_nas.data.file_options import FileOptions

        return FileOptions(not self.ignore_orientation, self.value_range, self.max_damaged, self.val_labels)


@dataclass(frozen=True)
class RunChanges:
    """What the command line says otherwise than a run file."""

    data_dir: DataDir = None
    download: Download = False
    device: Annotated[str | None, typer.Option(help="Device to use in place of the run's.")] = None
    seed: Annotated[int | None, typer.Option(help="Seed to use in place of the run's.")] = None
    budget: Budgets = None
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="PATH=VALUE replaces a value of the run file, as in search.epochs=5; may be repeated."
        ),
    ] = None
    enqueue: Annotated[
        list[str] | None,
        typer.Option(
            help="Architecture that an Optuna-driven search evaluates first: an architecture.json, a finished run's "
            "folder, or a baseline such as no_se or se_r16; may be repeated."
        ),
    ] = None
    plugin: Plugins = None

    def read(self, run_file: Path, *, begun: bool = False) -> RunConfig:
        """The run file with these changes.

        Args:
            begun: whether it is of a run that goes on, whatever it has that is not read.

        Raises:
            ConfigError: of the run file with all its faults, or an option's words are malformed.
        """
        from se_nas.runs.run_file import load_plugins_of, load_run, unread_values

        load_plugins_of(run_file)  # a budget may be on a metric of one
        config = load_run(run_file, self.by_path(), self.plugin or ())
        if not begun and (faults := unread_values(config)):
            raise ConfigError(str(run_file), faults)
        return config

    def by_path(self) -> dict[str, object]:
        """Every change by the dotted path of what it replaces.

        Raises:
            ConfigError: an option's words are malformed.
        """
        from se_nas.cost.budget import parse_budget_options

        budgets = parse_budget_options(self.budget or [], "--budget")
        enqueued = [str(Path(word).resolve()) if Path(word).exists() else word for word in self.enqueue or []]
        changes = with_options(
            parse_changes(self.change),
            {
                "data.dir": ("--data-dir", None if self.data_dir is None else str(self.data_dir)),
                "data.download": ("--download", self.download or None),
                "device": ("--device", self.device),
                "seed": ("--seed", self.seed),
                **{f"budgets.{wanted.metric}": ("--budget", wanted.limit) for wanted in budgets},
                "search.enqueue": ("--enqueue", enqueued or None),
            },
        )
        if isinstance(given := changes.get("data.dir"), str):  # what the shell says is relative to its folder
            changes["data.dir"] = str(from_home(given, "data.dir").resolve())
        return changes


@dataclass(frozen=True)
class TimingConditions:
    """Under which conditions networks are timed."""

    device: Device = "auto"
    runtime: Annotated[
        str | None,
        typer.Option(
            help="What runs the network, such as onnxruntime, openvino, eager or cuda_graph. By default ONNX Runtime "
            "on CPUs, where it is installed, and a CUDA graph on GPUs."
        ),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(
            help="For --runtime command, what times a network elsewhere and prints milliseconds, such as 'my_timer "
            "--model {onnx} --runs {runs}'; --device is then what the device is called."
        ),
    ] = None
    dtype: Annotated[str, typer.Option(help="Number format: float32, bfloat16, float16 or int8.")] = "float32"
    batch_size: Annotated[int, typer.Option(help="Images in one batch; the latency is that of the whole batch.")] = 1
    threads: Annotated[int, typer.Option(help="CPU threads that the network may use.")] = 1

    def key(self) -> LatencyKey:
        """The conditions as tables are kept by them.

        Raises:
            DeviceError, ConfigError: this machine has not what they name.
        """
        from se_nas.cost.latency.runtimes import RUNTIMES
        from se_nas.cost.latency_config import LatencyConfig
        from se_nas.records.record import parse_record

        runtime = RUNTIMES.get(self.runtime or "")
        needs = runtime and runtime.of
        if needs == "file":
            must = "must be a runtime that networks can be timed in, but got one of which there is a table alone"
            how = "a run file takes it, `latency: {runtime: imported, file: ...}`"
            raise ConfigError("--runtime", [f"{must}, {self.runtime}; {how}"])
        if (needs == "run") != (self.run is not None):
            must = "must be given with --runtime command, and only then"
            got = "nothing" if self.run is None else f"--runtime {self.runtime or 'left out'}"
            raise ConfigError("--run", [f"{must}, but got {got}"])
        values: dict[str, Any] = {"runtime": self.runtime, "run": self.run, "dtype": self.dtype}
        values |= {"batch_size": self.batch_size, "threads": self.threads}
        if self.run is not None and self.device != "auto":
            values["device"] = self.device
        return parse_record(LatencyConfig, values, "--runtime").key(self.device)


def parse_changes(words: list[str] | None) -> dict[str, object]:
    """`--set PATH=VALUE` words as values by dotted path; ConfigError for a word of another form."""
    from se_nas.records.yaml_input import parse_yaml

    changes: dict[str, object] = {}
    for word in words or []:
        path, equals, value = word.partition("=")
        if not (path and equals):
            raise ConfigError("--set", [f"a change must be PATH=VALUE such as search.epochs=5, but got {short(word)}"])
        if path in changes:
            raise ConfigError("--set", [f"{short(path)}: must be given once, but is given twice"])
        changes[path] = parse_yaml(value, "--set", path)
    return changes


def with_options(changes: Mapping[str, object], options: Mapping[str, tuple[str, object]]) -> dict[str, object]:
    """The changes with what options of their own say.

    Args:
        options: by the path of what an option replaces its name and its value, None where it was not given.

    Raises:
        ConfigError: both say what a value is to be.
    """
    given = {path: (name, value) for path, (name, value) in options.items() if value is not None}
    twice = [f"{path}: must be given once, but {given[path][0]} gives it too" for path in changes if path in given]
    if twice:
        raise ConfigError("--set", twice)
    return {**changes, **{path: value for path, (_, value) in given.items()}}
