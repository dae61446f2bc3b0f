"""MLflow: a run of theirs for each phase, in a database beside the log unless MLFLOW_TRACKING_URI says otherwise."""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from se_nas.records.loggers.service_run import run_of_phase, words_of

_EXPERIMENT = "se_nas"
_NOT_ALLOWED = re.compile(r"[^\w./\- :]")


class MlflowRun:
    """Writes into FOLDER/mlflow.db; steps that are void are written once more."""

    def __init__(self, folder: Path, phase: str, step: int) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as it is imported
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, on how it uses other packages
            from mlflow.tracking import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)
            local = f"sqlite:///{(folder / 'mlflow.db').resolve().as_posix()}"
            self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", local))
            self._run = run_of_phase(folder / f"mlflow-{phase}.json", step, lambda: self._begin(folder, phase))
            self._client.update_run(self._run, status="RUNNING")

    def _begin(self, folder: Path, phase: str) -> str:
        group, name = words_of(folder, phase)
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        # nothing of ours is an artifact; theirs would be put into the working folder
        place = (folder / "mlflow").resolve().as_uri()
        experiment = found.experiment_id if found else self._client.create_experiment(_EXPERIMENT, place)
        run = self._client.create_run(experiment, run_name=name, tags={"se_nas.run": group, "se_nas.phase": phase})
        return str(run.info.run_id)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a step, under names that MLflow takes."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_NOT_ALLOWED.sub("_", name), value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """End the run; the same is opened again where the phase goes on."""
        self._client.set_terminated(self._run)
