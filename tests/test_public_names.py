"""The public names: complete, documented, lazy, the same for editors, and enough to write a space and search it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import se_nas
from se_nas import Budget, HeadTemplate, OpTemplate, SearchSpace, SETemplate, StageTemplate, StemTemplate
from tests.helpers.tiny_runs import RUN

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in se_nas.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(se_nas, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert len((value.__doc__ or "").split()) > 3
        assert not value.__doc__.startswith(f"{name}("), "a docstring of its own, not the one dataclasses make"


def test_editors_are_told_the_same_names() -> None:
    tree = ast.parse((ROOT / "se_nas/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    assert told == {f"{module}.{name}" for module, names in se_nas._PUBLIC.items() for name in names}


def test_the_reference_has_every_public_name() -> None:
    tree = ast.parse((ROOT / "docs/generate.py").read_text())
    (listed,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "PYTHON"]
    assert {node.value for value in listed.values for node in ast.walk(value) if isinstance(node, ast.Constant)} == set(
        NAMES
    )


def test_no_public_name_is_that_of_a_folder_or_file_of_the_package() -> None:
    assert not {path.stem for path in (ROOT / "se_nas").iterdir()} & set(NAMES)


def test_an_unknown_name_is_none() -> None:
    assert not hasattr(se_nas, "everything")
    assert set(NAMES) <= set(dir(se_nas))


def test_a_name_brings_no_more_than_it_needs() -> None:
    code = "import se_nas, sys; se_nas.load_space('mbconv_cifar'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "False", done.stderr


def written_in_python() -> SearchSpace:
    def stage(width: int, stride: int, options: tuple[float | None, ...]) -> StageTemplate:
        block = OpTemplate(
            kind="mbconv", name="mbconv", kernels=(3, 5), expansions=(2, 4), se=SETemplate(options=options)
        )
        return StageTemplate(width=width, stride=stride, depths=(1, 2), ops=(block,))

    return SearchSpace(
        name="mine",
        resolution=8,
        stem=StemTemplate(width=8),
        stages=(stage(8, 1, (None, 4)), stage(16, 2, (None, 2, 4))),
        head=HeadTemplate(width=32),
    )


def test_a_space_that_is_written_in_python_is_the_one_that_its_yaml_is() -> None:
    space = written_in_python()
    text = se_nas.dump_space(space)
    again = se_nas.parse_space(yaml.safe_load(text), "dumped")
    assert again == space
    assert again.digest == space.digest


def test_a_run_from_python_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = written_in_python()
    found = se_nas.run(
        space,
        "out",
        budgets={"macs": "1M"},
        data=RUN["data"],
        strategy=RUN["search"],
        retrain=RUN["retrain"],
        settings={"latency": {"table": False}},
        device="cpu",
    )
    counts = se_nas.network_counts(found.architecture.network)
    assert Budget("macs", 1e6).holds(counts.macs)
    assert found.certificate.cross_check.agree
    evaluated = se_nas.evaluate("out", average=False)
    assert found.result.retrain is not None
    assert found.result.retrain.test_accuracy == pytest.approx(evaluated.top1)
    (tmp_path / "out/report.html").unlink()
    assert se_nas.render_report("out") == Path("out/report.html")
    with pytest.raises(se_nas.SeNasError, match=r"must hold no run yet"):
        se_nas.run(space, "out", budgets={})
    with pytest.raises(se_nas.SeNasError, match=r"run\(\): budgets.flops"):
        se_nas.run(space, "other", budgets={"flops": 1})
    exported = se_nas.export_trained("out/retrain", "exported", ["plain"])
    assert list(exported.forms) == ["plain"]
    trained = se_nas.train(found.architecture, "again", data=RUN["data"]["name"], changes={"epochs": 1})
    assert 0 <= trained.test_accuracy <= 1
    assert se_nas.certify(found.architecture.network).costs[0].value == counts.macs
    assert isinstance(se_nas.build(found.architecture.network), se_nas.Network)
