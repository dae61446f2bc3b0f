"""Plugins in one process of tests: what they add goes again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from se_nas import plugins as loading
from se_nas.cost.metrics import METRICS
from se_nas.data.sources import DATASETS
from se_nas.export.forms import FORMS
from se_nas.records.registry import Registry
from se_nas.records.run_log import LOGGERS
from se_nas.search.black_box.evaluators.registry import EVALUATORS
from se_nas.search.black_box.samplers import SAMPLERS
from se_nas.search.strategies import STRATEGIES
from se_nas.space.attention import ATTENTION
from se_nas.space.blocks import BLOCKS

REGISTRIES: tuple[Registry[Any], ...] = (
    *(STRATEGIES, SAMPLERS, EVALUATORS, DATASETS, METRICS, LOGGERS, FORMS),
    *(BLOCKS, ATTENTION),
)
OURS = [set(registry) for registry in REGISTRIES]


@contextmanager
def no_plugins() -> Iterator[None]:
    """As if no plugin had been imported yet; afterwards all is as it was before."""
    loaded, before, modules = dict(loading._loaded), [dict(registry) for registry in REGISTRIES], set(sys.modules)
    loading._loaded.clear()
    for registry, ours in zip(REGISTRIES, OURS, strict=True):
        for name in set(registry) - ours:
            del registry[name]
    try:
        yield
    finally:
        loading._loaded.clear()
        loading._loaded.update(loaded)
        for registry, entries in zip(REGISTRIES, before, strict=True):
            for name in set(registry) - set(entries):
                del registry[name]
            registry.update(entries)
        for name in set(sys.modules) - modules:
            if name.startswith(("se_nas_plugin_", "tests_plugin_")):
                del sys.modules[name]
