"""What a reader of a run's page may do next: commands for this very run, and the files that it has left."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from se_nas.cost.budget import format_cost
from se_nas.cost.latencies import latency_file
from se_nas.cost.metrics import ENERGY, device_of
from se_nas.report.pages.run_reading import RunFiles
from se_nas.report.pages.what_next import Command, Next, command_line, files_in
from se_nas.training.trained_network import WEIGHTS

#: A tighter budget, as an example: this share of what the network costs.
_TIGHTER = 0.8

#: Files and folders of a run, and what they hold; those that are not there are left out.
_FILES: Mapping[str, str] = {
    "architecture.json": "the architecture",
    "certificate.json": "what it costs, and how that is known",
    "result.json": "every result of the run",
    "config.yaml": "the run file with every value",
    "space.yaml": "the space that was searched",
    "search/history.json": "the search's epochs",
    "search/evaluations.json": "every evaluation",
    "search/screen.json": "what the first filter kept",
    "search/scores.json": "the scores that a decode takes",
    "search/checkpoint.pt": "the supernet and the state of its training",
    "search/supernet.pt": "the supernet",
    "retrain/history.json": "the retraining's epochs",
    f"retrain/{WEIGHTS}": "the trained weights",
    "subnet": "the network with the supernet's weights",
    "finalists/finalists.json": "the networks that the answer was chosen among",
    "evidence": "the evidence, a file a part",
    "retrain/export": "exported networks",
    "excitation/excitation.html": "what SE learned",
    "plots": "every plot as a picture",
}


@dataclass(frozen=True)
class RunNext(Next):
    """Attributes:
    again: that makes the run again.
    pick: that takes an architecture of the front.
    """

    again: Markup
    pick: Markup


def run_next(folder: Path, run: RunFiles) -> RunNext:
    """The commands that fit a run, with its folder as the process that writes the page names it, and its files."""
    data = shlex.quote(run.result.data.name)
    retraining = f"--data {data} --epochs {_longer(run)}"
    commands = [
        Command(
            "train it longer, or on other images", command_line(folder, "retrain", "/architecture.json", retraining)
        ),
        *_decodes(folder, run),
    ]
    if (folder / "retrain" / WEIGHTS).exists():
        export = "hand the trained network on: ONNX, torch.export, plain PyTorch, timm"
        commands.insert(0, Command(export, command_line(folder, "export", "/retrain")))
        other = command_line(folder, "retrain --from", "/retrain", "--data folder --data-dir DIR")
        commands.insert(2, Command("take the trained network to other images", other))
    if run.result.retrain is not None:
        compared = command_line(folder, "evidence", more="--part controls")
        commands += [
            Command("compare it with random networks and with SE nowhere and everywhere", compared),
            Command("gather all the evidence", command_line(folder, "evidence")),
        ]
    commands.append(Command("write this page again", command_line(folder, "report")))
    return RunNext(
        commands,
        files_in(folder, {**_FILES, **_tables(run)}),
        again=command_line(folder, "search", "/config.yaml", "--out NEW"),
        pick=command_line(folder, "decode", more="--pick NUMBER"),
    )


def _tables(run: RunFiles) -> dict[str, str]:
    """The files of tables that were measured, and what they hold."""
    devices = ((metric, device_of(metric)) for metric in run.latencies)
    latencies = {
        latency_file(m): f"the latency table of {device}" if device else "the latency table" for m, device in devices
    }
    return {**latencies, latency_file(ENERGY): "the energy table"}


def _longer(run: RunFiles) -> int:
    return 2 * run.result.retrain.epochs if run.result.retrain is not None else 100


def _decodes(folder: Path, run: RunFiles) -> list[Command]:
    """Another answer of the same search: a point of its front, or one under tighter budgets."""
    found = []
    if run.study is not None:
        others = [entry.number for entry in run.study.front if entry.architecture != run.study.chosen]
        if others:
            pick = command_line(folder, "decode", more=f"--pick {others[0]}")
            found.append(Command("take another architecture of the front", pick))
    if not (folder / "space.yaml").exists() or not any(
        (folder / "search" / name).exists() for name in ("scores.json", "evaluations.json")
    ):
        return found
    counted = [entry for entry in run.certificate.costs if entry.metric == "macs" and entry.how == "counted"]
    for entry in counted:
        limit = f"{_TIGHTER * float(entry.value):.2g}"
        words = f"ask for at most {format_cost('macs', float(limit))}: a new answer in seconds, no new search"
        found.append(Command(words, command_line(folder, "decode", more=f"--budget macs={int(float(limit))}")))
    return found
