"""What NNI's own Python is asked for: whether it is there, to check a configuration, and its list of experiments."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from se_nas.errors import LaunchError, install


def check_nni() -> None:
    """Raise LaunchError of one line where NNI, or what it needs, cannot be imported."""
    try:
        import nni.experiment.launcher  # noqa: F401
        import nni_node  # noqa: F401
    except Exception as error:  # any fault of its many dependencies, told in one line
        raise LaunchError(
            f"NNI must be importable, but got {type(error).__name__}: {first_line(error)}; "
            f"install it with: {install('nni')}"
        ) from error
    if find_spec("pkg_resources") is None:
        raise LaunchError(f"NNI 3.0 imports pkg_resources, which is not there; {install('nni')} brings it back")


def canonical(config: Mapping[str, Any], home: Path) -> Any:
    """NNI's ExperimentConfig, complete and checked by NNI."""
    from nni.experiment.config import ExperimentConfig

    logging.getLogger("nni.experiment.config").disabled = True  # warns at every look that nni_manager_ip is not set yet
    try:
        parsed = ExperimentConfig(**config)
        if isinstance(parsed.training_service, dict):  # left as it is where NNI has no such platform
            raise ValueError(f"training_service must name a platform that NNI knows, but got {parsed.training_service}")
        parsed.experiment_working_directory = str(home)
        if parsed.log_level in ("warning", "error", "fatal"):
            parsed.log_level = "info"  # its log tells when it has started
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "SSH password will be exposed")  # it is a reference to one
            return parsed.canonical_copy()
    except Exception as error:  # NNI raises assertions, type errors and value errors alike
        reason = first_line(error) or "an assertion of NNI's"
        raise LaunchError(f"NNI refuses the configuration: {reason}") from error


def new_id(home: Path) -> str:
    """An id that NNI accepts, that no experiment of the folder has."""
    from nni.experiment.management import generate_experiment_id

    while True:
        experiment: str = generate_experiment_id()
        if not (home / experiment).exists():
            return experiment


def note_in_nnis_list(change: Callable[[Any], object]) -> None:
    """Change NNI's list of experiments in the home folder, which its page and nnictl read; we can do without it."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        from nni.tools.nnictl.config_utils import Experiments

        change(Experiments(os.path.join(os.path.expanduser("~"), "nni-experiments")))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, "" where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
