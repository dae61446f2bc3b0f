"""The search spaces that the repository ships."""

from __future__ import annotations

from pathlib import Path

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
