"""Ways in which a file of JSON, or of lines of JSON, is found damaged."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

#: What a value may have become.
OTHERS: tuple[Any, ...] = (None, True, -1, 0, 1e300, "x", "", [], {}, [[]], [None, "x"], {"x": 1})


def damages(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every kind of damage, by its name."""
    yield "empty", b""
    yield "NULs", bytes(len(content))
    for part in (0.1, 0.5, 0.98):
        yield f"cut at {part}", content[: int(part * len(content))]
    yield "NULs inside", content[: len(content) // 3] + bytes(20) + content[len(content) // 3 + 20 :]
    for _ in range(5):
        bit = rng.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(flipped)
    for whole in (b"null", b"[]", b"{}", b"3", b'"x"', b"[[]]", b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900):
        yield f"{whole[:6]!r}", whole
    yield from _of_values(content)


def _of_values(content: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        value, lines = json.loads(content), False
    except ValueError:  # a log
        value, lines = [json.loads(line) for line in content.splitlines()], True

    def written(changed: Any) -> bytes:
        return ("".join(json.dumps(v) + "\n" for v in changed) if lines else json.dumps(changed)).encode()

    for path in _paths(value):
        for name, changed in _changed(value, path):
            yield name, written(changed)


def _changed(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    where = "/".join(map(str, path))
    *parents, last = path
    for other in ("removed", float("nan"), *OTHERS):
        changed = copy.deepcopy(value)
        at = changed
        for key in parents:
            at = at[key]
        if other == "removed":
            del at[last]
        elif other == at[last]:
            continue
        else:
            at[last] = other
        yield f"{where}: {other!r}", changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value but those that stand beside others of their kind: of a list the first and the last."""
    if path:
        yield path
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, item in items if len(items) <= 12 and isinstance(value, dict) else items[:1] + items[1:][-1:]:
        yield from _paths(item, (*path, key))
