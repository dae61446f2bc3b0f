"""How a benchmark ends that cannot go on: in one line, which says of a stopped training how it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from se_nas.errors import SeNasError, TrainingInterrupted


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Decorate a script's `main` with it."""
    try:
        yield
    except (SeNasError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    except TrainingInterrupted as stopped:
        print(f"{stopped} (run the same command again)", file=sys.stderr)
        raise SystemExit(128 + stopped.signal_number) from None
