"""What se_nas wrote and somebody damaged: architectures, files of a run, latency tables, weights and checkpoints."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.bad_inputs.attempts import Attempt
from tests.records.damages import damages

REPORT = ("report", "out")
AGAIN = ("search", "run.yaml", "--out", "out", "--resume", "--quiet")
DECODE = ("decode", "out", "--budget", "macs=80k", "--out", "other")
EXPORT = ("export", "out/retrain", "--to", "plain")
EVALUATE = ("evaluate", "out/retrain", "--quiet")

#: Run, file, commands that read it.
FILES: tuple[tuple[str, str, tuple[tuple[str, ...], ...]], ...] = (
    ("tabular", "result.json", (REPORT,)),
    ("tabular", "architecture.json", (REPORT, AGAIN)),
    ("tabular", "certificate.json", (REPORT, AGAIN)),
    ("tabular", "decodes.json", (AGAIN,)),
    ("tabular", "choices.json", (REPORT,)),
    ("tabular", "environment.json", (AGAIN,)),
    ("tabular", "parts.json", (AGAIN,)),
    ("tabular", "search/study.json", (AGAIN,)),
    ("tabular", "search/study.journal", (AGAIN,)),
    ("tabular", "search/study.journal.sum", (AGAIN,)),
    ("tabular", "search/table.jsonl", (AGAIN,)),
    ("tabular", "search/evaluations.json", (REPORT, AGAIN, DECODE)),
    ("tabular", "search/importance.json", (REPORT,)),
    ("differentiable", "result.json", (REPORT,)),
    ("differentiable", "search/history.json", (REPORT,)),
    ("differentiable", "retrain/history.json", (REPORT,)),
    ("differentiable", "search/scores.json", (DECODE,)),
    ("differentiable", "search/log.jsonl", (AGAIN,)),
    ("differentiable", "retrain/architecture.json", (EXPORT, EVALUATE)),
    ("differentiable", "retrain/data.json", (EXPORT, EVALUATE)),
)
_JSON = "files of a run"


def run_artefacts(rng: random.Random) -> Iterator[Attempt]:
    """A share of every kind of damage to every file that a command reads."""
    for run, file, commands in FILES:
        for command in commands:
            for number in range(14):
                yield _damaged(_JSON, run, f"out/{file}", command, rng.randrange(2**31), number)
            for name, spoil in _PLACES.items():
                yield Attempt(
                    _JSON, f"{file}: {name}: {command[0]}", command, run, _spoiled(f"out/{file}", spoil), search=True
                )


def architectures(rng: random.Random) -> Iterator[Attempt]:
    """architecture.json with one value another."""
    export = ("export", "architecture.json", "--weights", "network.pt", "--to", "plain", "--out", "plain")
    for number in range(160):
        yield _damaged("architecture.json", "network", "architecture.json", export, rng.randrange(2**31), number)


def latency_tables(rng: random.Random) -> Iterator[Attempt]:
    """The table of a run, and that of the cache."""
    for number in range(60):
        yield _damaged("latency tables", "tabular", "out/latency.json", DECODE, rng.randrange(2**31), number)
        yield _damaged(
            "latency tables",
            "cached",
            "latency/*.json",
            ("space", "show", "space.yaml"),
            rng.randrange(2**31),
            number,
            {"SE_NAS_CACHE": "."},
        )


def _damaged(
    category: str,
    base: str,
    file: str,
    command: tuple[str, ...],
    seed: int,
    number: int,
    environment: dict[str, str] | None = None,
) -> Attempt:
    """One damage of a file, drawn by chance: every kind as likely as any."""

    def write(place: Path) -> None:
        path = next(iter(sorted(place.glob(file))))
        content = path.read_bytes()
        rng = random.Random(seed)
        try:
            found = list(damages(content, rng))
        except ValueError:  # neither JSON nor lines of JSON
            found = [(f"bit {i}", _flipped(content, rng)) for i in range(20)]
        path.write_bytes(found[rng.randrange(len(found))][1])

    return Attempt(
        category,
        f"{file}: damage {number} ({seed}): {command[0]}",
        command,
        base,
        write,
        environment or {},
        search=True,
    )


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def checkpoints(rng: random.Random) -> Iterator[Attempt]:
    """Weights and checkpoints: cut, flipped, of somebody else, of other shapes, with what no number is."""
    for file, command in (
        ("out/retrain/network.pt", EXPORT),
        ("out/retrain/network.pt", EVALUATE),
        ("out/search/checkpoint.pt", AGAIN),
        ("out/retrain/checkpoint.pt", AGAIN),
    ):
        for name, spoil in {**_weights(rng), **_PLACES}.items():
            yield Attempt(
                "checkpoints",
                f"{file}: {name}: {command[0]}",
                command,
                "differentiable",
                _spoiled(file, spoil),
                search=True,
            )


def _weights(rng: random.Random) -> dict[str, Callable[[Path], object]]:
    found: dict[str, Callable[[Path], object]] = {"empty": lambda path: path.write_bytes(b"")}
    for share in (0.01, 0.3, 0.9, 0.999):
        found[f"cut at {share}"] = (
            lambda path, share=share: path.write_bytes(  # type: ignore[misc]
                path.read_bytes()[: int(share * path.stat().st_size)]
            )
        )
    for number in range(8):
        seed = rng.randrange(2**31)
        found[f"bits flipped {number}"] = lambda path, seed=seed: path.write_bytes(  # type: ignore[misc]
            _flipped(path.read_bytes(), random.Random(seed))
        )
    others: dict[str, Any] = {
        "a list": [1, 2],
        "a tensor": torch.zeros(3),
        "no tensors": {},
        "a word": {"weights": "x"},
        "nested": {"supernet": {"a": {"b": {}}}},
        "an architecture": {"state_dict": {"conv.weight": torch.zeros(4, 4)}},
        "NaN": {"network": {"stem.weight": torch.full((2, 2), float("nan"))}},
        "a long name": {"x" * 100_000: torch.zeros(1)},
    }
    for name, value in others.items():
        found[name] = lambda path, value=value: torch.save(value, path)  # type: ignore[misc]
    found["a pickle that runs"] = lambda path: path.write_bytes(pickle.dumps(_Runs()))
    found["a torch pickle that runs"] = lambda path: torch.save(_Runs(), path)
    found["a zip of something"] = _zip
    found["random bytes"] = lambda path: path.write_bytes(random.Random(1).randbytes(10_000))
    found["a text"] = lambda path: path.write_text("weights\n")
    for name, change in {
        "swapped": _swap,
        "of other shapes": _reshape,
        "with one lost": _lose,
        "as NaN": _spoil,
    }.items():
        found[f"tensors {name}"] = lambda path, change=change: _of_tensors(path, change)  # type: ignore[misc]
    return found


class _Runs:
    """Its pickle would make a file."""

    def __reduce__(self) -> Any:
        return (open, ("it_ran", "w"))


def _zip(path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("data.pkl", b"\x80\x02}q\x00.")
    path.write_bytes(buffer.getvalue())


def _of_tensors(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first mapping of tensors in a file that torch wrote, and write it anew."""
    value = torch.load(path, weights_only=True)

    def find(part: Any) -> dict[str, Any] | None:
        if not isinstance(part, dict):
            return None
        if sum(isinstance(item, torch.Tensor) for item in part.values()) > 3:
            return part
        return next((found for item in part.values() if (found := find(item)) is not None), None)

    tensors = find(value)
    if tensors is not None:
        change(tensors)
    torch.save(value, path)


def _swap(tensors: dict[str, Any]) -> None:
    names = [name for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)]
    first, last = names[0], names[-1]
    tensors[first], tensors[last] = tensors[last], tensors[first]


def _reshape(tensors: dict[str, Any]) -> None:
    name = next(name for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor))
    tensors[name] = torch.zeros(7, 7)


def _lose(tensors: dict[str, Any]) -> None:
    del tensors[next(iter(tensors))]


def _spoil(tensors: dict[str, Any]) -> None:
    name = next(n for n, tensor in tensors.items() if isinstance(tensor, torch.Tensor) and tensor.is_floating_point())
    tensors[name] = torch.full_like(tensors[name], float("nan"))


def _spoiled(file: str, spoil: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda place: spoil(place / file)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _fifo(path: Path) -> None:
    import os

    path.unlink()
    os.mkfifo(path)


#: What may stand where a file did.
_PLACES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "a folder": _folder,
    "a link to itself": _link,
    "a FIFO": _fifo,
}
