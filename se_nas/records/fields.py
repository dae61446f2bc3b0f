"""What the numbers of records, and the names in them, may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from se_nas.records.registry import known

#: The metric of latency where it is of one device; of several each has a name after a dot.
LATENCY = "latency_ms"
#: What budgets and costs are of.
Metric = Annotated[str, known("metric")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
#: Whole, or as a table adds it up; both are written as they are.
Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**18)]
Seed = Annotated[int, Field(ge=0)]
#: A number of any size as text; see `space.size`.
Digits = Annotated[str, Field(pattern=r"^([0-9]{1,1000}|[0-9]\.[0-9]{2}e\+[0-9]{1,6})$")]
Interval = tuple[Number, Number]
#: Of a file or folder; an empty one would be the working folder.
PathText = Annotated[str, Field(min_length=1)]
