"""Claim: one supernet of NAS-Bench-Macro ranks 200 random networks with a Kendall tau of at least 0.80, and a search on
it ends at most 0.3 points below the best network that keeps 60 MMACs.

That is a bar for a GPU and a supernet trained to convergence; a length that fits a CPU shows how far from it that one
is. One supernet is trained on CIFAR-10 for each way of sampling subnets, all with the same number of subnet passes over
the images. Its accuracies of all networks within 60 MMACs and of 200 random ones, with inherited weights and
recalibrated batch norms, stand beside the published ones (Su et al., arXiv 2103.11922; the mean of three trainings at
32x32 pixels), and so do MACs and parameters alone and, as a ceiling, one training beside another.

The space is eight layers of three options, so that networks whose first picks agree share their first layers' work,
batch-norm statistics included: the networks are judged on a walk of the tree of picks, depth first.

The table is data/nas-bench-macro_cifar10.json of https://github.com/xiusu/NAS-Bench-Macro, packed or not; --data-dir
holds CIFAR-10 in its official Python layout. Run:
python benchmarks/supernet_ranking.py TABLE.json --data-dir DIR --work FOLDER [--results FOLDER].
Training and judging both go on from what FOLDER holds. At the defaults a supernet takes some 20 minutes of one core to
train and as long to judge. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ends import one_line_errors
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from nas_bench_macro import SPACE, MacroTable, load_table
from numpy.typing import NDArray
from regret import write_results
from torch import Tensor, nn

from se_nas.cost.budget import Budget
from se_nas.cost.table import count_tables
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.parts import split_parts
from se_nas.data.sources import load_train
from se_nas.evidence.statistics import (
    kendall,
    kendall_gain,
    partial_kendall,
    random_top_k_regret,
    seed_ceiling,
    top_k_regret,
)
from se_nas.hardware.allocator import tune_allocator
from se_nas.hardware.device import autocast_for, pick_device
from se_nas.hardware.environment import describe_environment
from se_nas.layers.network import Network
from se_nas.records.checkpoint import weights_digest
from se_nas.records.files import write_atomic
from se_nas.report.plots.figure import WIDTH, drawn
from se_nas.report.theme.palette import RAMP_STEPS, light
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.search import search_architectures
from se_nas.search.one_shot.config import OneShotConfig
from se_nas.search.one_shot.inheritance import calibration_batches
from se_nas.search.one_shot.training import OneShotResult, train_one_shot
from se_nas.search.problem import SearchProblem
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space
from se_nas.supernet.calibration import recalibrate
from se_nas.supernet.supernet import SuperNet

Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]
Maps = tuple[list[Tensor], list[Tensor]]
"""Activations of the calibration images and of the validation images, a tensor a batch."""

SUBNETS = {"uniform": 1, "strict_fairness": 3, "sandwich": 3}
"""Subnets that one step of each sampling trains."""
PARTS = {"weights": 0.5, "choices": 0.4, "validation": 0.1}
BUDGET = Budget("macs", 60e6)
RANDOM_NETWORKS = 200
SEARCHES = 5
TOP = (1, 5, 10)
SAVE_EVERY = 20.0
"""Seconds of judging that a kill can lose."""
WITHIN, RANDOM = "within 60 MMACs", f"{RANDOM_NETWORKS} random"
BARS = {"kendall": 0.80, "regret": 0.3}
"""Least tau over the random networks; most points that the searches' answers lose on average."""
JUDGED = OneShotConfig().sampling
"""The sampling that the bars are held against: the package's default."""


# ---- networks judged by the weights that they inherit


