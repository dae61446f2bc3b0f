"""The folder of the user's in which what was timed is kept."""

from __future__ import annotations

import os
from pathlib import Path

from se_nas.records.files import from_home


def latency_folder() -> Path:
    """`latency` in the folder that the environment variable SE_NAS_CACHE names, else in ~/.cache/se_nas."""
    named = os.environ.get("SE_NAS_CACHE")
    return (from_home(named, "SE_NAS_CACHE") if named else Path.home() / ".cache" / "se_nas") / "latency"
