"""What a reader of a run's page may do next: commands for this very run, and the files that it has left."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from se_nas.cost.budget import format_cost
from se_nas.report.pages.rows import Rows
from se_nas.report.pages.run_reading import FinishedRun
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
    "search/scores.json": "the scores that a decode takes",
    "search/checkpoint.pt": "the supernet",
    "search/supernet.pt": "the supernet",
    "retrain/history.json": "the retraining's epochs",
    f"retrain/{WEIGHTS}": "the trained weights",
    "latency.json": "the latency table",
    "evidence": "the evidence, a file a part",
    "export": "exported networks",
    "excitation/excitation.html": "what SE learned",
    "plots": "every plot as a picture",
}


@dataclass(frozen=True)
class Command:
    """A command and what it does."""

    words: str
    command: Markup


@dataclass(frozen=True)
class Next:
    """What a page offers its reader.

    Attributes:
        compare: the command that compares the answer with others; again: that makes the run again; pick: that takes
            an architecture of the front.
        files: names of what is in the folder, relative to it, and what it is.
    """

    commands: Sequence[Command]
    compare: Markup
    again: Markup
    pick: Markup
    files: Rows


def what_next(folder: Path, run: FinishedRun) -> Next:
    """The commands that fit a run, with its folder as the process that writes the page names it, and its files."""
    place = named(folder)

    def line(verb: str, inner: str = "", more: str = "") -> Markup:
        # made of markup, since a page loses the folders of all other text
        return Markup(escape(" ".join(filter(None, ("se-nas", verb, shlex.quote(f"{place}{inner}"), more)))))

    data = shlex.quote(run.result.data.name)
    compare = line("evidence", more="--part controls")
    commands = [
        *(
            [
                Command(
                    "hand the trained network on: ONNX, torch.export, plain PyTorch, timm", line("export", "/retrain")
                )
            ]
            if (folder / "retrain" / WEIGHTS).exists()
            else []
        ),
        Command(
            "train it longer, or on other images",
            line("retrain", "/architecture.json", f"--data {data} --epochs {_longer(run)}"),
        ),
        *_decodes(folder, run, line),
        Command("compare it with random networks and with SE nowhere and everywhere", compare),
        Command("gather all the evidence", line("evidence")),
        Command("write this page again", line("report")),
    ]
    files = [(name, words) for name, words in _FILES.items() if (folder / name).exists() or name == "plots"]
    again, pick = line("search", "/config.yaml", "--out NEW"), line("decode", more="--pick NUMBER")
    return Next(commands, compare, again, pick, files)


def named(folder: Path) -> str:
    """The folder as a shell finds it: from the working folder where it lies below that, else whole."""
    whole = folder.resolve()
    try:
        below = whole.relative_to(Path.cwd())
    except ValueError:
        return str(whole)
    return str(below)


def _longer(run: FinishedRun) -> int:
    return 2 * run.result.retrain.epochs if run.result.retrain is not None else 100


def _decodes(folder: Path, run: FinishedRun, line: Callable[..., Markup]) -> list[Command]:
    """Another answer of the same search: a point of its front, or one under tighter budgets."""
    found = []
    if run.study is not None:
        others = [entry.number for entry in run.study.front if entry.architecture != run.study.chosen]
        if others:
            found.append(Command("take another architecture of the front", line("decode", more=f"--pick {others[0]}")))
    if not (folder / "space.yaml").exists() or not any(
        (folder / "search" / name).exists() for name in ("scores.json", "evaluations.json")
    ):
        return found
    counted = [entry for entry in run.certificate.costs if entry.metric == "macs" and entry.how == "counted"]
    for entry in counted:
        limit = f"{_TIGHTER * float(entry.value):.2g}"
        words = f"ask for at most {format_cost('macs', float(limit))}: a new answer in seconds, no new search"
        found.append(Command(words, line("decode", more=f"--budget macs={int(float(limit))}")))
    return found
