"""sbatch, srun and scontrol that are none: what a batch script of SLURM's is given and asks for, on this machine alone.

Run as a program it is one of the three, by its first argument. `install` puts them on a PATH. Of SLURM it knows what
the scripts in clusters/ use; an option that it does not know is an error.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

#: The job's directory of this fake: who was started, who is to be queued again.
STATE = "FAKE_SLURM"
#: Once this file exists, the time limit of the job's first start is near: its steps get the signal of `--signal`.
NEAR_LIMIT = "FAKE_SLURM_NEAR_LIMIT"
JOB = 4321
NODES = "node[3-9]"


def install(folder: Path) -> Path:
    """The three as programs in a new folder, for PATH."""
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {Path(__file__).resolve()} {name} "$@"\n')
        program.chmod(0o755)
    return folder


def sbatch(words: list[str]) -> int:
    """Run the script until it is not queued again; with an array, each of its jobs, one after the other."""
    place = _first_plain(words)
    script, *arguments = words[place:]
    asked = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", Path(script).read_text(), flags=re.MULTILINE)
    options = {**dict(asked), **dict(_parsed(words[:place]))}
    tasks = int(options.get("ntasks") or int(options.get("nodes", 1)) * int(options.get("ntasks-per-node", 1)))
    variables = {
        "SLURM_JOB_ID": str(JOB),
        "SLURM_JOB_NODELIST": NODES,
        "SLURM_NTASKS": str(tasks),
        "SLURM_CPUS_PER_TASK": options.get("cpus-per-task", "1"),
        "FAKE_SLURM_SIGNAL": options.get("signal", "").split("@")[0],
    }
    first, _, last = options.get("array", "").partition("-")
    jobs = range(int(first), int(last) + 1) if first else [None]
    codes = []
    for job in jobs:
        if job is not None:
            numbers = {"SLURM_JOB_ID": str(JOB + job + 1), "SLURM_ARRAY_JOB_ID": str(JOB)}
            variables |= {**numbers, "SLURM_ARRAY_TASK_ID": str(job)}
        name = str(JOB) if job is None else f"{JOB}_{job}"
        again = Path(os.environ[STATE]) / f"requeue-{name}"
        for restarts in range(10):
            begun = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
            code = subprocess.run(["bash", script, *arguments], env={**os.environ, **variables, **begun}).returncode
            if not again.exists():
                break
            assert "requeue" in options, "scontrol requeue needs --requeue"
            again.unlink()
            os.environ.pop(NEAR_LIMIT, None)
        codes.append(code)
    return max(codes)


def srun(words: list[str]) -> int:
    """Start the step's tasks; the exit code is the greatest of theirs."""
    place = _first_plain(words)
    _parsed(words[:place])
    size = int(os.environ["SLURM_NTASKS"])
    step = {"SLURM_STEP_NUM_TASKS": str(size), "SLURM_STEP_ID": "0"}
    tasks = [
        subprocess.Popen(
            words[place:], env={**os.environ, **step, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        )
        for rank in range(size)
    ]
    limit = os.environ.get(NEAR_LIMIT)
    while any(task.poll() is None for task in tasks):
        if limit and Path(limit).exists():
            limit = None
            for task in tasks:
                task.send_signal(signal.Signals[f"SIG{os.environ['FAKE_SLURM_SIGNAL']}"])
        time.sleep(0.01)
    return max(code if code >= 0 else 128 - code for code in (task.returncode for task in tasks))


def scontrol(words: list[str]) -> int:
    """`show hostnames`, of which the first is this machine; `requeue`."""
    match words:
        case ["show", "hostnames", hosts] if hosts == NODES:
            print("127.0.0.1\nnode4")
        case ["requeue", job]:
            (Path(os.environ[STATE]) / f"requeue-{job}").touch()
        case _:
            raise SystemExit(f"scontrol: unknown: {words}")
    return 0


def _first_plain(words: list[str]) -> int:
    return next(place for place, word in enumerate(words) if not word.startswith("-"))


def _parsed(words: list[str]) -> list[tuple[str, str]]:
    known = {"kill-on-bad-exit", "wait", "nodes", "ntasks", "ntasks-per-node", "array", "cpus-per-task"}
    found = [word.removeprefix("--").partition("=")[::2] for word in words]
    for name, value in found:
        if name not in known or not value:
            raise SystemExit(f"unknown option --{name}")
    return found


if __name__ == "__main__":
    sys.exit({"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:]))
