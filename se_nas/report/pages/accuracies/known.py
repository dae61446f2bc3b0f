"""How accurate a network is with each of the weights that it has: inherited, fine-tuned, from scratch, transferred."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from se_nas.errors import counted
from se_nas.evidence.intervals import accuracy_interval
from se_nas.records.files import read_json
from se_nas.records.models.run_result import ImageNetResult, RetrainResult, RunResult, SubnetResult
from se_nas.records.record import parse_record, read_record
from se_nas.report.theme.words import format_percent
from se_nas.space.architecture_file import load_architecture

#: In the folder of weights, where they are trained on; on other images, whose name follows, in the second.
FINE_TUNED, TRANSFERRED = "fine-tuned", "transfer-"
_ARCHITECTURE, _RESULT, _SUBNET, _RETRAINING = "architecture.json", "result.json", "subnet", "retrain"


@dataclass(frozen=True, kw_only=True)
class KnownAccuracy:
    """That of a network with some weights on test images.

    Attributes:
        weights: which, in words.
        data, classes: of the images.
        frozen: what stayed as it was in the last training, in words.
    """

    weights: str
    data: str
    classes: int
    accuracy: float
    images: int
    frozen: str = ""

    @property
    def share(self) -> str:
        """The accuracy in per cent."""
        return format_percent(self.accuracy, 2)

    @property
    def interval(self) -> str:
        """Its 95 % interval."""
        return accuracy_interval(self.accuracy, self.images)

    def words(self) -> str:
        """All of it in one line."""
        frozen = f", {self.frozen} frozen" if self.frozen else ""
        return f"{self.weights}{frozen}: {self.accuracy:.2%} of {self.images:,} test images of {self.data}"


def known_accuracies(folder: Path, run: Path | None) -> list[KnownAccuracy]:
    """Those of the network in a folder of trained weights.

    Args:
        folder: of a subnet, a cut network or a retraining.
        run: the search that the network is of, where its answer may be this one, trained from scratch.

    Raises:
        ConfigError, ArchitectureError: a file is damaged.
    """
    trained_on = list(_trained_on(folder))
    return [
        *(_as_it_is(folder) if _is_subnet(folder / _RESULT) else ()),
        *(row for tuned, row in trained_on if tuned),
        *(() if run is None else _from_scratch(run, folder)),
        *(row for tuned, row in trained_on if not tuned),
    ]


def of_run(run: Path) -> list[KnownAccuracy]:
    """Those of the answer of a run, where more than its training from scratch is known; else none.

    Raises:
        ConfigError, ArchitectureError: a file is damaged.
    """
    subnet = run / _SUBNET
    rows = known_accuracies(subnet if _is_subnet(subnet / _RESULT) else run, run)
    rows += [replace(row, weights=f"from scratch, then {row.weights}") for _, row in _trained_on(run / _RETRAINING)]
    return rows if len(rows) > 1 else []


def _is_subnet(path: Path) -> bool:
    found = read_json(path) if path.exists() else None
    return isinstance(found, dict) and found.get("format") == SubnetResult.model_fields["format"].default


def _as_it_is(folder: Path) -> Iterator[KnownAccuracy]:
    """A network with the weights of a supernet, or what is left of one that was cut, before any training."""
    found = read_record(SubnetResult, folder / _RESULT)
    shares = {"with the supernet's weights": found.test_accuracy}
    if found.accuracy_before is not None:
        shares = {"before it was cut": found.accuracy_before, "cut": found.test_accuracy}
    for words, share in shares.items():
        yield KnownAccuracy(
            weights=words,
            data=found.data,
            classes=_classes(folder),
            accuracy=share,
            images=found.test_images,
        )


def _from_scratch(run: Path, folder: Path) -> Iterator[KnownAccuracy]:
    """The training of a run's answer, where that is the network in the folder."""
    files = (run / _RESULT, run / _ARCHITECTURE, folder / _ARCHITECTURE)
    if not all(path.exists() for path in files):
        return
    result = read_record(RunResult, run / _RESULT)
    same = load_architecture(run / _ARCHITECTURE).network == load_architecture(folder / _ARCHITECTURE).network
    if result.retrain is not None and same:
        yield KnownAccuracy(
            weights=f"trained from scratch for {counted(result.retrain.epochs, 'epoch')}",
            data=result.data.name,
            classes=result.data.classes,
            accuracy=result.retrain.test_accuracy,
            images=result.retrain.test_images,
        )


def _trained_on(folder: Path) -> Iterator[tuple[bool, KnownAccuracy]]:
    """The trainings in a folder of weights that began with these, and whether each was on the same images."""
    for place in (folder / FINE_TUNED, *sorted(folder.glob(f"{TRANSFERRED}*"))):
        path = place / _RESULT
        if not path.exists():
            continue
        found = read_json(path)
        if isinstance(found, dict) and "ledger" in found:
            streamed = parse_record(ImageNetResult, found, str(path)).retrain
            data, epochs, started = streamed.data, streamed.epochs, streamed.started_from
            accuracy, images = streamed.top1, streamed.held_out_images
        else:
            held = parse_record(RetrainResult, found, str(path))
            data, epochs, started = held.data, held.retrain.epochs, held.retrain.started_from
            accuracy, images = held.retrain.test_accuracy, held.retrain.test_images
        tuned = place.name == FINE_TUNED
        anew = " with a new classifier" if started is not None and started.replaced else ""
        row = KnownAccuracy(
            weights=f"{'fine-tuned' if tuned else 'transferred'}{anew} for {counted(epochs, 'epoch')}",
            data=data,
            classes=_classes(place),
            accuracy=accuracy,
            images=images,
            frozen=started.frozen_words if started is not None else "",
        )
        yield tuned, row


def _classes(folder: Path) -> int:
    return load_architecture(folder / _ARCHITECTURE).network.head.classes
