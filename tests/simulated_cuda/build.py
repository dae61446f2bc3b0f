"""Compiles the device's C++ against the torch that is installed, once for each text of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")


def torch_folder() -> Path:
    """Where torch is installed; it is not imported."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def why_not() -> str | None:
    """Why the device cannot be built here; None where it can be."""
    version = importlib.metadata.version("torch")
    if not (torch_folder() / "lib" / "libtorch_cpu.so").exists():
        return "torch's libraries are not those of Linux"
    if (torch_folder() / "lib" / "libtorch_cuda.so").exists():
        return f"torch {version} is built for CUDA"
    if not (torch_folder() / "include" / "ATen").is_dir():
        return "torch's headers are not there"
    return None if shutil.which("g++") else "there is no g++"


def built() -> Path:
    """The compiled library, from where Python keeps what it compiled itself if it is there."""
    source, base = SOURCE.read_bytes(), torch_folder()
    digest = hashlib.sha256(source + importlib.metadata.version("torch").encode()).hexdigest()[:16]
    library = SOURCE.parent / "__pycache__" / f"device-{digest}.so"
    library.parent.mkdir(exist_ok=True)
    if not library.exists():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / library.name
            flags = (
                f"-std=c++20 -O1 -shared -fPIC -I{base}/include -L{base}/lib -lc10 -ltorch_cpu -Wl,-rpath,{base}/lib"
            )
            subprocess.run(["g++", str(SOURCE), "-o", str(made), *flags.split()], check=True)
            shutil.copy(made, unfinished := library.with_suffix(f".{os.getpid()}"))
            os.replace(unfinished, library)
    return library
