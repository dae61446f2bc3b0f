"""Worker processes end with the process that they work for, and a killed call leaves nothing that a later one takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from se_nas.cli import main as cli
from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shard_writing import write_shards
from se_nas.errors import OutputError
from se_nas.records.locks import locked
from tests.helpers.jpeg_folders import write_folder

_STUCK = """
import os, sys, time
from pathlib import Path
from se_nas.data.on_disk import encoded_images, image_folder, shard_writing, stream, transforms

def stuck(*_):
    os.write(1, b"stuck\\n")
    time.sleep(600)
"""
_SHARD = "shard_writing.write_shards(Path(sys.argv[1]), Path(sys.argv[2]), images_per_shard=4, workers=2, {progress})"
_STREAM = """
images = encoded_images.open_encoded_images(Path(sys.argv[1]))[0]
transform = transforms.TrainTransform(resolution=8)
stream.TrainStream(images, transform, batch_size=3, workers=2).micro_batches(0, 0)
stuck()
"""
_READ = "image_folder.FolderImages.read = stuck\n"
_DRIVERS = {
    "shards, workers at work": _STUCK + _READ + _SHARD.format(progress=""),
    "shards, workers idle": _STUCK + _SHARD.format(progress="progress=stuck"),
    "stream, workers at work": _STUCK + _READ + _STREAM,
}


@contextmanager
def _stuck(driver: str, *paths: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun and does not end by itself; killed in the end, and then waited for with its workers."""
    command = [sys.executable, "-c", driver, *map(str, paths)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"stuck\n"
            yield process
        finally:
            process.kill()
            try:
                process.communicate(timeout=240)  # as its workers hold the other end too, this waits for them
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # they are alive, so that the number of the group is theirs
                raise


def _whole(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.mark.parametrize("name", _DRIVERS)
def test_workers_end_when_their_process_is_killed(tmp_path: Path, name: str) -> None:
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    with _stuck(_DRIVERS[name], source, out):
        pass
    if name.startswith("shards"):
        with locked(out / ".lock"):  # until the workers have let go of it: a process closes its files one by one
            pass
        write_shards(source, out, images_per_shard=4)
        write_shards(source, tmp_path / "whole", images_per_shard=4)
        assert _whole(out) == _whole(tmp_path / "whole")


def test_a_second_call_at_once_is_refused_and_the_first_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    with _stuck(_DRIVERS["shards, workers at work"], source, out):
        before = _whole(out)
        with pytest.raises(OutputError, match=r"out: one call at a time must write here, but another is at it"):
            write_shards(source, out, images_per_shard=4)
        monkeypatch.setattr(sys, "argv", ["se-nas", "data", "shard", str(source), str(out), "--quiet"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        assert line.startswith(f"error: {out}: one call at a time must write here")
        assert before.items() <= _whole(out).items()
    with locked(out / ".lock"):  # until the workers have let go of it
        pass
    write_shards(source, out, images_per_shard=4)
    assert [len(half) for half in open_encoded_images(out)] == [15, 6]
