"""`python -m tests.simulated_cuda SCRIPT ...` runs a script on the simulated devices, and what it starts of Python."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_HERE / "everywhere"), str(_HERE.parents[1])])
    import tests.simulated_cuda.plugin  # noqa: F401

    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
