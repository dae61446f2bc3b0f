"""Claim: on PostgreSQL a candidate of an Optuna-driven search takes at most 20 statements, and 50 ms beside its
evaluation.

A worker's loop on space mbconv_cifar_small (34 choices) under a budget of MACs, with an instant evaluator: look for
dead workers, propose, write down, tell. Statements are counted as SQLAlchemy hands them to the driver. Optuna's own way
(a transaction a parameter, an attribute and a look) is timed beside it, in turns, on the same database. Run:
python benchmarks/database_proposals.py postgresql+psycopg://user@host/name [--candidates 100].
The studies are deleted afterwards. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import sqlalchemy
from rich.console import Console
from rich.table import Table

from se_nas.cost.budget import parse_budgets
from se_nas.cost.table import count_tables
from se_nas.hardware.environment import describe_environment
from se_nas.search.black_box import storage
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.black_box.storages.database import Database
from se_nas.search.black_box.study import ArchitectureStudy
from se_nas.space.yaml.file import load_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "mbconv_cifar_small.yaml"
BUDGETS = {"macs": "6M"}
BARS = {"statements": 20.0, "ms": 50.0}
"""Most a candidate: the mean of statements, the median of milliseconds."""
TURN = 10
"""Candidates of one way before the other's turn."""


@contextmanager
def statements_counted() -> Iterator[list[int]]:
    """Yields a list with the number of statements so far."""
    count = [0]

    def executed(*_: Any) -> None:
        count[0] += 1

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", executed)
    try:
        yield count
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", executed)


class Way:
    """One way to keep a study in the database, and what its candidates took.

    Args:
        kept_by: makes what stands between the study and Optuna's storage.
    """

    def __init__(self, url: str, name: str, kept_by: Callable[[Any], Any], most: int) -> None:
        space = load_space(SPACE)
        config = OptunaConfig(objectives=("accuracy", "macs"), max_evaluations=most)
        with mock.patch.object(storage, "Database", kept_by):
            self.study = ArchitectureStudy(
                name, space, parse_budgets(BUDGETS, "here"), count_tables(space), config, 0, url=url
            )
        self._most = most
        self.ms: list[float] = []
        self.cpu_ms: list[float] = []
        self.statements: list[int] = []

    def take(self, count: list[int]) -> None:
        """One candidate, as a worker takes it."""
        before, start, cpu = count[0], time.perf_counter(), time.process_time()
        with self.study.look():
            self.study.reap()
            _ = self.study.count(), self.study.running(), self.study.waiting, self.study.best_accuracy()
            candidate = self.study.ask(at_most=self._most)
        self.study.tell(candidate.number, 0.5, seconds=1.0, curve=[(0, 0.4)])
        self.ms.append((time.perf_counter() - start) * 1e3)
        self.cpu_ms.append((time.process_time() - cpu) * 1e3)
        self.statements.append(count[0] - before)

    def figures(self) -> dict[str, Any]:
        """Of a candidate."""
        return {
            "n": len(self.ms),
            "statements": round(statistics.mean(self.statements), 1),
            "median_ms": round(statistics.median(self.ms), 1),
            "range_ms": [round(min(self.ms), 1), round(max(self.ms), 1)],
            "cpu_median_ms": round(statistics.median(self.cpu_ms), 1),
        }


def measure(url: str, candidates: int) -> dict[str, dict[str, Any]]:
    """Figures by way, which take turns so that both find the machine equally busy."""
    prefix = f"database-proposals-{uuid.uuid4().hex[:8]}"
    with statements_counted() as count:
        ways = {
            "ours": Way(url, f"{prefix}-ours", Database, candidates + 1),
            "optuna": Way(url, f"{prefix}-optuna", lambda backend: backend, candidates + 1),
        }
        for done in range(0, candidates, TURN):
            for way in ways.values():
                for _ in range(min(TURN, candidates - done)):
                    way.take(count)
    for name in ways:
        optuna.delete_study(study_name=f"{prefix}-{name}", storage=url)
    return {name: way.figures() for name, way in ways.items()}


def main() -> None:
    """Measure, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a database; a password comes by PGPASSWORD or ~/.pgpass")
    parser.add_argument("--candidates", type=int, default=100)
    options = parser.parse_args()
    load_before = os.getloadavg()
    figures = measure(options.url, options.candidates)
    table = Table(title=f"{SPACE.stem}: a candidate")
    for heading in ("way", "candidates", "statements", "median ms", "from", "to", "CPU ms"):
        table.add_column(heading, justify="right")
    for name, f in figures.items():
        row = (f["n"], f["statements"], f["median_ms"], *f["range_ms"], f["cpu_median_ms"])
        table.add_row(name, *map(str, row))
    Console(width=120).print(table)
    ours, theirs = figures["ours"], figures["optuna"]
    print(
        json.dumps(
            {
                "benchmark": "database_proposals",
                "environment": describe_environment().plain(),
                "load_average": [load_before, os.getloadavg()],
                "space": SPACE.stem,
                "figures": figures,
                "ratio": round(theirs["median_ms"] / ours["median_ms"], 2),
                "bars": BARS,
                "holds": ours["statements"] <= BARS["statements"] and ours["median_ms"] <= BARS["ms"],
            }
        )
    )


if __name__ == "__main__":
    main()
