"""Export as a whole: what lands in the folder and in its report, and that nothing does where anything is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from se_nas.errors import ExportError, OutputError
from se_nas.export.forms import FORMS, Form, Subject
from se_nas.export.record import ExportReport, Normalisation
from se_nas.export.write import export_network
from se_nas.layers.network import Network
from se_nas.records.record import read_record
from se_nas.space.architecture_file import ArchitectureFile
from se_nas.space.search_space import SearchSpace
from tests.export.trained import trained

GREY = Normalisation(mean=(0.5,), std=(0.25,))
Exported = tuple[Network, ArchitectureFile]


@pytest.fixture(scope="module")
def exported(tiny_space: SearchSpace) -> Exported:
    *_, largest = tiny_space.enumerate()
    file = ArchitectureFile.of(tiny_space, largest)
    return trained(file.network), file


def export(exported: Exported, out: Path, *forms: str) -> ExportReport:
    return export_network(*exported, out, forms, say=lambda line: None, normalisation=GREY)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_form_is_written_and_compared(exported: Exported, tmp_path: Path) -> None:
    if missing := [p for form in FORMS.values() for p in form.packages if importlib.util.find_spec(p) is None]:
        pytest.skip(f"needs {' '.join(missing)}")
    network, file = exported
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lines: list[str] = []
    report = export_network(network, file, tmp_path / "out", list(FORMS), say=lines.append, normalisation=GREY)
    assert read_record(ExportReport, tmp_path / "out" / "export.json") == report
    assert set(report.forms) == set(FORMS)
    assert [line.partition(":")[0] for line in lines] == list(FORMS)
    files: set[str] = set()
    for name, form in FORMS.items():
        entry = report.forms[name]
        assert entry.greatest_difference <= entry.bar == form.bar <= 1e-4
        assert (entry.latency is None) == (form.runtime is None)
        assert sorted(entry.files) == sorted(form.files)
        for path, size in entry.files.items():
            assert (tmp_path / "out" / path).stat().st_size == size
            files.add(path.partition("/")[0])
    assert names(tmp_path / "out") == files | {"export.json"}
    timed = report.forms["onnx"].latency
    assert timed is not None
    assert timed.of("onnxruntime").median_ms > 0
    assert timed.pytorch.n == timed.of("onnxruntime").n >= 6
    assert report.network.params == sum(p.numel() for p in network.parameters())
    assert report.normalisation == GREY
    assert "mean: 0.5\n" in (tmp_path / "out" / "network.py").read_text()
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_the_images_went_through_is_said_in_words_too(exported: Exported, tmp_path: Path) -> None:
    images = GREY.model_copy(
        update={"resolution": 8, "crop": 0.9, "interpolation": "bicubic", "class_names": ("a", "\udce9", "c")}
    )
    network, file = exported
    export_network(network, file, tmp_path / "out", ["plain"], say=lambda line: None, normalisation=images)
    text = (tmp_path / "out/network.py").read_text()
    for line in ("images: grey in [0, 1], ", "input size: 1, 8, 8", "crop: 0.9", "interpolation: bicubic"):
        assert f"\n{line}" in text
    report = read_record(ExportReport, tmp_path / "out/export.json")
    assert report.normalisation == images


def test_what_differs_is_not_handed_on(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = FORMS["plain"]

    def write_another(subject: Subject, folder: Path) -> None:
        bias = subject.network.head.classifier.bias
        with torch.no_grad():
            bias.add_(1e-3)
        plain.write(subject, folder)
        with torch.no_grad():
            bias.sub_(1e-3)

    export(exported, tmp_path, "plain")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setitem(FORMS, "another", dataclasses.replace(plain, write=write_another))
    with pytest.raises(ExportError, match=r"export as another must agree .* to 1e-05 .* difference is 0.00\d+$"):
        export(exported, tmp_path, "plain", "another")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_forms_of_the_same_weights_share_a_folder_and_others_do_not(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FORMS["plain"]

    def write_folder(subject: Subject, folder: Path) -> None:
        (folder / "second").mkdir()
        plain.write(subject, folder / "second")

    files = ("second/network.py", "second/weights.pt")
    second = Form(files, write_folder, lambda folder: plain.load(folder / "second"), 1e-5, runtime="itself")
    monkeypatch.setitem(FORMS, "second", second)
    first = export(exported, tmp_path, "plain").forms["plain"]
    report = export(exported, tmp_path, "second")
    assert report.forms["plain"] == first
    assert set(report.forms["second"].files) == {"second/network.py", "second/weights.pt"}
    assert (timed := report.forms["second"].latency) is not None
    assert timed.of("itself").n >= 6
    _, file = exported
    other = (trained(file.network, seed=1), file)
    with pytest.raises(ExportError, match="must hold the exports of one network, but this one has second of other"):
        export(other, tmp_path, "plain")
    both = export(other, tmp_path, "plain", "second")
    assert both.network.weights_sha256 != report.network.weights_sha256
    assert names(tmp_path) == {"export.json", "network.py", "weights.pt", "second"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(exported: Exported, out: Path, *forms: str) -> str:
    before = contents(out)
    with pytest.raises(ExportError) as caught:
        export(exported, out, *forms)
    assert contents(out) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_of_others_are_neither_replaced_nor_removed(exported: Exported, tmp_path: Path) -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm")
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "mywork.txt").write_text("precious")
    (tmp_path / "network.py").write_text("mine")
    (tmp_path / "network.pt2").symlink_to("nowhere")
    say = (
        f"{tmp_path}: what an export replaces must be files that the export.json there lists, but {{}} none; "
        "move them away, or export elsewhere"
    )
    assert refused(exported, tmp_path, "timm", "plain") == say.format("network.py is")
    assert refused(exported, tmp_path, "torch_export", "plain", "timm") == say.format("network.pt2, network.py are")
    (tmp_path / "timm" / "config.json").mkdir()
    assert refused(exported, tmp_path, "timm") == say.format("timm/config.json is")
    (tmp_path / "timm" / "config.json").rmdir()
    for _ in range(2):  # the second replaces what the first wrote
        export(exported, tmp_path, "timm")
        assert names(tmp_path / "timm") == {"architecture.json", "config.json", "mywork.txt", "weights.pth"}
        assert (tmp_path / "timm" / "mywork.txt").read_text() == "precious"
        assert (tmp_path / "network.py").read_text() == "mine"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "timm").write_text("a file")
    assert refused(exported, elsewhere, "timm") == say.format("timm is").replace(str(tmp_path), str(elsewhere))


@pytest.mark.parametrize("content", ["{}", "mine", '{"format": "another", "forms": {}}', "[]", b"\xff"])
def test_a_report_of_others_is_not_replaced(exported: Exported, tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused(exported, tmp_path, "plain")
    assert said.startswith(f"{path}: the file must be the report of an earlier export, or not be there")


def test_an_export_that_was_killed_can_be_repeated(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(exported, tmp_path, "torch_export")
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).name == "network.py":
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export(exported, tmp_path, "plain")
    monkeypatch.undo()
    assert set(json.loads((tmp_path / "export.json").read_text())["forms"]) == {"torch_export"}
    assert set(export(exported, tmp_path, "plain").forms) == {"torch_export", "plain"}
    assert "exchanged" not in json.loads((tmp_path / "export.json").read_text())
    assert names(tmp_path) == {"export.json", "network.pt2", "network.py", "weights.pt"}


def test_what_cannot_be_done_is_one_line(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ", ".join(FORMS)
    with pytest.raises(ExportError, match=f"must be one of {known}, but got 'tflite'"):
        export(exported, tmp_path, "plain", "tflite")
    with pytest.raises(ExportError, match=f"must be some of {known}, but got none"):
        export(exported, tmp_path)
    for package in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=r"as onnx needs onnx and .* to be installed: pip install .se-nas.export.."):
        export(exported, tmp_path, "plain", "onnx")
    assert not names(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="must be writable"):
        export(exported, tmp_path / "file", "plain")
