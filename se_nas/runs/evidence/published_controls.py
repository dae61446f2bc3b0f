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
from se_nas.cost.latency.key import LatencyKey
from se_nas.cost.latency.table import LatencyTable
from se_nas.cost.latency.timing import measure_networks
from se_nas.errors import DeviceError
from se_nas.evidence.controls import Control
from se_nas.evidence.published_networks import fitted, narrowed
from se_nas.records.files import write_json
from se_nas.records.record import Record, read_value
from se_nas.runs.prepare import Say, Setting
from se_nas.space.specs import NetworkSpec

_TIMES = "published.json"


def published_control(setting: Setting, folder: Path, word: str, say: Say) -> tuple[Control, float | None] | None:
    """The control of a space file, and its measured latency in milliseconds where a budget is on latency.

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

    def fit(budgets: Sequence[Budget]) -> NetworkSpec:
        images = setting.info
        return fitted(
            folder / word,
            resolution=setting.space.resolution,
            classes=images.classes,
            channels=images.channels,
            budgets=budgets,
        )

    budgets = [budget for budget in setting.budgets if budget.metric != "latency_ms"]
    network, measured = fit(budgets), None
    latency = next((budget for budget in setting.budgets if budget.metric == "latency_ms"), None)
    if latency is not None:
        assert isinstance(setting.latency, LatencyTable)  # a budget on latency needs one
        key = setting.latency.key
        path = folder / _TIMES
        known: dict[str, _Fitted] = read_value(dict[str, _Fitted], path) if path.exists() else {}
        words = json.dumps([network.to_dict(), latency.limit], sort_keys=True)
        digest = hashlib.sha256(words.encode()).hexdigest()[:16]
        found = known.get(name)
        if found is None or found.asked != digest:
            clock = _Clock(key)
            try:
                limit = narrowed(fit, budgets, latency, clock.upper_ms)
            except DeviceError as error:
                say(f"left out: {name}: {error}")
                return None
            found = _Fitted(asked=digest, macs=limit and limit.limit, latency_ms=limit and clock.last_ms)
            write_json(path, {one: kept.plain() for one, kept in {**known, name: found}.items()})
        measured = found.latency_ms
        if found.macs is None:
            say(f"left out: {name}: must keep {latency} at some width, but at none that was timed it does")
            return None
        network = fit([Budget("macs", found.macs), *(budget for budget in budgets if budget.metric != "macs")])
    return Control(name, "published", f"{name}, fitted to the budgets", None, network), measured


class _Fitted(Record):
    """The width that was found for a published network, by its MACs; None where none is fast enough."""

    asked: str
    macs: PositiveFloat | None
    latency_ms: PositiveFloat | None


class _Clock:
    """Times networks under a key. `last_ms` is the median of the one timed last."""

    def __init__(self, key: LatencyKey) -> None:
        self._key, self.last_ms = key, 0.0

    def upper_ms(self, network: NetworkSpec) -> float:
        """The upper end of the median's interval, milliseconds."""
        (measured,) = measure_networks([network], self._key)
        self.last_ms = measured.median_ms
        return measured.ci95_ms[1]
