"""Puts the search spaces and run files into the wheel, where se_nas/records/shipped.py finds them by name.

An editable install has no copies: there the folders of the repository are found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedFiles(BuildHookInterface):
    """Copies of search_spaces/**/*.yaml and runs/*.yaml as se_nas/shipped/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files."""
        if version == "editable":
            return
        root = Path(self.root)
        for path in (*root.glob("search_spaces/**/*.yaml"), *root.glob("runs/*.yaml")):
            place = path.relative_to(root).as_posix()
            build_data["force_include"][place] = f"se_nas/shipped/{place}"
