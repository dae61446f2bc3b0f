"""Where the images lie that a file names, be it a run file, a run's folder or a retraining's."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from se_nas.records.files import beside, from_home

if TYPE_CHECKING:
    from se_nas.runs.run_file import RunConfig

_log = logging.getLogger(__name__)


def data_folder(file: Path, word: str) -> Path:
    """The whole path of a folder of images, which stands relative to the file that names it.

    It once stood relative to the working folder: where it is there alone, it is taken, and a line says what to write.
    """
    place, here = beside(file, word), from_home(word, str(file))
    if not place.exists() and here.exists():
        new = os.path.relpath(here, file.parent)
        _log.warning(
            "%s: data.dir: %s is taken from the working folder, as there is none beside the file; write %s",
            file,
            word,
            new,
        )
        return here.resolve()
    return place.resolve()


def with_data_folder(run_file: Path, config: RunConfig) -> RunConfig:
    """The configuration with the whole paths of its images and their labels, so that its folder may lie anywhere."""
    places = {}
    if config.data.dir is not None:
        places["dir"] = str(data_folder(run_file, config.data.dir))
    if config.data.val_labels is not None:
        places["val_labels"] = str(beside(run_file, config.data.val_labels).resolve())
    return config.model_copy(update={"data": config.data.model_copy(update=places)})
