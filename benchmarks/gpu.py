"""All that is claimed of GPUs, checked on the one that is here in at most 8 minutes: tests, launches, speed, latency.

Run: `python benchmarks/gpu.py [--seconds 480] [--only NAME ...]`. Each part is a process of its own, since an error of
a device outlasts the call that met it: the tests marked `gpu`, and the benchmarks beside this file that mean something
on a GPU. A part that fails, hangs or lacks a package is named, and the others go on; one for which too little time is
left is passed over. The last line is one JSON object: figures, bars and what holds of each part, hardware, versions
and commit. `python -m tests.simulated_cuda benchmarks/gpu.py --tiny` runs small parts on devices that are not there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 480
#: Without these nothing of the package runs; the others are for single commands, and named by the part that lacks one.
ALWAYS = ("torch", "torchvision", "numpy", "scipy", "pyyaml", "pydantic", "rich", "pillow", "timm")
TESTING = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")

Found = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One thing that is checked.

    Attributes:
        words: of its command, behind the interpreter; `tiny` in place of the last ones with --tiny.
        seconds: the most that it may take.
        read: what came of it, from the lines that it printed.
        needs: distributions beside `ALWAYS`.
        unless: why it cannot be on this machine, where that is so.
    """

    words: tuple[str, ...]
    seconds: float
    options: tuple[str, ...] = ()
    tiny: tuple[str, ...] = ()
    read: Callable[[str], Found] = lambda out: json.loads(out.splitlines()[-1])
    needs: tuple[str, ...] = ()
    unless: Callable[[], str | None] = lambda: None


def benchmark(name: str, seconds: float, options: str, tiny: str, **more: Any) -> Part:
    """A script of this folder."""
    script = str(Path(__file__).with_name(f"{name}.py"))
    return Part((script,), seconds, tuple(options.split()), tuple(tiny.split()), **more)


def tests() -> Part:
    """What is marked `gpu`, by pytest; slow ones are left out."""
    files = sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    words = ("-m", "pytest", "-m", "gpu and not slow", "-q", "-n", "0", "-p", "no:cacheprovider")
    few = ("-k", "test_squeeze_excite or test_batches")
    return Part((*words, *files), 180, tiny=few, read=tested, needs=("optuna", "sqlalchemy", *TESTING))


def tested(out: str) -> Found:
    """How many tests passed and which did not, from pytest's summary."""
    *lines, last = out.strip().splitlines()
    counts = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    if not counts:
        raise ValueError("pytest ended without a summary")
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return {
        "figures": {"passed": counts.get("passed", 0), "skipped": counts.get("skipped", 0), "failed": failed},
        "bars": {"failed": 0},
        "holds": counts.get("passed", 0) > 0 and not failed,
    }


def no_second_rank() -> str | None:
    """Why several ranks cannot be tried."""
    import torch

    if torch.cuda.device_count() < 2:
        return "there is one GPU"
    return None if torch.distributed.is_nccl_available() else "torch has no NCCL"


def parts() -> dict[str, Part]:
    """What is checked, by name, the most telling first."""
    return {
        "tests": tests(),
        "se_op": benchmark("se_op", 45, "--device cuda", "--device cuda --repeats 2 --batch-size 2"),
        "launches": benchmark("launches", 90, "", "--space search_spaces/mbconv_digits.yaml"),
        "supernet_step": benchmark(
            "supernet_step",
            90,
            "--device cuda --batch-size 256",
            "--device cuda --batch-size 2 --repeats 2 --family mbconv",
        ),
        "train_step": benchmark(
            "train_step",
            75,
            "--device cuda --batch-size 128 --resolution 224 --precision bfloat16 --rounds 5",
            "--device cuda --batch-size 2 --resolution 32 --rounds 2"
            " --network search_spaces/baselines/mobilenetv1.yaml",
        ),
        "latency_table": benchmark(
            "latency_table",
            120,
            "--device cuda --fresh --max-seconds 40 --held-out 10",
            "--device cuda --fresh --max-seconds 40 --held-out 2 --space search_spaces/mbconv_digits.yaml",
        ),
        "search_ranks": benchmark("search_ranks", 120, "--device cuda --batch-size 1024", "", unless=no_second_rank),
        # last, since torch's compiler takes minutes
        "graph_step": benchmark(
            "graph_step",
            150,
            "--device cuda --space search_spaces/mbconv_cifar.yaml",
            "--device cuda --batch-size 2 --repeats 2 --space search_spaces/mbconv_digits.yaml --what network",
        ),
    }


