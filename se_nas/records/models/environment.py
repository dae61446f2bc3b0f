"""What a number was measured with, as it is written beside every result; `hardware.environment` describes it."""

from __future__ import annotations

from se_nas.records.fields import Count
from se_nas.records.record import Record


class Commit(Record):
    """Of the checkout that was run; `dirty` where tracked files differed from it."""

    hash: str
    dirty: bool


class Environment(Record):
    """See `hardware.environment.describe_environment`; absent packages, GPUs and checkouts are None."""

    se_nas: str
    commit: Commit | None
    python: str
    platform: str
    cpu: str
    cores: Count | None
    threads: Count
    gpu: str | None
    packages: dict[str, str | None]
    time: str
