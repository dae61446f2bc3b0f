"""Question: how far does the SE of one search's answer differ, decoded for two runtimes?

The scores of a finished search are decoded under a latency budget of each runtime's table. The budgets are equal
percentiles: so many of 5,000 random networks of the space are as fast by that table. A second table of one runtime says
how much of the difference is noise of the timing. Run:
python benchmarks/se_placement.py RUN --table eager=FILE --table onnxruntime=FILE [--table again=FILE] [--out FILE],
with a run whose strategy gives scores, and tables as benchmarks/runtimes.py writes them for the run's space. The search
should have no budget of latency, which would shape its scores. It takes seconds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from se_nas.cost.budget import Budget
from se_nas.cost.latency.table import LatencyTable, read_latency_table
from se_nas.cost.metrics import METRICS
from se_nas.evidence.choices_in_use import se_ops_in_use, se_places
from se_nas.evidence.se_by_runtime import se_by_runtime, share_ranks
from se_nas.records.files import write_json
from se_nas.search.budgets.decode import Decoded, decode
from se_nas.search.result import read_scores
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import load_space

PERCENTILES = range(5, 80, 5)
DRAWN, SEED = 5000, 0


def se_of(space: SearchSpace, decoded: Decoded) -> dict[str, str]:
    """The option of SE of every block that the network has, by its place."""
    named = se_places(space)
    return {named[choice]: str(decoded.architecture[choice]) for choice in se_ops_in_use(space, decoded.architecture)}


def compared(space: SearchSpace, tables: dict[str, LatencyTable], answers: dict[str, Decoded], names: tuple[str, str]):
    """How far the SE of two answers differs."""
    one, other = (se_of(space, answers[name]) for name in names)
    both = [place for place in one if place in other]
    with_se = [{place for place, option in found.items() if option != "none"} for found in (one, other)]
    apart = with_se[0] ^ with_se[1]
    taken = {
        f"{name} by the table of {by}": round(
            tables[by].table.cost(answers[name].architecture) / tables[by].table.cost(answers[by].architecture), 3
        )
        for name, by in (names, names[::-1])
    }
    return {
        "same_network": answers[names[0]].architecture == answers[names[1]].architecture,
        "blocks_in_both": len(both),
        "with_se_in_one_alone": sorted(place for place in apart if place in both),
        "of_another_ratio": sorted(
            place for place in both if place in with_se[0] & with_se[1] and one[place] != other[place]
        ),
        "blocks_in_one_alone": len(set(one) ^ set(other)),
        "latency_of_the_others_answer": taken,
    }


def main() -> None:
    """Decode, print a table for people and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished search")
    parser.add_argument("--table", action="append", required=True, metavar="NAME=FILE", help="two at least")
    parser.add_argument("--out", type=Path, help="file for the figures")
    options = parser.parse_args()
    space = load_space(options.run / "space.yaml")
    scores = read_scores(options.run / "search" / "scores.json", space)
    files = dict(entry.split("=", 1) for entry in options.table)
    tables = {name: read_latency_table(Path(file), space) for name, file in files.items()}
    rng = np.random.default_rng(SEED)
    drawn = [space.sample(rng) for _ in range(DRAWN)]
    shown = Table("percentile", "table", "budget", "MACs", "blocks", "blocks with SE", "SE by block")
    figures = {}
    for percentile in PERCENTILES:
        answers = {}
        entry: dict[str, object] = {}
        for name, table in tables.items():
            limit = float(np.percentile([table.table.cost(architecture) for architecture in drawn], percentile))
            answers[name] = decode(space, {"latency_ms": table.table}, [Budget("latency_ms", limit)], scores)
            se = se_of(space, answers[name])
            macs = METRICS["macs"].of(space.resolve(answers[name].architecture))
            with_se = sum(option != "none" for option in se.values())
            shown.add_row(
                *(f"{percentile} %", name, f"{limit:.3f} ms", f"{macs / 1e6:.2f} M", str(len(se)), str(with_se)),
                " ".join(se.values()),
            )
            entry[name] = {
                "limit_ms": round(limit, 4),
                "score": round(answers[name].score, 4),
                "macs": macs,
                "se": se,
                "picks": answers[name].architecture.as_dict(),
            }
        pairs = itertools.combinations(tables, 2)
        entry["differences"] = {" and ".join(pair): compared(space, tables, answers, pair) for pair in pairs}
        figures[f"{percentile} %"] = entry
    Console(width=140).print(shown)
    blocks = se_by_runtime(tables)
    found = {
        "benchmark": "se_placement",
        "space": space.name,
        "drawn": DRAWN,
        "tables": {
            name: {
                "hardware": table.key.device,
                "runtime": table.key.runtime,
                "threads": table.key.threads,
                "batch_size": table.key.batch_size,
                "versions": table.fit.environment,
                "mape": round(table.fit.held_out.mape, 4),
                "spearman": round(table.fit.held_out.spearman, 4),
                "n": table.fit.held_out.n,
            }
            for name, table in tables.items()
        },
        "spearman_of_se_shares": {
            " and ".join(pair): round(share_ranks(blocks, *pair), 3) for pair in itertools.combinations(tables, 2)
        },
        "figures": figures,
    }
    if options.out is not None:
        write_json(options.out, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