# --- running them -------------------------------------------------------------------------------


def missing(names: Sequence[str]) -> list[str]:
    """Requirements, as pip takes them, of distributions that are not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted = {re.split(r"[^\w-]", requirement)[0]: requirement for requirement in known}
    found = []
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(wanted[name])
    return found


def installing(requirements: Sequence[str]) -> str:
    """What installs them."""
    return "pip install " + " ".join(f"'{requirement}'" for requirement in requirements)


def run(part: Part, seconds: float, tiny: bool) -> Found:
    """What came of a part: its own JSON, or why there is none; it and its children are ended where they take longer."""
    command = [sys.executable, *part.words, *(part.tiny if tiny else part.options)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=errors, start_new_session=True
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        took = {"seconds": round(time.monotonic() - started, 1)}
        out.seek(0)
        errors.seek(0)
        said, complained = out.read(), errors.read()
    last = ((complained.strip() or said.strip()).splitlines() or ["it said nothing"])[-1][:400]
    if code is None:
        return {"failed": f"it must end within {seconds:.3g} s, but did not: {last}", **took}
    try:
        return {**part.read(said), **took}
    except (ValueError, IndexError):
        return {"failed": f"it ended with {code}: {last}", **took}


def run_all(chosen: dict[str, Part], seconds: float, tiny: bool, say: Callable[[str], None]) -> dict[str, Found]:
    """What came of each part, as long as there is time."""
    limit, found = time.monotonic() + seconds, {}
    for name, part in chosen.items():
        left = limit - time.monotonic()
        lacks = missing(part.needs)
        if lacks:
            found[name] = {"skipped": f"{installing(lacks)} first"}
        elif (reason := part.unless()) is not None:
            found[name] = {"skipped": reason}
        elif left < part.seconds / 3:
            found[name] = {"skipped": f"it may take {part.seconds:.0f} s, and {max(0.0, left):.0f} s were left"}
        else:
            say(f"{name} ...")
            found[name] = run(part, left if tiny else min(part.seconds, left), tiny)
        say(f"{name}: {in_a_line(found[name])}")
    return found


def in_a_line(found: Found) -> str:
    """What came of a part, for people."""
    for word in ("skipped", "failed"):
        if word in found:
            return f"{word}: {found[word]}"
    held = {True: "holds", False: "does not hold", None: "measured"}[found.get("holds")]
    return f"{held} ({found['seconds']} s)"


def refuse(line: str) -> None:
    """End with what must hold."""
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Check, print a line for each part and one JSON object."""
    known = parts()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=known, help="parts; all by default")
    parser.add_argument("--tiny", action="store_true", help="small sizes, whose figures say nothing of speed")
    options = parser.parse_args()
    if lacks := missing(ALWAYS):
        refuse(f"the package needs what is not installed here: {installing(lacks)}")
    sys.path.insert(0, str(ROOT))  # where the package is not installed
    import torch

    from se_nas.hardware.environment import describe_environment

    if not torch.cuda.is_available():
        refuse(f"there must be a CUDA device, but torch {torch.__version__} finds none")
    chosen = {name: part for name, part in known.items() if options.only is None or name in options.only}
    started = time.monotonic()
    found = run_all(chosen, options.seconds, options.tiny, lambda line: print(line, flush=True))
    answer = {
        "benchmark": "gpu",
        "hardware": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "environment": describe_environment("cuda").plain(),
        "tiny": options.tiny,
        "seconds": round(time.monotonic() - started, 1),
        "parts": found,
        "failed": [name for name, part in found.items() if "failed" in part],
        "skipped": [name for name, part in found.items() if "skipped" in part],
        "holds": all(part.get("holds", True) for part in found.values())
        and not any("failed" in p for p in found.values()),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
