"""One trial of NNI: an architecture of a black-box search, or a whole differentiable search.

NNI starts it as `python -m se_nas.nni_bridge.trial RUN`. Its results are what NNI's page shows.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from se_nas.errors import ConfigError, SeNasError
from se_nas.nni_bridge.grid import changes_of, name_of
from se_nas.nni_bridge.own_parameters import take_parameters
from se_nas.nni_bridge.page_values import PROPOSAL, EpochMetrics, final_metrics

#: Takes an epoch, counted from 0, and its metrics.
SendEpoch = Callable[[int, dict[str, float]], None]

_log = logging.getLogger(__name__)


def evaluate(run: Path, parameters: Mapping[str, Any], send: SendEpoch) -> dict[str, float]:
    """The final result of the architecture that a black-box search proposed."""
    from se_nas.runs.worker import evaluate_one

    picks = dict(parameters)
    proposal = picks.pop(PROPOSAL)
    if not isinstance(proposal, int) or isinstance(proposal, bool):  # a user can make one up on NNI's page
        raise ConfigError("the trial's parameters", [f"{PROPOSAL}: must be a whole number, but got {proposal!r:.100}"])
    began = time.perf_counter()
    accuracy, costs, excess = evaluate_one(run, picks, lambda epoch, value: send(epoch, {"default": value}))
    return final_metrics(accuracy, costs, excess, time.perf_counter() - began, proposal)


def search(run: Path, parameters: Mapping[str, Any], send: SendEpoch) -> dict[str, float]:
    """The final result of a whole differentiable search, which writes a run folder of its own."""
    from se_nas.runs.worker import search_one

    began = time.perf_counter()
    metrics = EpochMetrics()
    accuracy, costs, excess = search_one(
        run,
        changes_of(parameters),
        _folder(run, parameters),
        lambda entry: send(int(entry["epoch"]), metrics(entry)),
    )
    return final_metrics(accuracy, costs, excess, time.perf_counter() - began)


def _folder(run: Path, parameters: Mapping[str, Any]) -> Path:
    """Where the search of a trial is kept: beside the run on this machine, in the trial's own output elsewhere."""
    if os.environ.get("NNI_PLATFORM") == "local":
        return run / "trials" / name_of(parameters)
    return Path(os.environ["NNI_OUTPUT_DIR"]) / name_of(parameters)


def send_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
    """Show an epoch's metrics at their place in the page's chart, also when the trial is run again."""
    import nni
    import nni.trial

    nni.trial.overwrite_intermediate_seq(epoch)
    nni.report_intermediate_result(dict(metrics))


def main(arguments: Sequence[str]) -> int:
    """Run the trial that NNI started; the exit code is 0 where NNI has its final result."""
    import nni

    (folder,) = arguments
    own = take_parameters()
    final = own.final
    if final is None:
        run = evaluate if PROPOSAL in own.parameters else search
        try:
            final = run(Path(folder), own.parameters, send_epoch)
        except SeNasError as error:
            _log.error("%s", error)
            return 2
    else:
        _log.info("this trial had sent its result before it was stopped: %s", final)
    nni.report_final_result(final)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
