"""An image of a user's starts no program, whatever it is called, and is refused by the name of its format."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import se_nas
from se_nas.data.file_options import FileOptions
from se_nas.data.image_file import SAFE_FORMATS, decode
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.data.on_disk.stream import EvaluationStream, TrainStream
from se_nas.data.on_disk.transforms import EvalTransform, TrainTransform
from se_nas.data.sources import load_train
from se_nas.errors import DataError
from tests.helpers.jpeg_folders import jpeg, write_folder

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def test_images_of_any_mode_become_rgb_and_rgb_stays_as_it_is() -> None:
    for mode in ("L", "CMYK", "P", "1", "RGBA"):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(jpeg(0))).convert(mode).save(buffer, "TIFF")
        assert decode(buffer.getvalue()).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(decode(jpeg(1))), np.asarray(Image.open(io.BytesIO(jpeg(1)))))


def test_truncated_images_are_errors() -> None:
    with pytest.raises(OSError, match="truncated"):
        decode(jpeg(0)[:-200])


@pytest.mark.parametrize("content", [b"", b"no image", b"\0" * 300])
def test_what_is_no_image_is_said_in_the_same_words_every_time(content: bytes) -> None:
    with pytest.raises(OSError, match=r"^it is not an image that Pillow can read$"):
        decode(content)


@pytest.mark.parametrize("name", SAFE_FORMATS)
def test_an_image_of_every_format_that_is_read_comes_back(name: str) -> None:
    Image.init()
    if name not in Image.SAVE:
        pytest.skip(f"this Pillow was built without {name}")
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 100, 50)).save(buffer, name)
    image = decode(buffer.getvalue())
    assert (image.mode, image.size) == ("RGB", (32, 32))
    np.testing.assert_allclose(np.asarray(image)[8:24, 8:24].mean((0, 1)), (200, 100, 50), atol=6)


@pytest.mark.parametrize("name", ["PCX", "SGI", "EPS", "MPEG", "HDF5", "PSD"])
def test_an_image_of_another_format_is_refused_by_its_name(name: str) -> None:
    contents = {"EPS": POSTSCRIPT, "MPEG": b"\0\0\1\xb3" + b"x" * 90, "HDF5": b"\x89HDF\r\n\x1a\n", "PSD": b"8BPS" * 9}
    buffer = io.BytesIO(contents.get(name, b""))
    if name not in contents:
        Image.new("RGB", (8, 8)).save(buffer, name)
    with pytest.raises(OSError, match=rf"^it is of the format {name}, but must be of .*JPEG, .*PNG, [A-Z, ]*$"):
        decode(buffer.getvalue())


def test_a_beginning_alone_is_not_called_another_format() -> None:
    with pytest.raises(OSError, match=r"^it begins like BMP, but does not go on like it$"):
        decode(b"BM is no image")


#: What starts a program in the modules of safe formats, but is no part of reading: nothing calls it, or saving does.
_NO_PART_OF_READING = {("JpegImagePlugin", "load_djpeg"), ("GifImagePlugin", "_save_netpbm")}
_STARTS_A_PROGRAM = re.compile(
    r"\b(subprocess|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*)|ctypes|olefile|eval|exec)\b"
)


def test_no_module_of_a_safe_format_starts_a_program_to_read() -> None:
    Image.init()
    modules = {Image.OPEN[name][0].__module__ for name in SAFE_FORMATS if name in Image.OPEN}
    assert len(modules) >= 8
    called = ""
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        source = Path(str(spec.origin)).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                code = "\n".join(map(ast.unparse, node.body))
                short = module.rpartition(".")[2]
                assert not _STARTS_A_PROGRAM.search(code) or (short, node.name) in _NO_PART_OF_READING
                if (short, node.name) not in _NO_PART_OF_READING:
                    called += code
    for _, function in _NO_PART_OF_READING:
        assert not re.search(rf"\b{function}\(", called)


def test_pillow_is_given_a_file_in_one_place_alone() -> None:
    root = Path(se_nas.__file__).parent
    opens = re.compile(
        r"Image\.open|ImageFile\.Parser|read_image|decode_image|decode_jpeg|ImageFolder|pil_loader|imread"
    )
    assert [p.name for p in sorted(root.rglob("*.py")) if opens.search(p.read_text())] == ["image_file.py"]


@pytest.fixture
def gs_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the Ghostscript that stands first in PATH was started."""
    mark, folder = tmp_path / "mark", tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!{sys.executable}\nopen({str(mark)!r}, 'w').close()\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    for name in ("gs_binary", "gs_windows_binary"):  # what Pillow found before
        monkeypatch.setattr(f"PIL.EpsImagePlugin.{name}", None)
    return mark.exists


def test_pillow_itself_would_start_ghostscript(gs_ran: Callable[[], bool]) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - of a Ghostscript that writes no image
        Image.open(io.BytesIO(POSTSCRIPT)).load()
    assert gs_ran()


def test_postscript_among_a_folders_images_is_named_and_starts_nothing(
    tmp_path: Path, gs_ran: Callable[[], bool]
) -> None:
    root = write_folder(tmp_path / "data")
    (root / "train" / "class_b" / "z.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(DataError, match=r"class_b/z.jpg \(it is of the format EPS"):
        load_train(DataOptions("folder", root, files=FileOptions(max_damaged=0)))
    assert not gs_ran()


def test_postscript_among_encoded_images_is_left_out_by_name_and_starts_nothing(
    tmp_path: Path, gs_ran: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder as ImageNet's, in tar files made of it, and in tar files of another origin."""
    root, out = write_folder(tmp_path / "data"), tmp_path / "out"
    for half in ("train", "val"):
        (root / half / "class_b" / "z.jpg").write_bytes(POSTSCRIPT)
    summary = write_shards(root, out, workers=1)
    assert sorted(summary.damaged) == ["train/class_b/z.jpg", "val/class_b/z.jpg"]
    assert all(reason.startswith("it is of the format EPS, but") for reason in summary.damaged.values())
    monkeypatch.setattr("se_nas.data.on_disk.shard_writing.decode", lambda content, reading: Image.new("RGB", (8, 8)))
    write_shards(root, tmp_path / "foreign")  # as a tool writes them that looks at no image
    for folder in (root, tmp_path / "foreign"):
        train, val = open_encoded_images(folder)
        stream = TrainStream(train, TrainTransform(resolution=8), batch_size=16)
        stream.micro_batches(0, 0)
        stream.close()
        evaluation = EvaluationStream(val, EvalTransform(resolution=8), batch_size=8)
        assert sum(len(labels) for _, labels in evaluation) == 6
        for damaged in (stream.damaged, evaluation.damaged):
            ((name, reason),) = damaged.items()
            assert name.endswith(".jpg")
            assert reason.startswith("it is of the format EPS, but must be of ")
    assert not gs_ran()
