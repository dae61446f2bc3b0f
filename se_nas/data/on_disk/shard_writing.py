"""Write images into tar files that `shards` and WebDataset read: shuffled once, checked once, resized if asked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import signal
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from se_nas.data.class_folders import printable
from se_nas.data.image_file import MAX_DAMAGED, decode, orientation_exif
from se_nas.data.on_disk.encoded_images import EncodedImages, open_encoded_images
from se_nas.data.on_disk.shards import HALVES, ShardIndex, shard_files, shard_name
from se_nas.data.pixels import RGB, Planes, Reading
from se_nas.data.shard_records import CLASSES, SUMMARY, HalfSummary, ShardPlan, Summary, write_classes
from se_nas.data.worker_processes import end_with_parent
from se_nas.errors import DataError, OutputError, counted, cut
from se_nas.records.locks import locked


@dataclass(frozen=True)
class ShardSummary:
    """What `write_shards` did.

    Attributes:
        images: written, by half.
        shards: tar files that there are now.
        kept: those of them that an earlier call had finished.
        bytes: of all tar files.
        damaged: names of the images that were left out, with the reason.
        notes: a line for each kind of file that was passed over.
    """

    images: dict[str, int]
    shards: int
    kept: int
    bytes: int
    damaged: dict[str, str]
    notes: tuple[str, ...] = ()


def write_shards(
    root: Path,
    out: Path,
    *,
    images_per_shard: int = 1000,
    resize: int | None = None,
    quality: int = 90,
    seed: int = 0,
    workers: int = 0,
    max_damaged: int = MAX_DAMAGED,
    reading: Reading = RGB,
    val_labels: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ShardSummary:
    """Write train-*.tar, val-*.tar, an index beside each, classes.json, and SUMMARY, which in the end counts them.

    Training images are shuffled over all tar files, validation images keep their order. A call that was broken off is
    finished by the same call: whole tar files are kept, unless an image in them has changed since, such as a damaged
    one that was repaired. Every image is decoded, and left out if it is damaged.

    Args:
        root: any layout of `open_encoded_images`.
        out: the folder to write to.
        images_per_shard: in each tar file but the last.
        resize: a greater shorter side is resized to so many pixels and the image encoded as JPEG; every other image
            keeps its bytes. Best no less than an evaluation resizes to: 256 for 224 pixels at a crop of 0.875.
        quality: of those JPEGs, 1 to 95.
        seed: of the shuffle, at least 0.
        workers: processes; 0 works in this one.
        max_damaged: so many images may be damaged.
        reading: how a file becomes a picture. Where an orientation is not applied, a resized image keeps it in EXIF.
        val_labels: see `open_encoded_images`.
        progress: is called with the images done and the images there are.

    Raises:
        DataError: `root` holds no such images, too many are damaged, an argument is out of its range, or `out` holds
            tar files that another call began.
        ConfigError: what an earlier call noted in `out` is damaged.
        OutputError: `out` cannot be written to, or another call writes there at this moment.
    """
    root, out = Path(root), Path(out)
    for name, value, least in (
        ("images_per_shard", images_per_shard, 1),
        ("resize", resize or 1, 1),
        ("seed", seed, 0),
        ("workers", workers, 0),
        ("max_damaged", max_damaged, 0),
    ):
        if value < least:
            raise DataError(f"{name} must be at least {least}, but got {value}")
    if not 1 <= quality <= 95:
        raise DataError(f"quality must be from 1 to 95, but got {quality}")
    if resize is not None and reading.channels not in (1, 3):
        raise DataError(f"resize must be left out for images of {reading.channels} channels, which are no JPEG")
    halves = dict(zip(HALVES, open_encoded_images(root, reading, val_labels), strict=True))
    with locked(out / ".lock", wait=False) as alone:
        if not alone:
            raise OutputError(f"{out}: one call at a time must write here, but another is at it: wait until it ends")
        plan = ShardPlan(
            images_per_shard=images_per_shard,
            resize=resize,
            quality=quality,
            seed=seed,
            source_sha256=_digest(halves),
            channels=reading.channels,
            orient=reading.orient,
            value_range=reading.value_range,
        )
        return _write_all(
            root, out, halves, plan, reading=reading, workers=workers, max_damaged=max_damaged, progress=progress
        )


def _write_all(
    root: Path,
    out: Path,
    halves: dict[str, EncodedImages],
    plan: ShardPlan,
    *,
    reading: Reading,
    workers: int,
    max_damaged: int,
    progress: Callable[[int, int], None] | None,
) -> ShardSummary:
    """What `write_shards` does once nothing else writes to `out`."""
    _begin(out, plan)
    _remove_half_files(out)
    write_classes(out, halves["train"].classes)
    shards = list(_shards(out, halves, plan.images_per_shard, plan.seed))
    indexes = {shard.path: index for shard in shards if (index := _kept(shard, halves[shard.half])) is not None}
    kept = len(indexes)
    total, done = sum(map(len, halves.values())), 0
    damaged: dict[str, str] = {}
    missing = [shard for shard in shards if shard.path not in indexes]
    if missing:
        plan.write(out)  # not finished, until all are counted again
    for index in indexes.values():
        damaged |= index.damaged
        done += len(index.names) + len(index.damaged)
    for shard, index in _written(missing, _Writer(halves, plan.resize, plan.quality, reading), workers):
        indexes[shard.path] = index
        damaged |= index.damaged
        done += len(shard.indices)
        if progress is not None:
            progress(done, total)
        if len(damaged) > max_damaged:
            name, reason = list(damaged.items())[-1]
            got = f"{len(damaged)} are, the last {name} ({reason})"
            raise DataError(f"{root}: at most {counted(max_damaged, 'image')} may be damaged (max_damaged), but {got}")
    finished = {half: _summary([indexes[s.path] for s in shards if s.half == half]) for half in HALVES}
    plan.model_copy(update={"finished": Summary(**finished)}).write(out)
    return ShardSummary(
        images={half: summary.images for half, summary in finished.items()},
        shards=len(shards),
        kept=kept,
        bytes=sum(index.tar_bytes for index in indexes.values()),
        damaged=damaged,
        notes=tuple(line for images in halves.values() for line in images.notes),
    )


@dataclass(frozen=True)
class _Shard:
    """One tar file to write: which images, under the numbers from `first`."""

    path: Path
    half: str
    indices: NDArray[np.int64]
    first: int


@dataclass(frozen=True)
class _Writer:
    """Writes tar files, in whichever process."""

    halves: dict[str, EncodedImages]
    resize: int | None
    quality: int
    reading: Reading

    def __call__(self, shard: _Shard) -> ShardIndex:
        try:
            return self._write(shard)
        except OSError as error:
            raise OutputError(f"{shard.path}: the file must be writable, but got: {error.strerror or error}") from error

    def _write(self, shard: _Shard) -> ShardIndex:
        images = self.halves[shard.half]
        source = _stamps(images, shard)  # before anything is read: what changes meanwhile is written again
        names, damaged = [], {}
        places = []  # offset, size and label of each image
        # of a name of its own: a worker of a killed call may still write to the one that it began
        temporary = shard.path.with_name(f".{shard.path.name}.{secrets.token_hex(6)}.tmp")
        with open(temporary, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for number, index in enumerate(shard.indices.tolist(), shard.first):
                    try:
                        suffix, content = self._encoded(images, index)
                    except MemoryError:
                        raise
                    except Exception as error:  # a damaged image raises nearly anything
                        reason = cut(" ".join(printable(str(error)).split()))
                        damaged[images.name(index)] = reason or type(error).__name__
                        continue
                    label = int(images.labels[index])
                    names.append(f"{number:06d}{suffix}")
                    places.append((tar.offset + tarfile.BLOCKSIZE, len(content), label))
                    _add(tar, names[-1], content)
                    _add(tar, f"{number:06d}.cls", str(label).encode())
            file.flush()
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        os.replace(temporary, shard.path)
        offsets, sizes, labels = np.array(places, dtype=np.int64).reshape(-1, 3).T
        index = ShardIndex(
            tar_bytes=size,
            names=names,
            offsets=offsets,
            sizes=sizes,
            labels=labels,
            damaged=damaged,
            source=source,
        )
        index.save(shard.path.with_suffix(".json"))  # after the tar file: a shard with a fitting index is finished
        return index

    def _encoded(self, images: EncodedImages, index: int) -> tuple[str, bytes]:
        """Suffix and bytes of an image that is sound."""
        content = images.read(index)
        picture = decode(content, self.reading)
        if self.resize is None or isinstance(picture, Planes) or min(picture.size) <= self.resize:
            suffix = os.path.splitext(images.name(index))[1].lower()
            return ".jpg" if suffix == ".jpeg" else suffix, content
        from PIL import Image

        scale = self.resize / min(picture.size)
        width, height = (max(self.resize, round(side * scale)) for side in picture.size)
        buffer = io.BytesIO()
        exif = b"" if self.reading.orient else orientation_exif(content)
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        resized.save(buffer, "JPEG", quality=self.quality, exif=exif)
        return ".jpg", buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no time and no owner: the same images give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _shards(out: Path, halves: dict[str, EncodedImages], images_per_shard: int, seed: int) -> Iterator[_Shard]:
    for half, images in halves.items():
        order = np.random.default_rng(seed).permutation(len(images)) if half == "train" else np.arange(len(images))
        for number, first in enumerate(range(0, len(images), images_per_shard)):
            yield _Shard(out / shard_name(half, number), half, order[first : first + images_per_shard], first)


def _stamps(images: EncodedImages, shard: _Shard) -> str:
    """A digest of what the image files of a tar file are at this moment."""
    digest = hashlib.sha256()
    for index in shard.indices.tolist():
        try:
            digest.update(f"{images.stamp(index)}\0".encode())
        except OSError:
            digest.update(b"gone\0")
    return digest.hexdigest()


def _kept(shard: _Shard, images: EncodedImages) -> ShardIndex | None:
    """The index of a tar file that is finished and whose images have not changed since; else None."""
    index = ShardIndex.load(shard.path)
    if index is None or index.source == _stamps(images, shard):
        return index
    if index.source is not None:
        return None
    # of before there were such digests: what was damaged then is looked at again
    again = [i for i in shard.indices.tolist() if images.name(i) in index.damaged]
    return index if all(_is_damaged(images, i) for i in again) else None


def _is_damaged(images: EncodedImages, index: int) -> bool:
    try:
        images.image(index)
    except MemoryError:
        raise
    except Exception:  # a damaged image raises nearly anything
        return True
    return False


def _summary(indexes: list[ShardIndex]) -> HalfSummary:
    return HalfSummary(shards=len(indexes), images=sum(len(index.names) for index in indexes))


def _digest(halves: dict[str, EncodedImages]) -> str:
    digest = hashlib.sha256()
    for images in halves.values():
        digest.update(json.dumps(images.classes).encode())
        for index, label in enumerate(images.labels.tolist()):
            digest.update(f"{label} {images.name(index)}\0".encode())
    return digest.hexdigest()


def _begin(out: Path, plan: ShardPlan) -> None:
    """Note in `out` what will be written there, or see that it is the same as before."""
    before = ShardPlan.read(out)
    if before is not None:
        other = [key for key, value in plan if key != "finished" and getattr(before, key) != value]
        if other:
            raise DataError(
                f"{out / SUMMARY}: the tar files begun there must be of the same call, but differ in {', '.join(other)}"
            )
    elif (out / SUMMARY).exists() or any(shard_files(out, half) for half in HALVES):
        raise DataError(f"{out}: the folder must hold no tar files of another origin, but it does")
    else:
        plan.write(out)


def _remove_half_files(out: Path) -> None:
    """What a killed call left under temporary names."""
    for begun in (*(f"{half}-" for half in HALVES), SUMMARY, CLASSES):
        for path in out.glob(f".{begun}*.tmp"):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"{path}: the file must be removable, but got: {error.strerror or error}") from error


def _written(shards: list[_Shard], writer: _Writer, workers: int) -> Iterator[tuple[_Shard, ShardIndex]]:
    """The shards with their indexes, as they are finished."""
    if workers == 0:
        yield from ((shard, writer(shard)) for shard in shards)
        return
    pool = ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(writer,))
    try:
        futures = {pool.submit(_write, shard): shard for shard in shards}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"the {workers} processes that write tar files must stay alive, but one died; it may have run out of memory"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_writer: _Writer | None = None  # of a worker process


def _begin_worker(writer: _Writer) -> None:
    global _writer
    _writer = writer
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the main process to end the workers


def _write(shard: _Shard) -> ShardIndex:
    assert _writer is not None
    return _writer(shard)
