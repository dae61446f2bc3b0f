"""What a number was measured with, as it is written beside every result; `hardware.environment` describes it."""

from __future__ import annotations

from se_nas.records.fields import Amount, Count
from se_nas.records.record import Record


class Commit(Record):
    """Of the checkout that was run; `dirty` where tracked files differed from it."""

    hash: str
    dirty: bool


class Environment(Record):
    """See `hardware.environment.describe_environment`; absent packages, GPUs and checkouts are None.

    Attributes:
        load: how many processes of this machine wanted to run in the minute before; None where the system does not say.
        allocator: how memory is kept from step to step, where not as the system does.
    """

    se_nas: str
    commit: Commit | None
    python: str
    platform: str
    cpu: str
    cores: Count | None
    threads: Count
    gpu: str | None
    load: Amount | None = None
    allocator: str | None = None
    device: str | None = None
    packages: dict[str, str | None]
    time: str
