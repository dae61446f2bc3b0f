"""Claim: `import se_nas` takes under 0.1 s and `se-nas --help` under 0.7 s.

Medians of whole processes that take turns, so that the machine's drift hits all; what the bare interpreter takes is
subtracted from the import. `optuna --help` stands beside them as another command line of the field.
Run: python benchmarks/startup.py [--repeats 10]. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

BARS = {"import se_nas": 0.1, "se-nas --help": 0.7}
"""Most seconds."""
BARE = "bare Python"
COMMANDS = {
    BARE: ["-c", "pass"],
    "import se_nas": ["-c", "import se_nas"],
    "se-nas --help": ["-m", "se_nas", "--help"],
    "se-nas retrain --help": ["-m", "se_nas", "retrain", "--help"],  # the longest, with lists of what can be named
    "se-nas version": ["-m", "se_nas", "version"],
    "optuna --help": ["-c", "from optuna.cli import main; import sys; sys.argv = ['optuna', '--help']; main()"],
}


def seconds(words: list[str]) -> float:
    """What one process takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print a table, and as the last line the figures, the bars and whether they hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    for words in COMMANDS.values():
        seconds(words)  # into the file cache
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, words in COMMANDS.items():
            taken[name].append(seconds(words))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    medians["import se_nas"] -= medians[BARE]
    table = Table("what", "median of " + str(repeats), "bar", box=None)
    for name, value in medians.items():
        table.add_row(name, f"{value:.3f} s", f"{BARS[name]:g} s" if name in BARS else "")
    Console().print(table)
    holds = {name: medians[name] < bar for name, bar in BARS.items()}
    print(json.dumps({"seconds": medians, "repeats": repeats, "bars": BARS, "holds": holds}))


if __name__ == "__main__":
    main()
