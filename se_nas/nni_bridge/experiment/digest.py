"""Whether the configuration that NNI stored is the one that we wrote, but for what its page lets a user change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: What the page changes; a number, a duration and the axes of its charts run no program, and NNI checks them again.
PAGE_CHANGES = ("trialConcurrency", "maxTrialNumber", "maxExperimentDuration", "searchSpace")


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of NNI's canonical configuration without `PAGE_CHANGES`, the same after a way through JavaScript."""
    kept = {name: value for name, value in config.items() if name not in PAGE_CHANGES}
    return hashlib.sha256(json.dumps(_plain(kept), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A JSON value whose numbers are doubles, as JavaScript's are."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return repr(float(value) + 0.0)  # without the sign of a zero
        except OverflowError:
            return None
    return value
