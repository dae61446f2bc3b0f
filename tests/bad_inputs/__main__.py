"""Try bad inputs of every kind, each in a process of its own, and count what becomes of them.

    python -m tests.bad_inputs [--every N] [--seed N] [--only CATEGORY] [--limit SECONDS]

The last line is one JSON with the figures. Exit code 0 where no input ended in a traceback and none hung.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bad_inputs import artefacts, attempts, images, made, texts, words
from tests.bad_inputs.attempts import Attempt, Outcome

SOURCES: tuple[Callable[[random.Random], Iterator[Attempt]], ...] = (
    texts.texts,
    texts.run_files,
    texts.spaces,
    artefacts.architectures,
    artefacts.run_artefacts,
    artefacts.latency_tables,
    artefacts.checkpoints,
    images.image_folders,
    images.shards,
    words.command_lines,
    words.environments,
)
COLUMNS = ("refused", "harmless", "traceback", "hang")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="try one in so many of each category")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn by chance")
    parser.add_argument("--only", help="one category")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which an input counts as hanging")
    options = parser.parse_args()
    # what is tried must not be told apart by the machine, and never reaches a user's own cache
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SE_NAS_STORAGE"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="bad_inputs_") as folder:
        home = Path(folder)
        bases = home / "bases"
        os.environ["SE_NAS_CACHE"] = str(bases)
        outcome = attempts.in_child(lambda: made.made(bases), 600.0)
        if outcome.result != "harmless":
            print(f"the good inputs could not be made: {outcome.words}", file=sys.stderr)
            return 1
        return _report(options, bases, home)


def _report(options: argparse.Namespace, bases: Path, home: Path) -> int:
    began, counts, short = time.monotonic(), dict[str, Counter[str]](), list[tuple[Attempt, Outcome]]()
    for source in SOURCES:
        every = list(source(random.Random(options.seed)))
        if options.only is not None and options.only not in every[0].category:
            continue
        for number, attempt in enumerate(every[:: options.every]):
            outcome = attempts.tried(attempt, bases, home / f"{source.__name__}_{number}", options.limit)
            counts.setdefault(attempt.category, Counter())[outcome.result] += 1
            if outcome.result in ("traceback", "hang"):
                short.append((attempt, outcome))
                print(
                    f"{outcome.result}: {attempt.category}: {attempt.name}\n{outcome.words}",
                    file=sys.stderr,
                    flush=True,
                )
    print(f"{'':20}" + "".join(f"{name:>11}" for name in ("tried", *COLUMNS)))
    for category, found in counts.items():
        print(f"{category:20}" + "".join(f"{number:11,}" for number in (found.total(), *(found[c] for c in COLUMNS))))
    total = sum(counts.values(), Counter[str]())
    figures = {
        "tried": total.total(),
        **{name: total[name] for name in COLUMNS},
        "categories": {category: dict(found) for category, found in counts.items()},
        "seconds": round(time.monotonic() - began, 1),
        "bars": {"traceback": 0, "hang": 0},
        "holds": not short,
    }
    print(json.dumps(figures))
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
