"""Claim: on NAS-Bench-Macro under budgets of 40 and 60 MMACs the default sampler's median regret after 200 evaluations
is at most half of uniform random search's.

NAS-Bench-Macro (Su et al., arXiv 2103.11922) trained all 6,561 networks of a space on CIFAR-10, three times each. A
search here sees the mean of the three test accuracies; see `regret.py` for what its regret is. In a second table a
search sees one training's accuracy, as in life, and what it would hand back is judged by the mean of the three.

The table is data/nas-bench-macro_cifar10.json of https://github.com/xiusu/NAS-Bench-Macro; it may be packed by xz or
gzip. --write-table converts it for `evaluator: table` of a run file and ends. Run:
python benchmarks/nas_bench_macro.py TABLE.json [--write-table FILE.jsonl] [--results FOLDER] [--processes 2].
The Gaussian process needs a second a proposal when it knows hundreds of networks, so it gets fewer evaluations and
seeds; it still takes most of the time, some 15 minutes of a core, and --samplers can leave it out. The last line is one
JSON object.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np
from ends import one_line_errors
from regret import KnownTable, Setup, Study, parser_of, plot, search_all, told, write_results

from se_nas.cost.budget import Budget
from se_nas.hardware.environment import describe_environment
from se_nas.records.files import write_atomic
from se_nas.search.black_box.config import OptunaConfig
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "nas_bench_macro.yaml"
BUDGETS = (Budget("macs", 40e6), Budget("macs", 60e6))
MARKS = (50, 100, 200, 500)
MOST = MARKS[-1]
BARS = {"default_share_of_uniform": 0.5, "at": 200}
"""Most median regret of the default sampler, as a share of uniform random search's, after so many evaluations."""
BOTH = ("accuracy", "macs")
SETUPS = (
    Setup("evolution", MOST),
    Setup("nsga2", MOST),
    Setup("nsga2", MOST, BOTH),
    Setup("nsga3", MOST),
    Setup("nsga3", MOST, BOTH),
    Setup("tpe", MOST),
    Setup("tpe", MOST, BOTH),
    Setup("gp", 200, seeds=5),
    Setup("random", MOST),
    Setup("predictor", MOST),
    Setup("evolution", MOST, noisy=True),
    Setup("predictor", MOST, noisy=True),
)
DEFAULT = SETUPS[0]
"""What `sampler: auto` is for accuracy alone."""
STUDY = Study(BUDGETS, MARKS, SETUPS, first=10, highest=0.8, tick=0.2)


class MacroTable(KnownTable):
    """The published networks, whose costs must be what this package counts."""

    def __init__(self, space: SearchSpace, published: dict[str, Any]) -> None:
        keys = sorted(published)
        digits = "".join(map(str, range(3)))
        if len(keys) != space.size or not all(re.fullmatch(f"[{digits}]{{{len(space.choices)}}}", k) for k in keys):
            raise SystemExit(
                f"the table must have the {space.size} networks of {space.name}, but has {len(keys)} entries"
            )
        rows = np.array([[int(digit) for digit in key] for key in keys], dtype=np.intp)
        super().__init__(space, rows, np.array([published[key]["test_acc"] for key in keys], dtype=np.float64))
        for metric, name in (("macs", "flops"), ("params", "params")):
            if not np.array_equal(self.costs[metric], [published[key][name] for key in keys]):
                raise SystemExit(f"the table's {name} must be our {metric} of {space.name}, but some are not")

    def json_lines(self) -> str:
        """The table as `evaluator: table` reads it."""
        lines = (
            {
                "picks": architecture.as_dict(),
                "accuracy": round(self.means[i] / 100, 8),
                **{metric: int(values[i]) for metric, values in self.costs.items()},
            }
            for i, architecture in enumerate(self.architectures)
        )
        return "".join(json.dumps(line) + "\n" for line in lines)


def load_table(path: Path) -> MacroTable:
    """Read the published file, packed or not."""
    content = path.read_bytes()
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    return MacroTable(load_space(SPACE), json.loads(unpack(content)))


@one_line_errors()
def main() -> None:
    """Convert the table, or search it with every sampler; print tables for people and one JSON object."""
    parser = parser_of(__doc__, "the published file, or that packed as .xz or .gz", SETUPS)
    parser.add_argument("--write-table", type=Path, metavar="FILE", help="convert the table, and end")
    options = parser.parse_args()
    table = load_table(options.table)
    if options.write_table:
        write_atomic(options.write_table, table.json_lines())
        print(f"wrote {len(table.architectures)} networks to {options.write_table}")
        return
    environment = describe_environment().plain()  # of the code that is about to run, whatever is committed meanwhile
    samplers = options.samplers.split(",")
    curves, seconds = search_all(load_table, options.table, STUDY, samplers, options.seeds, options.processes)
    found = told(table, STUDY, curves, seconds)
    plain = found["searches"]
    holds = DEFAULT.name in plain and all(
        plain[DEFAULT.name]["regret"][str(b)][str(BARS["at"])]["median"]
        <= BARS["default_share_of_uniform"] * plain["uniform random"]["regret"][str(b)][str(BARS["at"])]["median"]
        for b in BUDGETS
    )
    outcome = {
        "benchmark": "nas_bench_macro",
        "environment": environment,
        "table_sha256": hashlib.sha256(table.json_lines().encode()).hexdigest(),
        "space": table.space.name,
        "population": OptunaConfig().population,
        "tournament": OptunaConfig().tournament,
        "evaluations": MOST,
        **found,
        "bars": BARS,
        "holds": holds,
    }
    if options.results:
        write_results(options.results, outcome, plot(curves, table, STUDY))
    print(json.dumps({k: v for k, v in outcome.items() if not k.startswith("searches")}))


if __name__ == "__main__":
    main()
