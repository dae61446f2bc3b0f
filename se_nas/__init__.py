"""Neural architecture search over CNNs that choose, block by block, whether to use SE and at which ratio.

The names below are the public interface. Each is imported when it is first asked for: the package alone takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:  # the names once more, for editors and type checkers
    from se_nas.cost.budget import Budget as Budget
    from se_nas.cost.budget import parse_budgets as parse_budgets
    from se_nas.cost.counts import network_counts as network_counts
    from se_nas.cost.latency.cache import latency_table as latency_table
    from se_nas.cost.table import count_tables as count_tables
    from se_nas.data.sources import DATASETS as DATASETS
    from se_nas.errors import SeNasError as SeNasError
    from se_nas.export.forms import FORMS as FORMS
    from se_nas.layers.from_model.space import SpaceOfModel as SpaceOfModel
    from se_nas.layers.from_model.space import space_of as space_of
    from se_nas.layers.network import Network as Network
    from se_nas.layers.network import build as build
    from se_nas.runs.verbs import FinishedRun as FinishedRun
    from se_nas.runs.verbs import RunAnswer as RunAnswer
    from se_nas.runs.verbs import certify as certify
    from se_nas.runs.verbs import decode_run as decode_run
    from se_nas.runs.verbs import evaluate as evaluate
    from se_nas.runs.verbs import export_trained as export_trained
    from se_nas.runs.verbs import render_report as render_report
    from se_nas.runs.verbs import run as run
    from se_nas.runs.verbs import train as train
    from se_nas.search.black_box.samplers import SAMPLERS as SAMPLERS
    from se_nas.search.black_box.search import search_architectures as search_architectures
    from se_nas.search.budgets.decode import decode as decode
    from se_nas.search.strategies import STRATEGIES as STRATEGIES
    from se_nas.space.architecture import Architecture as Architecture
    from se_nas.space.architecture_file import ArchitectureFile as ArchitectureFile
    from se_nas.space.architecture_file import load_architecture as load_architecture
    from se_nas.space.architecture_file import save_architecture as save_architecture
    from se_nas.space.attention import ATTENTION as ATTENTION
    from se_nas.space.blocks import BLOCKS as BLOCKS
    from se_nas.space.search_space import SearchSpace as SearchSpace
    from se_nas.space.specs import NetworkSpec as NetworkSpec
    from se_nas.space.templates import HeadTemplate as HeadTemplate
    from se_nas.space.templates import OpTemplate as OpTemplate
    from se_nas.space.templates import SETemplate as SETemplate
    from se_nas.space.templates import StageTemplate as StageTemplate
    from se_nas.space.templates import StemTemplate as StemTemplate
    from se_nas.space.yaml.file import dump_space as dump_space
    from se_nas.space.yaml.file import load_space as load_space
    from se_nas.space.yaml.file import parse_space as parse_space
    from se_nas.supernet.supernet import SuperNet as SuperNet
    from se_nas.training.recipe_files import RECIPES as RECIPES

#: Public names by the module that has them; none is that of a folder of the package, which would take its place.
_PUBLIC = {
    "se_nas.space.search_space": ("SearchSpace",),
    "se_nas.space.templates": (
        "StageTemplate",
        "OpTemplate",
        "SETemplate",
        "StemTemplate",
        "HeadTemplate",
    ),
    "se_nas.space.yaml.file": (
        "load_space",
        "parse_space",
        "dump_space",
    ),
    "se_nas.space.architecture": ("Architecture",),
    "se_nas.space.architecture_file": (
        "ArchitectureFile",
        "load_architecture",
        "save_architecture",
    ),
    "se_nas.space.specs": ("NetworkSpec",),
    "se_nas.cost.budget": (
        "Budget",
        "parse_budgets",
    ),
    "se_nas.cost.counts": ("network_counts",),
    "se_nas.cost.table": ("count_tables",),
    "se_nas.cost.latency.cache": ("latency_table",),
    "se_nas.search.budgets.decode": ("decode",),
    "se_nas.search.black_box.search": ("search_architectures",),
    "se_nas.runs.verbs": (
        "run",
        "FinishedRun",
        "decode_run",
        "RunAnswer",
        "train",
        "evaluate",
        "export_trained",
        "render_report",
        "certify",
    ),
    "se_nas.layers.network": (
        "Network",
        "build",
    ),
    "se_nas.layers.from_model.space": (
        "space_of",
        "SpaceOfModel",
    ),
    "se_nas.supernet.supernet": ("SuperNet",),
    "se_nas.space.blocks": ("BLOCKS",),
    "se_nas.space.attention": ("ATTENTION",),
    "se_nas.search.strategies": ("STRATEGIES",),
    "se_nas.search.black_box.samplers": ("SAMPLERS",),
    "se_nas.data.sources": ("DATASETS",),
    "se_nas.training.recipe_files": ("RECIPES",),
    "se_nas.export.forms": ("FORMS",),
    "se_nas.errors": ("SeNasError",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
