"""A trial that starts fast: its accuracy is a function of the picks, and it writes down what it ran.

The first one asks for its parameters after the second, so that NNI hands it those of another. Number 1 fails; some
wait until the test has made a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se_nas.nni_bridge.own_parameters import take_parameters
from se_nas.nni_bridge.page_values import PROPOSAL, final_metrics
from se_nas.nni_bridge.trial import send_epoch

FAILS = 1
#: Numbers of proposals, and the file each waits for.
WAITS, LATE = 2, 4
WAITS_FOR = {WAITS: "resumed", LATE: "killed"}


def worth(picks: Mapping[str, Any]) -> float:
    words = json.dumps({name: picks[name] for name in sorted(picks) if name != PROPOSAL}).encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:4], "big") / 2**32


def wait_for(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)


def main(run: Path) -> int:
    import nni

    name = os.environ["NNI_TRIAL_JOB_ID"]
    sequence = os.environ["NNI_TRIAL_SEQ_ID"]
    if sequence == "0":
        wait_for(run / "asked-1")
    handed = nni.get_next_parameter()
    nni.get_next_parameter = lambda: handed  # asked a second time, NNI would hand over more
    own = take_parameters()
    (run / f"asked-{sequence}").touch()
    with (run / "ran.jsonl").open("a") as file:
        file.write(json.dumps({"id": name, "own": own.parameters, "handed": handed}) + "\n")
    number = own.parameters[PROPOSAL]
    if number == FAILS:
        return 1
    if number in WAITS_FOR:
        wait_for(run / WAITS_FOR[number])
    accuracy = worth(own.parameters)
    send_epoch(0, {"default": accuracy / 2})
    send_epoch(1, {"default": accuracy})
    nni.report_final_result(final_metrics(accuracy, {"macs": 1e3}, {"macs": -0.5}, 0.25, number))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
