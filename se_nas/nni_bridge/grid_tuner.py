"""NNI's tuner for differentiable searches: hands out each trial of the grid once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nni import NoMoreTrialError
from nni.tuner import Tuner

from se_nas.nni_bridge.experiment.status import running
from se_nas.nni_bridge.grid import GridTrial, grid
from se_nas.runs.run_file import load_run


class GridTuner(Tuner):  # type: ignore[misc]
    """What the manager has a job for is not handed out again: NNI asks for more than it submits, and forgets on resume.

    Args:
        run: absolute path of the run folder.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = Path(run)
        self._handed: list[GridTrial] = []

    def update_search_space(self, search_space: Any) -> None:
        """The grid is that of the run, whatever is edited on the page."""

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> GridTrial:
        """The next trial that has no job yet."""
        experiment = running(self._run)
        have = [job.parameters for job in experiment.client().trials()] if experiment else []
        for trial in grid(load_run(self._run / "config.yaml")):
            if trial not in have and trial not in self._handed:
                self._handed.append(trial)
                return trial
        raise NoMoreTrialError

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Nothing is learned from it."""
