"""The package imports without the optional libraries, each of which only its one adapter may need; the bottom floors
import without torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import se_nas

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = ("nni", "onnx", "onnxruntime", "optuna", "sqlalchemy", "timm", "torchvision", "triton")

#: Adapters that cannot be imported without their library: the black-box search, the tuners that NNI imports,
#: the model that is imported for timm, and the kernels in Triton.
ADAPTERS = {
    "se_nas.layers.triton_excitation",
    "se_nas.search.black_box.importance",
    "se_nas.search.black_box.pruner",
    "se_nas.search.black_box.architecture_sampler",
    "se_nas.search.black_box.own_samplers.at_once",
    "se_nas.search.black_box.own_samplers.evolution",
    "se_nas.search.black_box.search",
    "se_nas.search.black_box.storage",
    "se_nas.search.black_box.storages.database",
    "se_nas.search.black_box.strategy",
    "se_nas.search.black_box.study",
    "se_nas.search.black_box.own_samplers.thompson",
    "se_nas.export.timm_features",
    "se_nas.export.timm_folder",
    "se_nas.export.timm_model",
    "se_nas.export.timm_network",
    "se_nas.nni_bridge.grid_tuner",
    "se_nas.nni_bridge.tuner",
}

BLOCK = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""


def modules() -> list[str]:
    return sorted(module.name for module in pkgutil.walk_packages(se_nas.__path__, "se_nas."))


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_block_works() -> None:
    code = BLOCK.format(blocked=OPTIONAL) + "import timm"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert "ImportError: timm is blocked" in done.stderr


def test_every_module_but_the_adapters_imports_without_the_optional_libraries() -> None:
    there = set(modules())
    assert there >= ADAPTERS | {"se_nas.cli.main", "se_nas.nni_bridge.launch", "se_nas.nni_bridge.trial"}
    names = sorted(there - ADAPTERS - {"se_nas.__main__"})
    assert len(names) > 70
    code = BLOCK.format(blocked=OPTIONAL)
    # the command line first, so that nothing else has been imported on its behalf
    code += "import se_nas.cli.main, importlib\n"
    code += f"for name in {names!r}: importlib.import_module(name)\n"
    code += f"print(sorted(set({OPTIONAL!r}) & {{name.split('.')[0] for name in sys.modules}}))"
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("floor", [["se_nas.space"], ["se_nas.cost.counts"], ["se_nas.errors", "se_nas.records.files"]])
def test_the_floors_that_describe_networks_import_no_torch(floor: list[str]) -> None:
    names = [name for name in modules() if name.startswith(tuple(floor))]
    assert names
    code = "import importlib, sys\n"
    code += f"for name in {names!r}: importlib.import_module(name)\n"
    code += "print('torch' in sys.modules)"
    assert run(code).strip() == "False"
