"""Laws 4 and 8: what is written reads back equal, and every committed space loads and is what its golden numbers say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given

from se_nas.cost.counts import block_counts, conv_spec_counts, head_counts
from se_nas.space.architecture import (
    Architecture,
    ArchitectureFile,
    load_architecture,
    network_from_dict,
    save_architecture,
)
from se_nas.space.files import dump_space, load_space, parse_space
from se_nas.space.search_space import SearchSpace
from tests.laws.shipped import SHIPPED
from tests.strategies import spaces, spaces_with_architectures
