"""Importing timm where torchvision's compiled operators do not match torch.

A torchvision built for CUDA beside a CPU build of torch (or the reverse) cannot load its operators, and its import then
ends in "operator torchvision::nms does not exist", which takes timm with it. Nothing here calls those operators, so it
is enough that their schemas exist.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")
_registered: list[torch.library.Library] = []  # a schema lives as long as the library that defined it


def import_timm() -> ModuleType:
    """Return timm; ImportError if it is not installed. torchvision's detection operators may be missing."""
    missing: set[str] = set()
    while True:
        known = set(sys.modules)
        try:
            return importlib.import_module("timm")
        except RuntimeError as error:
            match = _MISSING.search(str(error))
            if match is None or match[1] not in _SCHEMAS or match[1] in missing:
                raise
            missing.add(match[1])
        for module in set(sys.modules) - known:  # half imported: the next attempt must start afresh
            if module.partition(".")[0] in ("timm", "torchvision"):
                del sys.modules[module]
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define(_SCHEMAS[match[1]])  # type: ignore[no-untyped-call]
        _registered.append(library)
