"""Which process of a job this one is."""

from __future__ import annotations

import os


def rank_of_environment() -> int:
    """The rank that torchrun gave this process; 0 where torchrun did not start it."""
    return int(os.environ.get("RANK", "0"))
