"""Numbers in files that a user writes, each within its bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from se_nas.records.bounds import MOST_BATCH, MOST_COUNT, MOST_SEED, MOST_WORKERS

Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Workers = Annotated[int, Field(ge=1, le=MOST_WORKERS)]
Count = Annotated[int, Field(ge=1, le=MOST_COUNT)]
CountFromZero = Annotated[int, Field(ge=0, le=MOST_COUNT)]
BatchSize = Annotated[int, Field(ge=2, le=MOST_BATCH)]  # batch norm needs two
