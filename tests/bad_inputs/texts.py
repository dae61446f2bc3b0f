"""Bad YAML: texts that are none, and run files and spaces with one value that cannot be."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.bad_inputs.attempts import Attempt
from tests.bad_inputs.made import DIFFERENTIABLE, TABULAR
from tests.helpers.nested import places_in
from tests.helpers.tiny_runs import SPACE, write_yaml

SHOW = ("space", "show", "space.yaml")
SEARCH = ("search", "run.yaml", "--out", "out", "--quiet")

#: What a value may be instead; the great ones are what cannot be built.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e300, float("nan"), float("inf"), 10**9, 10**30, "x", "", "\x00", "é" * 300, "1e400"),
    *([], [[]], [None, "x"], {}, {"x": 1}, [1] * 3000, "${env:NONE}", "~/none", "../none", "/dev/null"),
)
_DEEP = 3000
TEXTS: dict[str, str | bytes] = {
    "nothing": "",
    "a blank": " \n",
    "a comment alone": "# name: x\n",
    "null": "null\n",
    "a number": "3\n",
    "a list": "- 1\n- 2\n",
    "a word": "space\n",
    "two documents": "name: a\n---\nname: b\n",
    "a tab": "name:\tx\n\tspace: y\n",
    "no end of a string": 'name: "x\n',
    "no end of a list": "name: [1, 2\n",
    "no end of a mapping": "name: {a: 1\n",
    "a key twice": "name: a\nname: b\n",
    "a key twice below": "stages:\n- {width: 8, width: 16}\n",
    "no alias": "name: *x\n",
    "an alias of itself": "name: &x [*x]\n",
    "aliases that grow": "a: &a [x, x]\n"
    + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n"
        for a, b in zip("abcdefghijklmnopqrstuvwxy", "bcdefghijklmnopqrstuvwxyz", strict=True)
    ),
    "a merge of itself": "a: &a\n  <<: *a\n",
    "a merge of a word": "<<: x\nname: y\n",
    "lists in lists": "name: " + "[" * _DEEP + "]" * _DEEP + "\n",
    "lists without an end": "[" * _DEEP,
    "mappings in mappings": "{a: " * _DEEP + "1" + "}" * _DEEP + "\n",
    "dashes": "- " * _DEEP + "1\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a key that is a mapping": "{a: 1}: 2\n",
    "a key that is null": "null: 2\n",
    "a key that is a number": "3: 2\nname: x\n",
    "a long key": "k" * 100_000 + ": 1\n",
    "a long word": "name: " + "x" * 1_000_000 + "\n",
    "a long file": "# x\n" * 1_000_000,
    "many digits": "seed: " + "9" * 5000 + "\n",
    "many hexadecimal digits": "seed: 0x" + "f" * 5000 + "\n",
    "many binary digits": "seed: 0b" + "1" * 100_000 + "\n",
    "base sixty": "seed: 1:30\n",
    "base eight": "seed: 010\n",
    "a date that there is not": "name: 2026-13-45\n",
    "a time that there is not": "name: 2026-01-01 25:61:61\n",
    "a date": "name: 2026-01-01\n",
    "a Python object": "name: !!python/object/apply:os.system ['true']\n",
    "a Python tuple": "name: !!python/tuple [1, 2]\n",
    "a tag of nobody": "name: !x 3\n",
    "a set": "name: !!set {a, b}\n",
    "an ordered mapping": "name: !!omap [a: 1]\n",
    "pairs": "name: !!pairs [a: 1, a: 2]\n",
    "bytes": "name: !!binary aGVsbG8=\n",
    "bytes that are none": "name: !!binary x\n",
    "a number that is none": "seed: !!int x\n",
    "a float that is none": "seed: !!float x\n",
    "a truth that is none": "seed: !!bool x\n",
    "a null that is none": "seed: !!null x\n",
    "a date that is none": "seed: !!timestamp x\n",
    "a mapping that is none": "!!map x\n",
    "a list that is none": "!!seq x\n",
    "a directive": "%YAML 9.9\n---\nname: x\n",
    "a directive of nobody": "%FOO\n---\nname: x\n",
    "a tag without an end": "%TAG ! \n---\nname: x\n",
    "an anchor twice": "a: &x 1\nb: &x 2\nname: *x\n",
    "an equals sign": "name: =\n",
    "a NUL": "name: a\x00b\n",
    "a control character": "name: a\x07b\n",
    "Latin-1": b"name: caf\xe9\n",
    "UTF-16": "name: x\n".encode("utf-16"),
    "UTF-32": "name: x\n".encode("utf-32"),
    "a byte order mark": "\ufeffname: x\n",
    "half a character": b"name: \xe2\x82\n",
    "a lone surrogate": 'name: "\\ud800"\n',
    "an escape of nobody": 'name: "\\q"\n',
    "an escape without an end": 'name: "\\x1\n',
    "a text indented by nothing": "name: |\nx\n",
    "an indentation of nobody": "name: |99\n  x\n",
    "carriage returns": "name: x\rspace: y\r",
    "a JSON file": '{"name": "x", "space": "space.yaml"}',
    "an XML file": "<name>x</name>\n",
    "a PNG file": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93.",
    "a zip file": b"PK\x03\x04" + bytes(64),
    "random bytes": random.Random(0).randbytes(4096),
}


def texts(rng: random.Random) -> Iterator[Attempt]:
    """Texts that are no space and no run file, and files that are damaged."""
    for file, command in (("space.yaml", SHOW), ("run.yaml", SEARCH)):
        good = yaml.safe_dump(SPACE if file == "space.yaml" else TABULAR, sort_keys=False).encode()
        cases = [(name, text if isinstance(text, bytes) else text.encode()) for name, text in TEXTS.items()]
        cases += [(f"cut at {at}", good[:at]) for at in range(1, len(good), max(1, len(good) // 25))]
        for _ in range(60):
            at, bit = rng.randrange(len(good)), rng.randrange(8)
            flipped = bytearray(good)
            flipped[at] ^= 1 << bit
            cases.append((f"bit {bit} of byte {at}", bytes(flipped)))
        for name, content in cases:
            yield Attempt("YAML text", f"{file}: {name}", command, "tabular_files", _bytes(file, content))


def run_files(rng: random.Random) -> Iterator[Attempt]:
    """Run files with a value that is none, an unknown key, or a part that is missing."""
    more = {"evidence": {"seeds": [0]}, "nni": {"concurrency": 2}, "plugins": [], "loggers": []}
    for base, run in (("tabular_files", TABULAR), ("differentiable_files", {**DIFFERENTIABLE, **more})):
        for name, value in _changes(run, rng, 6):
            yield Attempt("run files", f"{base}: {name}", SEARCH, base, _yaml("run.yaml", value))


def spaces(rng: random.Random) -> Iterator[Attempt]:
    """Spaces with a value that is none, that cannot be built, an unknown key, or a part that is missing."""
    whole = {**SPACE, "classes": 10, "channels": 3, "head": {"width": 16, "dropout": 0.1}}
    for name, value in _changes(whole, rng, 12):
        yield Attempt("spaces", name, SHOW, "tabular_files", _yaml("space.yaml", value))


def _changes(value: dict[str, Any], rng: random.Random, each: int) -> Iterator[tuple[str, Any]]:
    """The value with one part of it another, removed, or with a neighbour that nobody knows."""
    for path in places_in(value):
        where = ".".join(map(str, path))
        for other in rng.sample(VALUES, min(each, len(VALUES))):
            yield f"{where}: {other!r:.60}", _with(value, path, other)
        yield f"{where}: removed", _with(value, path, None, remove=True)
        if isinstance(path[-1], str):
            yield f"{where}: an unknown neighbour", _with(value, (*path[:-1], f"{path[-1]}x"), 1)


def _with(value: Any, path: tuple[Any, ...], other: Any, remove: bool = False) -> Any:
    value = copy.deepcopy(value)
    *parents, last = path
    at = value
    for key in parents:
        at = at[key]
    if remove:
        del at[last]
    else:
        at[last] = other
    return value


def _bytes(file: str, content: bytes) -> Any:
    return lambda place: (place / file).write_bytes(content)


def _yaml(file: str, value: Any) -> Any:
    def write(place: Path) -> None:
        write_yaml(place / file, value)

    return write
