"""Question: which of our samplers finds the best placement of SE, and after how many evaluations?

The table is what benchmarks/se_table.py merges: all 243 placements of SE in five blocks, each trained on CIFAR-10. A
search sees the mean of a network's trainings; see `regret.py` for what its regret is. The best of a noisy table is the
luckiest too, so that there is a second table: a search sees one training, as in life, and what it would hand back is
judged by the linear model of the placements that se_table_answers.py takes, which has less of the noise: also by it
regrets are told a little too large, the smaller all effects are the more. Networks are searched within the parameters
of the paper's SE everywhere (ratio 16), and with no bound.
Run:
python benchmarks/se_table_regret.py TABLE.json [--results FOLDER] [--processes 2]. The last line is one JSON object.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ends import one_line_errors
from regret import KnownTable, Setup, Study, parser_of, plot, search_all, told, write_results
from se_table_answers import Model, Placements

from se_nas.cost.budget import Budget
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
    """Read a whole table, whose trainings are those of the seeds that all networks have; see `Placements`."""
    found, space = read_record(NetworkTable, path), load_space(SPACE)
    if found.space.digest != space.digest:
        raise SystemExit(f"{path}: must be of the space {space.name} as it is now, but it is of another")
    if len(found.networks) < space.size:
        has = f"it has {len(found.networks)} of {space.size}"
        raise SystemExit(f"{path}: must have every placement of {space.name}, but {has}")
    placements = Placements(found)
    networks = [space.architecture(network.picks) for network in found.networks]
    rows = np.array([[c.options.index(a[c.name]) for c in space.choices] for a in networks], dtype=np.intp)
    model = Model.chosen(placements)
    return KnownTable(space, rows, placements.accuracies, model.fitted, "the linear model of the placements")


def study_of(table: KnownTable) -> Study:
    """Searches without a bound, and within the parameters of the paper's SE everywhere."""
    everywhere = table.space.architecture({choice.name: PAPERS for choice in table.space.choices})
    params = table.costs["params"]
    budgets = (Budget("params", float(params[table.index[everywhere]])), Budget("params", float(params.max())))
    return Study(budgets, MARKS, PLAIN + NOISY, first=2, highest=1.5, tick=0.5)


@one_line_errors()
def main() -> None:
    """Search the table with every sampler; print tables for people and one JSON object."""
    options = parser_of(__doc__, "what se_table.py merged", PLAIN).parse_args()
    environment = describe_environment().plain()
    table = load_table(options.table)
    study, samplers = study_of(table), options.samplers.split(",")
    curves, seconds = search_all(load_table, options.table, study, samplers, options.seeds, options.processes)
    outcome: dict[str, Any] = {
        "benchmark": "se_table_regret",
        "environment": environment,
        "table_sha256": hashlib.sha256(options.table.read_bytes()).hexdigest(),
        "trainings": table.accuracies.shape[1],
        "noise": read_record(NetworkTable, options.table).noise.plain(),
        **told(table, study, curves, seconds),
    }
    if options.results:
        write_results(options.results, outcome, plot(curves, table, study))
    print(json.dumps({k: v for k, v in outcome.items() if not k.startswith("searches")}))


if __name__ == "__main__":
    main()
