"""Weights & Biases: a run of theirs for each phase, offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from se_nas.records.loggers.service_run import run_of_phase, words_of


class WandbRun:
    """Writes into FOLDER/wandb, which `wandb sync` uploads; steps that are void are written once more.

    Nothing of the machine, of the command line or of the code is recorded.
    """

    def __init__(self, folder: Path, phase: str, step: int) -> None:
        # its client reports on itself even offline, unless this is set before it is imported
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        place = folder / "wandb"
        run = run_of_phase(place / f"{phase}.json", step, lambda: uuid.uuid4().hex[:12])
        group, name = words_of(folder, phase)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "se_nas"),
            dir=str(folder),
            id=run,
            name=name,
            group=group,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                mode=os.environ.get("WANDB_MODE", "offline"),
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        self._run.define_metric("*", step_metric="step")  # theirs may not go back, as ours does after a rollback

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers of a step."""
        self._run.log({"step": step, **numbers})

    def close(self) -> None:
        """End the run; the same is opened again where the phase goes on."""
        self._run.finish()
