"""Runs that are held to millijoules, by a counter in a file that says what networks of so many weights would take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from se_nas.cost.budget import Budget
from se_nas.cost.energy import build_energy_table, energy_key
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.runtimes import RUNTIMES
from se_nas.cost.latency.table import LatencyTable, read_latency_table
from se_nas.cost.latency.timing import latency_key
from se_nas.cost.metrics import ENERGY
from se_nas.errors import ConfigError, InfeasibleBudgetError
from se_nas.hardware.energy import EnergyMeter
from se_nas.runs.run_file import load_run
from se_nas.runs.search import decode_again, run_search
from se_nas.search.strategies import STRATEGIES
from se_nas.space.architecture_file import load_architecture
from se_nas.space.yaml.file import load_space
from tests.hardware.test_energy import LAST, write_zone
from tests.helpers.tiny_runs import RUN, read_json, write_run
from tests.search.known_worth import write_table

LIMIT = 3.6
SEARCH = {
    "strategy": "optuna",
    "objectives": ["accuracy", ENERGY],
    "max_evaluations": 12,
    "population": 4,
    "evaluator": "table",
    "table": "known.jsonl",
}
HELD: dict[str, Any] = {
    **RUN,
    "latency": {"runtime": "eager", "table": False},
    "budgets": {ENERGY: LIMIT},
    "search": SEARCH,
    "retrain": None,
}


class Consuming:
    """A runtime whose runs of 1 ms take a microjoule a weight and 1 mJ, by the counter that `meter` reads."""

    def __init__(self, powercap: Path) -> None:
        self.factor = 1.0
        self.meter = partial(EnergyMeter, powercap=powercap)
        self.runtime = dataclasses.replace(RUNTIMES["eager"], prepare=self._prepare)
        self._counter = write_zone(powercap, "intel-rapl:0", "package-0", 0)

    def _prepare(self, module: nn.Module, *given: object) -> Any:
        a_run = self.factor * (1000 + sum(weights.numel() for weights in module.parameters()))

        def run(times: int) -> list[float]:
            self._counter.write_text(str((int(self._counter.read_text()) + round(times * a_run)) % (LAST + 1)))
            return [1.0] * times

        return run


def search(home: Path, run: dict[str, Any], out: str) -> list[str]:
    said: list[str] = []
    run_file = write_run(home, run)
    write_table(home / "known.jsonl", load_space(home / "space.yaml"))
    run_search(run_file, load_run(run_file), home / out, resume=False, progress=False, say=said.append)
    return said


@dataclasses.dataclass(frozen=True)
class Done:
    home: Path
    said: list[str]
    consuming: Consuming


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """A finished run in `out`; after its table was made, every network takes 10 % more than the table says."""
    home = tmp_path_factory.mktemp("energy")
    consuming = Consuming(home / "powercap")

    def made(*given: Any, **options: Any) -> LatencyTable:
        table = build_energy_table(*given, **options)
        consuming.factor = 1.1
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_NAS_CACHE", str(home / "cache"))
        patch.setitem(RUNTIMES, "eager", consuming.runtime)
        patch.setattr("se_nas.cost.energy.EnergyMeter", consuming.meter)
        patch.setattr("se_nas.runs.prepare.build_energy_table", made)
        patch.setattr("se_nas.cost.energy._TABLE_ROUNDS", 1)
        yield Done(home, search(home, HELD, "out"), consuming)


def test_a_budget_on_energy_is_kept_by_what_is_measured_where_the_table_says_too_little(done: Done) -> None:
    certificate, decodes = read_json(done.home / "out/certificate.json"), read_json(done.home / "out/decodes.json")
    (budget,) = certificate["budgets"]
    assert (budget["metric"], budget["how"], budget["unit"], budget["holds"]) == (ENERGY, "measured", "mJ", True)
    assert budget["ci95"][1] <= LIMIT
    assert len(decodes) > 1
    assert decodes[0]["measured_mj"] > LIMIT >= decodes[0]["costs"][ENERGY]
    assert decodes[-1]["measured_mj"] == budget["value"] == pytest.approx(1.1 * decodes[-1]["costs"][ENERGY], rel=0.02)
    assert certificate["latency_conditions"]["runtime"] == "eager"


def test_the_cost_of_every_evaluation_and_of_the_answer_is_what_the_table_in_the_folder_says(done: Done) -> None:
    space = load_space(done.home / "out/space.yaml")
    table = read_latency_table(done.home / "out/energy.json", space, ENERGY)
    assert (table.metric, table.fit.method) == (ENERGY, "networks")
    assert table.fit.held_out.mape < 0.02
    assert table.fit.held_out.spearman > 0.95
    with pytest.raises(ConfigError, match="metric: must be a table of latency_ms, but is one of energy_mj"):
        read_latency_table(done.home / "out/energy.json", space)
    answer = load_architecture(done.home / "out/architecture.json").architecture
    costs = read_json(done.home / "out/certificate.json")["costs"]
    predicted, measured = (cost for cost in costs if cost["metric"] == ENERGY)
    assert predicted["value"] == table.table.cost(answer)
    assert (predicted["how"], measured["how"]) == ("predicted", "measured")
    for row in read_json(done.home / "out/search/evaluations.json")["evaluations"]:
        assert row["costs"][ENERGY] == table.table.cost(space.architecture(row["picks"]))
        assert not row["feasible"] or row["costs"][ENERGY] <= LIMIT


def test_it_is_said_before_how_long_the_table_takes_and_what_it_is_worth_and_the_page_shows_it(done: Done) -> None:
    said = "\n".join(done.said)
    assert "energy: measuring " in said
    assert "their energies and " in said
    assert "mJ for the rest fitted to " in said
    assert f"budget {ENERGY}: " in said
    page = (done.home / "out/report.html").read_text()
    assert '<td>Energy <span class="quiet">(mJ)</span></td>' in page
    assert "the energy table" in page
    assert "energy table" in [row["part"] for row in read_json(done.home / "out/result.json")["cost_ledger"]]


def test_what_a_differentiable_search_expects_of_energy_is_projected_onto_the_budget(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("se_nas.runs.search.write_report", lambda *given: None)
    search(done.home, {**HELD, "search": RUN["search"], "budgets": {ENERGY: 3.3, "macs": "100k"}}, "projected")
    first, *_, last = read_json(done.home / "projected/search/history.json")
    assert first["expected"][ENERGY] > 3.31
    assert last["expected"][ENERGY] <= 3.3 * (1 + 1e-4)  # logits are of single precision
    energy, macs = read_json(done.home / "projected/certificate.json")["budgets"]
    assert energy["ci95"][1] <= 3.3
    assert macs["value"] <= 100_000


def test_another_answer_of_the_run_is_held_to_the_table_that_it_has(done: Done) -> None:
    (budget,) = decode_again(done.home / "out", [Budget(ENERGY, 3.4)], done.home / "again").certificate.budgets
    assert (budget.metric, budget.how, budget.holds) == (ENERGY, "measured", True)
    assert budget.value <= 3.4


def test_an_energy_that_no_network_keeps_is_named_with_the_least_that_one_takes(done: Done) -> None:
    with pytest.raises(InfeasibleBudgetError, match=r"energy_mj <= 0\.5 mJ.* mJ"):
        search(done.home, {**HELD, "budgets": {ENERGY: 0.5}}, "infeasible")


@pytest.mark.parametrize(
    ("budgets", "where"), [({ENERGY: LIMIT}, f"budgets.{ENERGY}"), ({"macs": "90k"}, r"search\.objectives.*")]
)
def test_without_a_counter_one_line_says_so_before_anything_is_timed_or_trained(
    budgets: dict[str, Any], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise AssertionError("this must not be reached")

    class NoCounter(EnergyMeter):
        def __init__(self, device: Any) -> None:
            super().__init__(device, powercap=tmp_path / "none")

    monkeypatch.setattr("se_nas.cost.energy.EnergyMeter", NoCounter)
    monkeypatch.setattr("se_nas.runs.prepare.build_latency_table", refuse)
    monkeypatch.setattr(type(STRATEGIES["optuna"]), "search", refuse)
    why = r"must be read from a counter, but none can be read here: looked for /sys/class/powercap/intel-rapl:\*/energy"
    with pytest.raises(ConfigError, match=f"run.yaml: {where}: {why}") as error:
        search(tmp_path, {**HELD, "budgets": budgets}, "out")
    assert len(error.value.problems) == 1


def test_of_several_devices_energy_is_that_of_the_first_that_is_here(done: Done) -> None:
    elsewhere, here = LatencyKey("phone", "command", program="time.sh"), latency_key("cpu", "eager")
    assert energy_key([elsewhere, here, dataclasses.replace(here, threads=2)]) == here
    assert energy_key([elsewhere]) is None