class PrefixTree:
    """Judges networks of a supernet as `search.one_shot.inheritance.inherited_accuracy` does, shared layers once.

    Args:
        supernet: of a space of one choice a layer, such as that of its block or of its SE, and no other.
        calibration: batches (B, C, H, W) that each network's batch norms are averaged over; with none, the networks
            keep the supernet's running statistics.
        validation: batches (B, C, H, W) with their classes (B,).
    """

    def __init__(
        self, supernet: SuperNet, calibration: Sequence[Tensor], validation: Sequence[tuple[Tensor, Tensor]]
    ) -> None:
        space = supernet.space
        supernet.eval()
        # the i-th network has the i-th option in every layer, so that together they hold every layer's every option
        networks: list[Network] = []
        for number in range(max(len(choice.options) for choice in space.choices)):
            picks = {c.name: c.options[min(number, len(c.options) - 1)] for c in space.choices}
            exported = supernet.export(space.architecture(picks))
            networks.append(exported.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        if any(len(network.blocks) != len(space.choices) for network in networks):
            raise ValueError(f"space {space.name} must have one choice for each layer")
        self._stem, self._head = networks[0].stem, networks[0].head
        self._blocks = [[network.blocks[layer] for network in networks] for layer in range(len(space.choices))]
        self._images: Maps = (list(calibration), [x for x, _ in validation])
        self._labels = [y for _, y in validation]

    @torch.no_grad()
    def judge(self, rows: Rows, note: Callable[[int, float], None]) -> None:
        """Tell the accuracy, from 0 to 1, of each network as soon as it is known.

        Args:
            rows: (N, layers) option indices.
            note: called with the number of the row and its accuracy, in any order.
        """
        if len(rows):
            self._walk(rows, np.arange(len(rows)), 0, self._passed(self._stem, self._images), note)

    def _walk(self, rows: Rows, below: Rows, layer: int, maps: Maps, note: Callable[[int, float], None]) -> None:
        if layer == rows.shape[1]:
            accuracy = self._accuracy(self._passed(self._head, maps)[1])
            for number in below.tolist():
                note(number, accuracy)
            return
        picks = rows[below, layer]
        for option in np.unique(picks).tolist():
            passed = self._passed(self._blocks[layer][option], maps)
            self._walk(rows, below[picks == option], layer + 1, passed, note)

    def _passed(self, part: nn.Module, maps: Maps) -> Maps:
        """The activations behind a part of a network, its norms averaged over the calibration images first."""
        calibration: list[Tensor] = []
        if maps[0]:
            keeping = part.register_forward_hook(lambda _module, _inputs, output: calibration.append(output))
            recalibrate(part, maps[0])
            keeping.remove()
        validation = []
        for x in maps[1]:
            with autocast_for(x.device):
                validation.append(part(x))
        return calibration, validation

    def _accuracy(self, logits: Sequence[Tensor]) -> float:
        correct = sum(int((predicted.argmax(1) == y).sum()) for predicted, y in zip(logits, self._labels, strict=True))
        return correct / sum(len(y) for y in self._labels)


def judged(path: Path, key: str, tree: PrefixTree, rows: Rows) -> tuple[Numbers, float]:
    """Accuracies (N,) of the networks and the seconds that judging took, added up; goes on from the file at `path`.

    Args:
        key: of the supernet and the images; a file of another key is written anew.
    """
    names = ["".join(map(str, row)) for row in rows.tolist()]
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if stored.get("key") != key:
        stored = {"key": key, "seconds": 0.0, "accuracies": {}}
    known: dict[str, float] = stored["accuracies"]
    missing = [number for number, name in enumerate(names) if name not in known]
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        stored["seconds"] += time.monotonic() - saved
        saved = time.monotonic()
        write_atomic(path, json.dumps(stored))

    def note(number: int, accuracy: float) -> None:
        known[names[missing[number]]] = accuracy
        if time.monotonic() - saved > SAVE_EVERY:
            save()

    tree.judge(rows[missing], note)
    if missing:
        save()
    return np.array([known[name] for name in names]), stored["seconds"]


# ---- one supernet


def epochs_of(sampling: str, subnet_epochs: int) -> int:
    """Passes over the images in which this sampling trains as many subnets as one a step does in `subnet_epochs`."""
    if subnet_epochs < 1 or subnet_epochs % SUBNETS[sampling]:
        raise SystemExit(f"--subnet-epochs must be a multiple of 3 that is at least 3, but got {subnet_epochs}")
    return subnet_epochs // SUBNETS[sampling]


def make_problem(
    space: SearchSpace,
    data_dir: Path,
    folder: Path,
    seed: int,
    device: str = "cpu",
    parts: Mapping[str, float] = PARTS,
) -> SearchProblem:
    """CIFAR-10's training images at the space's size; the seed says which of them are for what."""
    info, train = load_train(DataOptions("cifar10", data_dir, space.resolutions[0]))
    return SearchProblem(
        space=space,
        budgets=(),
        tables=count_tables(space),
        info=info,
        train=train,
        parts=split_parts(train.labels, parts, seed),
        device=pick_device(device),
        seed=seed,
        folder=folder,
        resume=True,
    )


def supernet_accuracies(
    supernet: SuperNet,
    problem: SearchProblem,
    calibration_images: int,
    validation_images: int,
    chosen: Mapping[str, Rows],
) -> dict[str, tuple[Numbers, float]]:
    """Accuracies and seconds by name: "recalibrated" and "running" statistics, each of the rows in `chosen`."""
    images = DeviceImages(problem.info, problem.train, problem.device)
    calibration = list(calibration_batches(images, problem, calibration_images))
    validation = list(images.evaluate_batches(problem.parts["validation"][:validation_images], 500))
    found = {}
    for name, batches in (("recalibrated", calibration), ("running", [])):
        key = f"{weights_digest(supernet.state_dict())} {sum(map(len, batches))} {validation_images}"
        path = problem.folder / f"accuracies_{name}.json"
        found[name] = judged(path, key, PrefixTree(supernet, batches, validation), chosen[name])
    return found


# ---- beside the published accuracies


def reference(table: MacroTable, sets: Mapping[str, Rows]) -> dict[str, Any]:
    """What needs no supernet, by set: the tau of costs alone, and of one training beside another."""
    return {
        name: {
            "networks": len(of),
            "macs": kendall(table.costs["macs"][of], table.means[of]).entry.plain(),
            "params": kendall(table.costs["params"][of], table.means[of]).entry.plain(),
            "seed_ceiling": seed_ceiling(table.accuracies[of]).entry.plain(),
        }
        for name, of in sets.items()
    }


def correlations(
    table: MacroTable, sets: Mapping[str, Rows], recalibrated: Numbers, running: Numbers
) -> dict[str, Any]:
    """How a supernet's accuracies rank the networks of each set.

    Args:
        recalibrated, running: (all networks,) accuracies with recalibrated and with running statistics; NaN where a
            network was not judged.
    """
    found = {}
    for name, of in sets.items():
        true, macs, ours = table.means[of], table.costs["macs"][of], recalibrated[of]
        found[name] = {
            "kendall": kendall(ours, true).entry.plain(),
            "partial_kendall": partial_kendall(ours, true, macs).entry.plain(),
            "gain_over_macs": kendall_gain(ours, macs, true).entry.plain(),
        }
        if not np.isnan(running[of]).any():
            found[name]["kendall_without_recalibration"] = kendall(running[of], true).entry.plain()
            found[name]["gain_of_recalibration"] = kendall_gain(ours, running[of], true).entry.plain()
    return found


def regrets(table: MacroTable, within: Rows, accuracies: Numbers) -> dict[str, Any]:
    """Points that picks by the supernet lose to the best network within the budget.

    Args:
        accuracies: (all networks,), known at `within`.
    """
    true, best = table.means[within], float(table.means[within].max())
    answers = [best - float(table.means[search_answer(table, accuracies, seed)]) for seed in range(SEARCHES)]
    return {
        "search": {"mean": round(float(np.mean(answers)), 4), "each": [round(value, 4) for value in answers]},
        **{
            f"best of {k}": {
                "supernet": round(top_k_regret(accuracies[within], true, k), 4),
                "macs": round(top_k_regret(table.costs["macs"][within], true, k), 4),
                "random": round(random_top_k_regret(true, k), 4),
            }
            for k in TOP
        },
    }


def search_answer(table: MacroTable, accuracies: Numbers, seed: int) -> int:
    """Index of the network that the default search ends with where it sees these accuracies."""
    result = search_architectures(
        table.space,
        [BUDGET],
        lambda architecture: float(accuracies[table.index[architecture]]),
        config=OptunaConfig(),
        tables=table.tables,
        seed=seed,
    )
    assert result.best is not None
    return table.index[result.best.architecture]


def meets_bars(entry: Mapping[str, Any]) -> bool:
    """Whether one supernet does what the claim says."""
    tau, regret = entry["correlations"][RANDOM]["kendall"]["value"], entry["regret"]["search"]["mean"]
    return bool(tau is not None and tau >= BARS["kendall"] and regret <= BARS["regret"])


def described(
    trained: OneShotResult, table: MacroTable, sets: Mapping[str, Rows], found: Mapping[str, tuple[Numbers, float]]
) -> dict[str, Any]:
    """All that is told of one supernet."""
    recalibrated, running = found["recalibrated"][0], found["running"][0]
    last = trained.history[-1]
    entry: dict[str, Any] = {
        "training": {
            "epochs": len(trained.history),
            "images": trained.images,
            "seconds": round(trained.seconds),
            "loss": last.loss and round(last.loss, 4),
            "largest_accuracy": last.of("largest_accuracy"),
            "smallest_accuracy": last.of("smallest_accuracy"),
        },
        "judging_seconds": {name: round(seconds) for name, (_, seconds) in found.items()},
        "correlations": correlations(table, sets, recalibrated, running),
        "regret": regrets(table, sets[WITHIN], recalibrated),
    }
    return {**entry, "meets_bars": meets_bars(entry)}


# ---- shown


@drawn
def plot(
    outcome: Mapping[str, Any], table: MacroTable, sets: Mapping[str, Rows], accuracies: Mapping[str, Numbers]
) -> Figure:
    """Supernet beside published accuracy, a panel a sampling, and the taus with their intervals.

    Args:
        accuracies: (all networks,) recalibrated ones by sampling.
    """
    ramp = LinearSegmentedColormap.from_list("macs", [light(f"rank-{step}") for step in range(2, RAMP_STEPS + 1)])

    def scatter(axes: Axes, sampling: str) -> Any:
        of = np.union1d(sets[WITHIN], sets[RANDOM])
        dots = axes.scatter(
            100 * accuracies[sampling][of],
            table.means[of],
            c=table.costs["macs"][of] / 1e6,
            cmap=ramp,
            s=4,
            linewidths=0,
            rasterized=True,
        )
        axes.set_title(sampling.replace("_", " "))
        axes.set_xlabel("accuracy by the supernet (%)")
        axes.grid(True, axis="both")
        return dots

    def bars(axes: Axes, name: str) -> None:
        rows: list[tuple[str, dict[str, Any], str]] = []
        for sampling, entry in outcome["supernets"].items():
            of, words = entry["correlations"][name], sampling.replace("_", " ")
            rows.append((words, of["kendall"], "blue"))
            if "kendall_without_recalibration" in of:
                rows.append((f"{words}, not recalibrated", of["kendall_without_recalibration"], "block"))
            rows.append((f"{words}, MACs held fixed", of["partial_kendall"], "orange"))
        known = outcome["reference"][name]
        rows += [("MACs alone", known["macs"], "none"), ("parameters alone", known["params"], "none")]
        rows = [row for row in rows if row[1]["value"] is not None]
        for place, (_, estimate, tone) in enumerate(rows):
            axes.barh(place, estimate["value"], color=light(tone), height=0.62)
            if estimate["low"] is not None:
                axes.plot([estimate["low"], estimate["high"]], [place, place], color=light("ink"), linewidth=1.1)
        axes.set_yticks(range(len(rows)), [words for words, _, _ in rows])
        axes.invert_yaxis()
        axes.axvline(known["seed_ceiling"]["value"], color=light("green"), linestyle="--", linewidth=1.2)
        axes.set_xlim(min(0.0, *(row[1]["value"] for row in rows)), 1)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.set_title(f"{name} ({known['networks']:,} networks)" if name == WITHIN else f"{name} networks")
        axes.set_xlabel("Kendall tau; dashed: one training beside another")

    samplings = list(outcome["supernets"])
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    rows = figure.add_gridspec(2, 1)
    above, below = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    panels = above.subplots(1, len(samplings), sharey=True, squeeze=False)[0]
    for axes, sampling in zip(panels, samplings, strict=True):
        dots = scatter(axes, sampling)
    panels[0].set_ylabel("published accuracy (%)")
    above.colorbar(dots, ax=panels, label="MMACs", pad=0.01).outline.set_visible(False)
    for axes, name in zip(below.subplots(1, 2), sets, strict=True):
        bars(axes, name)
    return figure


def _told(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    low, high = estimate["low"], estimate["high"]
    return f"{estimate['value']:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})")


def markdown(outcome: Mapping[str, Any]) -> list[str]:
    """Tables of taus with 95 % intervals, and of regrets."""
    lines = []
    for name in (RANDOM, WITHIN):
        known = outcome["reference"][name]
        alone = ", ".join(
            f"{words} {known[key]['value']:.3f}"
            for words, key in (("MACs alone", "macs"), ("parameters alone", "params"), ("ceiling", "seed_ceiling"))
        )
        lines += ["", f"Kendall tau, {name} ({known['networks']} networks); {alone}:", ""]
        lines += ["| sampling | tau | not recalibrated | gain over MACs | MACs held fixed |", "|---|---|---|---|---|"]
        keys = ("kendall", "kendall_without_recalibration", "gain_over_macs", "partial_kendall")
        for sampling, entry in outcome["supernets"].items():
            cells = (_told(entry["correlations"][name].get(key)) for key in keys)
            lines.append(f"| {sampling} | " + " | ".join(cells) + " |")
    columns = ["search", *(f"best of {k}" for k in TOP)]
    lines += ["", f"Regret in points within {BUDGET}:", "", "| picked by | " + " | ".join(columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for sampling, entry in outcome["supernets"].items():
        regret = entry["regret"]
        values = [regret["search"]["mean"], *(regret[f"best of {k}"]["supernet"] for k in TOP)]
        lines.append(f"| {sampling} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    for key, words in (("macs", "MACs alone"), ("random", "chance")):
        of = next(iter(outcome["supernets"].values()))["regret"]
        lines.append(f"| {words} | | " + " | ".join(f"{of[f'best of {k}'][key]:.2f}" for k in TOP) + " |")
    return lines


@one_line_errors()
def main() -> None:
    """Train the supernets, judge the networks, print tables for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the published file, or that packed as .xz or .gz")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder that holds CIFAR-10's")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for checkpoints and accuracies")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write ranking.json and ranking.png there")
    parser.add_argument("--sampling", default=",".join(SUBNETS), help="which ones, with commas")
    parser.add_argument("--subnet-epochs", type=int, default=9, help="subnets trained on each image, a multiple of 3")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--resolution", type=int, default=16, help="pixels")
    parser.add_argument("--calibration-images", type=int, default=512, help="for each network's norms")
    parser.add_argument("--validation-images", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps or xpu")
    parser.add_argument("--threads", type=int, help="of the CPU; all unless given")
    options = parser.parse_args()
    samplings = options.sampling.split(",")
    if unknown := sorted(set(samplings) - set(SUBNETS)):
        raise SystemExit(f"--sampling must be of {', '.join(SUBNETS)}, but got {', '.join(unknown)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    tune_allocator()
    environment = describe_environment().plain()  # of the code that is about to run, whatever is committed meanwhile
    table = load_table(options.table)
    rows = table.rows
    random = np.random.default_rng(options.seed).choice(len(rows), RANDOM_NETWORKS, replace=False)
    sets = {RANDOM: np.sort(random), WITHIN: table.within(BUDGET)}
    wanted = {"recalibrated": np.union1d(*sets.values()), "running": sets[RANDOM]}
    space = replace(load_space(SPACE), resolution=options.resolution)
    supernets: dict[str, Any] = {}
    accuracies: dict[str, Numbers] = {}
    for sampling in samplings:
        problem = make_problem(space, options.data_dir, options.work / sampling, options.seed, options.device)
        epochs = epochs_of(sampling, options.subnet_epochs)
        config = OneShotConfig(
            sampling=sampling,
            random_subnets=1,
            epochs=epochs,
            validate_every=max(1, epochs // 3),
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            calibration_images=1024,
        )
        trained = train_one_shot(problem, config)
        judged_rows = {name: rows[of] for name, of in wanted.items()}
        got = supernet_accuracies(
            trained.supernet, problem, options.calibration_images, options.validation_images, judged_rows
        )
        found = {}
        for name, (values, seconds) in got.items():
            everywhere = np.full(len(rows), np.nan)
            everywhere[wanted[name]] = values
            found[name] = (everywhere, seconds)
        supernets[sampling] = described(trained, table, sets, found)
        accuracies[sampling] = found["recalibrated"][0]
    outcome = {
        "benchmark": "supernet_ranking",
        "environment": environment,
        "table_sha256": hashlib.sha256(table.json_lines().encode()).hexdigest(),
        "space": table.space.name,
        "budget": str(BUDGET),
        "settings": {
            key: getattr(options, key)
            for key in (
                "subnet_epochs",
                "batch_size",
                "learning_rate",
                "resolution",
                "calibration_images",
                "validation_images",
                "seed",
                "device",
            )
        },
        "searches": {"seeds": SEARCHES, "evaluations": OptunaConfig().max_evaluations},
        "reference": reference(table, {**sets, "all": np.arange(len(rows))}),
        "supernets": supernets,
        "bars": BARS,
        "judged": JUDGED,
        "holds": JUDGED in supernets and supernets[JUDGED]["meets_bars"],
    }
    print("\n".join(markdown(outcome)))
    if options.results:
        write_results(options.results, outcome, plot(outcome, table, sets, accuracies), "ranking")
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
