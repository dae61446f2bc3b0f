"""What a number was measured with: hardware, versions and commit, fit to be written beside every result."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path

import torch

import se_nas
from se_nas.hardware.allocator import ALLOCATOR, allocator_tuned
from se_nas.hardware.contention import load_average
from se_nas.records.models.environment import Commit, Environment
from se_nas.records.record import read_record

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "timm", "optuna", "nni", "onnx", "onnxruntime")


def describe_environment(device: str | None = None) -> Environment:
    """The software and hardware of this process, and of its devices the one that computes, where it is said.

    It names no path, user or host, so that it can be committed. Absent packages, GPUs and checkouts are None.
    """
    return Environment(
        se_nas=se_nas.__version__,
        commit=_commit(Path(se_nas.__file__).resolve().parent.parent),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=processor_name("cpu"),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        load=load_average(),
        allocator=ALLOCATOR if allocator_tuned() else None,
        # torch says of which build it is ("+cu130"), where its distribution may not
        packages={**{package: _version(package) for package in _PACKAGES}, "torch": str(torch.__version__)},
        device=device,
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def resumed_elsewhere(path: Path, device: str) -> list[str]:
    """At most one line: what decides numbers and is otherwise than in the environment that a run began in.

    Args:
        path: the file of that environment; where it is missing, nothing is known.
        device: what this process computes on.
    """
    if not path.exists():
        return []
    before, now = (_deciding(found) for found in (read_record(Environment, path), describe_environment(device)))
    differing = [name for name in now if None not in (before[name], now[name]) and before[name] != now[name]]
    if not differing:
        return []
    told = ", ".join(f"{name} {now[name]} instead of {before[name]}" for name in differing)
    return [f"resumed otherwise than it began: {told}; its numbers may differ from those of a run that never stopped"]


def _deciding(found: Environment) -> dict[str, str | None]:
    """What the numbers of a training may depend on beside its configuration."""
    return {
        "device": found.device,
        "gpu": found.gpu if found.device == "cuda" else None,
        "cpu": found.cpu,
        "threads": str(found.threads),
        "torch": found.packages.get("torch"),
        "timm": found.packages.get("timm"),
        "se_nas": found.se_nas,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(checkout: Path) -> Commit | None:
    """The commit and whether tracked files differ from it; None unless `checkout` is a git checkout."""
    top = _git(checkout, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != checkout:  # installed inside some other project's checkout
        return None
    head = _git(checkout, "rev-parse", "--verify", "HEAD")
    if head is None:
        return None
    return Commit(hash=head, dirty=_git(checkout, "status", "--porcelain", "--untracked-files=no") != "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def machine_digest(device: str) -> str:
    """Of which machine this is and what it lets this process use: where it differs, a latency may too.

    The names of machines do not show in it. Those of containers change, so that each times for itself.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    identity = Path("/etc/machine-id")
    words = [
        socket.gethostname(),
        identity.read_text(encoding="utf-8", errors="replace").strip() if identity.is_file() else "",
        processor_name("cpu"),
        f"{allowed} of {os.cpu_count()} cores",
        f"Python {platform.python_version()}, torch {torch.__version__}",
    ]
    if device == "cuda":
        found = torch.cuda.get_device_properties()
        words.append(f"{found.multi_processor_count} multiprocessors, {found.total_memory} bytes")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def processor_name(device: str) -> str:
    """The model of this machine's `device`."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if device == "xpu":
        return str(torch.xpu.get_device_name())
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
