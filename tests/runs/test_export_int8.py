"""`se-nas export --int8` as its user meets it: what it writes, what each SE costs, and what stops it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from se_nas.cost.latency.runtimes.quantise import quantised
from se_nas.export.int8.write import FILE
from se_nas.export.onnx_file import FILE as ONNX_FILE
from se_nas.export.onnx_file import nodes_of
from se_nas.export.record import ExportReport
from se_nas.records.record import read_record
from se_nas.runs.verbs import export_trained
from se_nas.training.trained_network import DataCard
from tests.helpers.command_lines import Run, assert_refused, call
from tests.helpers.tiny_imagenet import NETWORK
from tests.helpers.tiny_runs import write_yaml

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BASELINE = {name: value for name, value in NETWORK.items() if name != "scaling"}
ONNX = ("--to", "onnx", "--quiet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retraining on the embedded digits that was exported with the SE of block 2 in float; not to be changed."""
    home = tmp_path_factory.mktemp("home")
    baseline = write_yaml(home / "one.yaml", {**BASELINE, "resolution": 8})
    words = ["--epochs", 1, "--batch-size", 50, "--device", "cpu", "--quiet"]
    assert call("retrain", baseline, "--data", "digits", "--out", home / "out", *words) == 0
    assert call("export", home / "out", *ONNX, "--int8", "--int8-float-se", 2) == 0
    return home / "out"


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_report_has_float_and_int8_and_the_price_of_every_se(trained: Path) -> None:
    report = read_record(ExportReport, trained / "export" / "export.json")
    found = report.int8
    assert found is not None
    assert [network.float_se for network in found.int8] == [(), (1,), (2,), (1, 2)]
    assert (found.float32.float_se, found.written, found.data) == (None, (2,), "digits")
    assert [unit.block for unit in found.units] == [1, 2]
    assert 256 < found.calibrated_on <= 512 < found.training_images
    assert found.tested_on == found.test_images
    assert found.conditions.dtype == "int8"
    assert all(network.agreement > 0.9 for network in found.int8)
    plain = found.of(())
    for network in (found.float32, *found.int8):
        change = round((network.accuracy - plain.accuracy) * found.tested_on)
        assert change == network.gained - network.lost
        assert network.latency.n >= 20
    assert (trained / "export" / FILE).stat().st_size == found.of((2,)).bytes == found.files[FILE]
    assert found.float32.bytes == report.forms["onnx"].files[ONNX_FILE]


def test_the_se_that_was_named_is_in_float_and_everything_else_in_integers(trained: Path) -> None:
    model = onnx.load(trained / "export" / FILE)
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    given = (trained / "export" / ONNX_FILE).read_bytes()

    def of_quantised_weights(module: str) -> set[bool]:
        names = nodes_of(given, module)
        layers = [node for node in model.graph.node if node.name in names and node.op_type in ("Gemm", "Conv")]
        assert layers
        return {made_by.get(node.input[1]) == "DequantizeLinear" for node in layers}

    assert of_quantised_weights("blocks.1.se") == {False}
    assert of_quantised_weights("blocks.0.se") == {True}
    assert of_quantised_weights("blocks.2") == {True}
    assert of_quantised_weights("head") == {True}


def test_the_file_takes_any_batch_size_and_is_near_the_float_one(trained: Path) -> None:
    card = DataCard.load(trained)
    assert card is not None
    digits = load_digits().images[:64, None].repeat(3, axis=1) / 16
    mean, std = (np.array(values)[:, None, None] for values in (card.mean, card.std))
    images = ((digits - mean) / std).astype(np.float32)
    (given,) = session(trained / "export" / ONNX_FILE).run(None, {"images": images})
    (found,) = session(trained / "export" / FILE).run(None, {"images": images})
    assert (given.argmax(1) == found.argmax(1)).mean() > 0.9
    assert not np.array_equal(given, found)


def test_with_every_node_in_float_the_file_is_the_float_export(trained: Path, tmp_path: Path) -> None:
    model = (trained / "export" / ONNX_FILE).read_bytes()
    images = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    everything = [node.name for node in onnx.load_from_string(model).graph.node]
    (tmp_path / "float.onnx").write_bytes(quantised(model, [images], everything))
    found = onnx.load(tmp_path / "float.onnx")
    assert [node.name for node in found.graph.node] == everything
    (expected,) = session(trained / "export" / ONNX_FILE).run(None, {"images": images})
    np.testing.assert_array_equal(session(tmp_path / "float.onnx").run(None, {"images": images})[0], expected)


def test_another_form_of_the_same_network_leaves_the_int8_one_in_place(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    before = read_record(ExportReport, folder / "export" / "export.json")
    assert call("export", folder, "--to", "plain") == 0
    report = read_record(ExportReport, folder / "export" / "export.json")
    assert report.int8 == before.int8
    assert set(report.forms) == {"onnx", "plain"}
    (folder / "export" / FILE).write_bytes(b"altered")
    assert call("export", folder, "--to", "plain") == 2


@pytest.mark.slow
def test_an_int8_export_that_is_stopped_leaves_the_float_one_and_can_be_begun_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))

    def stopped_by_hand(*words: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("se_nas.export.int8.write.quantised", stopped_by_hand)
        with pytest.raises(KeyboardInterrupt):
            export_trained(folder, folder / "export", ["onnx"], int8=True)
    stopped = read_record(ExportReport, folder / "export" / "export.json")
    assert (stopped.int8, stopped.exchanged) == (None, (FILE,))
    assert not [path for path in (folder / "export").iterdir() if path.name.startswith(".export")]
    assert call("export", folder, "--to", "plain") == 0
    monkeypatch.setattr("se_nas.export.int8.write._ROUNDS", 1)
    assert call("export", folder, *ONNX, "--int8", "--int8-float-se", "all") == 0
    report = read_record(ExportReport, folder / "export" / "export.json")
    assert report.int8 is not None
    assert (report.int8.written, report.exchanged) == ((1, 2), None)


def test_what_cannot_be_quantised_is_one_line_before_anything_is_written(
    se_nas: Run, trained: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.rmtree(folder / "export")
    for words, message in {
        ("--to", "plain", "--int8"): "--int8: must be left out where onnx is not written, but got --to plain",
        (*ONNX, "--int8", "--int8-float-se", "7"): "--int8-float-se: must be all or numbers of blocks with SE (1, 2)",
        (*ONNX, "--int8-float-se", "all"): "--int8-float-se: must be left out without --int8, but got 'all'",
        (*ONNX, "--data-dir", "images"): "--data-dir: must be left out without --int8, but got 'images'",
    }.items():
        assert_refused(se_nas("export", folder, *words), message)
    (folder / "data.json").unlink()
    known = f"--int8: must be of a network whose training images are known, but {folder} has no data.json"
    assert_refused(se_nas("export", folder, *ONNX, "--int8"), known)
    assert not (folder / "export").exists()


def test_a_file_that_no_export_wrote_is_not_replaced(se_nas: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILE).write_bytes(b"mine")
    done = se_nas("export", trained, *ONNX, "--int8", "--out", tmp_path / "out")
    assert_refused(done, f"{tmp_path / 'out'}: what an export replaces must be files that the export.json there lists")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE]  # and nothing was written beside it
    assert (tmp_path / "out" / FILE).read_bytes() == b"mine"
