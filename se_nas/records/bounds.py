"""Bounds of numbers that a user may give, one for each kind: what nobody can mean is refused before work begins."""

from __future__ import annotations

#: The greatest seed: torch, NumPy and what derives others from it take every one up to here.
MOST_SEED = 2**32 - 1
#: CPU threads, or processes at a time: an operating system gives out no more, and torch ends the process instead.
MOST_WORKERS = 1024
#: Of anything that is counted one by one: epochs, evaluations, networks.
MOST_COUNT = 1_000_000
#: Images at once.
MOST_BATCH = 2**20
