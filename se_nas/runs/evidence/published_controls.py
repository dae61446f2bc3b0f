"""Published networks among the controls of a run: fitted to its images and to all of its budgets, latency by the clock.

No latency table knows these networks, so each is timed, and narrowed until it keeps a budget on latency. What the clock
said is kept in a file: another call must find the same network, as it may have been trained by then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import PositiveFloat

from se_nas.cost.budget import Budget
from se_nas.cost.latencies import Latencies, measure
from se_nas.cost.metrics import ENERGY, LATENCY
from se_nas.errors import DeviceError
from se_nas.evidence.controls import Control
from se_nas.evidence.published_networks import fitted, narrowed
from se_nas.hardware.lines import Say
from se_nas.records.fields import Amount
from se_nas.records.files import write_json
from se_nas.records.models.certificate import MillisecondsByLatency
from se_nas.records.record import Record, read_value
from se_nas.runs.prepare import Setting
from se_nas.space.architecture_file import load_architecture
from se_nas.space.specs import NetworkSpec

_TIMES = "published.json"


def published_control(setting: Setting, folder: Path, word: str, say: Say) -> tuple[Control, dict[str, float]] | None:
    """The control of a space file, and what was measured of it, by each latency that has a budget, and energy.

    Args:
        folder: of the evidence.
        word: the file's place in the folder.
        say: is told why a network is left out.

    Returns:
        None for a network that is left out, as no width was found that keeps the latency, or its clock is not here.

    Raises:
        ConfigError: no width keeps the budgets on MACs and parameters.
    """
    name = Path(word).stem
    answered = load_architecture(setting.run / "architecture.json")

    def fit(budgets: Sequence[Budget]) -> NetworkSpec:
        images = setting.info
        return fitted(
            folder / word,
            resolution=answered.network.resolution,
            classes=images.classes,
            channels=images.channels,
            budgets=budgets,
        )

    budgets = [budget for budget in setting.budgets if budget.metric not in setting.latencies]
    timed = [budget for budget in setting.budgets if budget.metric in setting.latencies]
    network = fit(budgets)
    measured: dict[str, float] = {}
    if timed:
        path = folder / _TIMES
        known: dict[str, _Fitted] = read_value(dict[str, _Fitted], path) if path.exists() else {}
        limits = {budget.metric: budget.limit for budget in timed}
        words = json.dumps([network.to_dict(), limits.get(LATENCY, limits)], sort_keys=True)
        digest = hashlib.sha256(words.encode()).hexdigest()[:16]
        found = known.get(name)
        if found is None or found.asked != digest:
            clock = _Clock(setting.latencies, timed)
            try:
                limit = narrowed(fit, budgets, clock.share)
            except DeviceError as error:
                say(f"left out: {name}: {error}")
                return None
            found = _Fitted(asked=digest, macs=limit and limit.limit, latency_ms={}, energy_mj=None)
            if limit:
                energy = clock.last.pop(ENERGY, None)
                found = found.model_copy(update={"latency_ms": clock.last, "energy_mj": energy})
            write_json(path, {one: kept.plain() for one, kept in {**known, name: found}.items()})
        measured = found.latency_ms if found.energy_mj is None else {**found.latency_ms, ENERGY: found.energy_mj}
        if found.macs is None:
            must = f"must keep {' and '.join(map(str, timed))} at some width"
            say(f"left out: {name}: {must}, but at none that was timed it does")
            return None
        network = fit([Budget("macs", found.macs), *(budget for budget in budgets if budget.metric != "macs")])
    return Control(name, "published", f"{name}, fitted to the budgets", None, network), measured


class _Fitted(Record):
    """The width that was found for a published network, by its MACs; None where none is fast enough."""

    asked: str
    macs: PositiveFloat | None
    latency_ms: MillisecondsByLatency
    energy_mj: Amount | None = None


class _Clock:
    """Measures networks where budgets are on that. `last` are the medians of the one measured last, by metric."""

    def __init__(self, latencies: Latencies, budgets: Sequence[Budget]) -> None:
        self._latencies, self._budgets = latencies, budgets
        self.last: dict[str, float] = {}

    def share(self, network: NetworkSpec) -> float:
        """The upper end of the median's interval as a share of the budget, the greatest of all budgets."""
        measured = {b: measure(b.metric, network, self._latencies[b.metric]) for b in self._budgets}
        self.last = {budget.metric: found.median_ms for budget, found in measured.items()}
        return max(found.ci95_ms[1] / budget.limit for budget, found in measured.items())
