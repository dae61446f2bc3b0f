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
from se_nas.nni_bridge.own_parameters import OwnParameters, take_parameters
from se_nas.nni_bridge.page_values import PROPOSAL, EpochMetrics, final_metrics, supernet_metrics

#: Takes an epoch, counted from 0, and its metrics.
SendEpoch = Callable[[int, dict[str, float]], None]

_log = logging.getLogger(__name__)


def evaluate(run: Path, own: OwnParameters, send: SendEpoch) -> dict[str, float]:
    """The final result of the architecture that a black-box search proposed, or that a user added by hand."""
    from se_nas.runs.worker import await_preparation, evaluate_one

    picks = dict(own.parameters)
    # a trial added by hand has the number of the one that it was copied from, whose result it must not be
    copied = picks.pop(PROPOSAL, None)
    proposal = copied if isinstance(copied, int) and not isinstance(copied, bool) and not own.by_hand else None
    if proposal is None and not own.by_hand:
        raise ConfigError("the trial's parameters", [f"{PROPOSAL}: must be a whole number, but got {copied!r:.100}"])
    await_preparation(run, lambda entry: send(int(entry["epoch"]), supernet_metrics(entry)))
    began = time.perf_counter()
    accuracy, costs, excess = evaluate_one(run, picks, lambda epoch, value: send(epoch, {"default": value}))
    return final_metrics(accuracy, costs, excess, time.perf_counter() - began, proposal)


def search(run: Path, own: OwnParameters, send: SendEpoch) -> dict[str, float]:
    """The final result of a whole differentiable search, which writes a run folder of its own."""
    from se_nas.runs.worker import search_one

    began = time.perf_counter()
    metrics = EpochMetrics()
    accuracy, costs, excess = search_one(
        run,
        changes_of(own.parameters),
        _folder(run, own.parameters),
        lambda entry: send(int(entry["epoch"]), metrics(entry)),
    )
    return final_metrics(accuracy, costs, excess, time.perf_counter() - began)


def _folder(run: Path, parameters: Mapping[str, Any]) -> Path:
    """Where the search of a trial is kept: beside the run on this machine, in the trial's own output elsewhere."""
    if os.environ.get("NNI_PLATFORM") == "local":
        return run / "trials" / name_of(parameters)
    return Path(os.environ["NNI_OUTPUT_DIR"]) / name_of(parameters)


def _of_black_box(run: Path, own: OwnParameters) -> bool:
    """Whether a trial is of a black-box search; one that was added by hand may lack the proposal's number."""
    if PROPOSAL in own.parameters or not own.by_hand:
        return PROPOSAL in own.parameters
    from se_nas.runs.run_file import load_run
    from se_nas.search.strategies import study_config

    return study_config(load_run(run / "config.yaml").search) is not None


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
        try:
            run = evaluate if _of_black_box(Path(folder), own) else search
            final = run(Path(folder), own, send_epoch)
        except SeNasError as error:
            _log.error("%s", error)
            return 2
    else:
        _log.info("this trial had sent its result before it was stopped: %s", final)
    nni.report_final_result(final)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
