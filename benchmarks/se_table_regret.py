"""Question: which of our samplers finds the best placement of SE, and after how many evaluations?

The table is what benchmarks/se_table.py merges: all 243 placements of SE in five blocks, each trained on CIFAR-10. A
search sees the mean of a network's trainings; see `regret.py` for what its regret is. Where all networks have two
seeds or more there is a second table: a search sees one training, as in life, and what it would hand back is judged by
the mean. Networks are searched within the parameters of the paper's SE everywhere (ratio 16), and with no bound. Run:
python benchmarks/se_table_regret.py TABLE.json [--results FOLDER] [--processes 2]. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from regret import (
    KnownTable,
    Setup,
    Study,
    markdown,
    noisy_uniform_row,
    plot,
    rows_of,
    search_all,
    uniform_row,
    write_results,
)

from se_nas.cost.budget import Budget
from se_nas.errors import SeNasError
from se_nas.hardware.environment import describe_environment
from se_nas.records.models.network_table import NetworkTable
from se_nas.records.record import read_record
from se_nas.space.yaml.file import load_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "se_table.yaml"
PAPERS = "r16"
"""Everywhere in a block of the paper's network; its parameters are the smaller budget."""
MARKS = (10, 20, 50, 100)
MOST = MARKS[-1]
BOTH = ("accuracy", "params")
PLAIN = (
    Setup("evolution", MOST),
    Setup("nsga2", MOST),
    Setup("nsga2", MOST, BOTH),
    Setup("nsga3", MOST),
    Setup("nsga3", MOST, BOTH),
    Setup("tpe", MOST),
    Setup("tpe", MOST, BOTH),
    Setup("gp", MOST),
    Setup("random", MOST),
    Setup("predictor", MOST),
)
NOISY = tuple(Setup(name, MOST, noisy=True) for name in ("evolution", "tpe", "predictor"))


def load_table(path: Path) -> KnownTable:
    """Read a whole table, whose trainings are those of the seeds that all networks have."""
    found, space = read_record(NetworkTable, path), load_space(SPACE)
    seeds = sorted(set.intersection(*(set(network.accuracies) for network in found.networks)))
    if len(found.networks) < space.size or not seeds:
        of_all = f"it has {len(found.networks)} of {space.size} and {len(seeds)} seeds that all have"
        raise SystemExit(f"{path}: must have every placement with one seed or more, but {of_all}")
    networks = [space.architecture(network.picks) for network in found.networks]
    rows = np.array([[c.options.index(a[c.name]) for c in space.choices] for a in networks], dtype=np.intp)
    accuracies = 100 * np.array([[network.accuracies[seed] for seed in seeds] for network in found.networks])
    return KnownTable(space, rows, accuracies)


def study_of(table: KnownTable) -> Study:
    """Searches without a bound, and within the parameters of the paper's SE everywhere."""
    everywhere = table.space.architecture({choice.name: PAPERS for choice in table.space.choices})
    params = table.costs["params"]
    budgets = (Budget("params", float(params[table.index[everywhere]])), Budget("params", float(params.max())))
    several = table.accuracies.shape[1] > 1
    return Study(budgets, MARKS, PLAIN + (NOISY if several else ()), first=2, highest=1.5, tick=0.5)


def main() -> None:
    """Search the table with every sampler; print tables for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="what se_table.py merged")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="write regrets.json and regrets.png there")
    parser.add_argument("--samplers", default=",".join(dict.fromkeys(s.sampler for s in PLAIN)), help="with commas")
    parser.add_argument("--seeds", type=int, default=20, help="at most so many searches of each kind")
    parser.add_argument("--processes", type=int, default=1, help="searches at a time")
    options = parser.parse_args()
    environment = describe_environment().plain()
    table = load_table(options.table)
    study, samplers = study_of(table), options.samplers.split(",")
    curves, seconds = search_all(load_table, options.table, study, samplers, options.seeds, options.processes)
    trainings = table.accuracies.shape[1]
    tables = {"searches": {"uniform random": uniform_row(table, study), **rows_of(curves, seconds, study, noisy=False)}}
    print("Median (mean) regret in points; what a search sees is the mean of a network's trainings:\n")
    print("\n".join(markdown(tables["searches"], study)))
    if trainings > 1:
        rows = {"uniform random": noisy_uniform_row(table, study), **rows_of(curves, seconds, study, noisy=True)}
        tables["searches_seeing_one_training"] = rows
        print("\nThe same where it sees one training, judged by the mean:\n")
        print("\n".join(markdown(rows, study)))
    outcome: dict[str, Any] = {
        "benchmark": "se_table_regret",
        "environment": environment,
        "table_sha256": hashlib.sha256(options.table.read_bytes()).hexdigest(),
        "trainings": trainings,
        "budgets": {
            str(b): {"networks": len(w := table.within(b)), "best_accuracy": round(float(table.means[w].max()), 4)}
            for b in study.budgets
        },
        **tables,
    }
    if options.results:
        write_results(options.results, outcome, plot(curves, table, study))
    print(json.dumps({k: v for k, v in outcome.items() if not k.startswith("searches")}))


if __name__ == "__main__":
    try:
        main()
    except (SeNasError, OSError) as error:
        raise SystemExit(str(error)) from error
