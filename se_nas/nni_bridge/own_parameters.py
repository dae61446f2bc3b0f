"""The parameters that NNI's page shows for a trial, whichever ones NNI handed to it.

NNI 3.0 hands parameters to whichever trial asks first (microsoft/nni issues 5726 and 5693), so a trial reads its own
job back from the manager and takes those.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from se_nas.errors import ConfigError, LaunchError
from se_nas.nni_bridge.experiment.manager_client import ManagerClient, TrialJob
from se_nas.records.files import read_json

_log = logging.getLogger(__name__)

#: A trial can start before the manager has stored its job: seconds to wait for it.
PATIENCE = 20.0


@dataclass(frozen=True)
class OwnParameters:
    """What a trial runs.

    Attributes:
        parameters: of the job with this trial's id; those that NNI handed over where the manager does not show it.
        final: the final result that this very job reported before it was stopped and run again; None for none.
        by_hand: whether a user added the trial on NNI's page, so that the tuner proposed nothing of the kind.
    """

    parameters: dict[str, object]
    final: Mapping[str, object] | None = None
    by_hand: bool = False


def take_parameters(patience: float = PATIENCE) -> OwnParameters:
    """Ask NNI for parameters, put those of this trial's own job in their place, and report under their id.

    Args:
        patience: seconds to wait for a manager that answers but does not know the job yet.
    """
    import nni
    import nni.trial

    handed = dict(nni.get_next_parameter() or {})
    name = os.environ.get("NNI_TRIAL_JOB_ID", "")
    for url in manager_urls(os.environ):
        client = ManagerClient(url)
        try:
            client.state()
            job = _job(client, name, patience)
            reported = [metric.value for metric in client.metrics(name) if metric.kind == "FINAL"]
        except LaunchError as error:
            _log.info("trial %s does not find its job: %s", name, error)
            continue
        if job.parameters != handed:
            _log.warning("NNI handed the parameters of another trial to %s, which runs its own", name)
        # results travel with the id that is kept here, by which the tuner finds the parameters
        nni.trial._params = {"parameter_id": job.parameter_id, "parameters": job.parameters}
        final = reported[0] if reported and isinstance(reported[0], dict) else None
        return OwnParameters(job.parameters, final, job.by_hand)
    _log.warning(
        "the manager does not show the job of trial %s, which therefore runs what NNI handed over: "
        "the page may list other parameters beside its result",
        name,
    )
    return OwnParameters(handed)


def _job(client: ManagerClient, name: str, patience: float) -> TrialJob:
    until = time.monotonic() + patience
    while True:
        try:
            return client.trial(name)
        except LaunchError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def manager_urls(environment: Mapping[str, str]) -> list[str]:
    """Where the manager may be, likeliest first, from the environment that NNI gives a trial.

    A local trial's channel is the manager's own. A remote trial's leads to NNI's trial keeper on that machine; the
    keeper's configuration beside the trials' outputs has the manager's address, and after a resume the newest has.
    """
    found = []
    output = environment.get("NNI_OUTPUT_DIR")
    if output and environment.get("NNI_PLATFORM") != "local":
        keepers = Path(output).parent.parent.glob("trial_keeper*/trial_keeper_config.json")
        for file in sorted(keepers, key=lambda path: path.stat().st_mtime, reverse=True):
            try:
                keeper = read_json(file)
            except ConfigError as error:
                _log.warning("the trial keeper's configuration is passed over: %s", error)
                continue
            channel = keeper.get("managerCommandChannel") if isinstance(keeper, dict) else None
            found.append(channel.split("/platform/")[0] if isinstance(channel, str) else "")
    found.append(environment.get("NNI_TRIAL_COMMAND_CHANNEL", "").split("/env/")[0])
    web = [url.replace("wss://", "https://").replace("ws://", "http://") for url in found]
    return list(dict.fromkeys(url for url in web if url.startswith("http")))
