"""The data sets, by name: those that fit the memory, and those whose images stay on disk until they are needed.

Of those in memory, training and test images come from two separate functions: nothing that a search is given can reach
a test image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se_nas.errors import DataError, did_you_mean
from se_nas.hardware.lines import Say
from se_nas.records.registry import Registry, imported

if TYPE_CHECKING:
    from se_nas.data.file_options import FileOptions
    from se_nas.data.in_memory.images import DataInfo, ImageSet
    from se_nas.data.in_memory.options import DataOptions
    from se_nas.data.on_disk.encoded_images import EncodedImages
    from se_nas.data.on_disk.training_set import TrainingSet
    from se_nas.data.pixels import Reading


@dataclass(frozen=True)
class DataSource:
    """How the two halves of a data set that fits the memory are loaded; each raises DataError where it cannot.

    `check_test` raises what `load_test` would, as far as can be told without reading an image; None where the test
    images cannot be missing. `fixed` says that the name and the options say which images these are, wherever they lie.
    """

    load_train: Callable[[DataOptions], tuple[DataInfo, ImageSet]]
    load_test: Callable[[DataOptions], ImageSet]
    check_test: Callable[[DataOptions], None] | None = None
    fixed: bool = False


@dataclass(frozen=True)
class OnDiskSource:
    """How a data set is opened whose images stay on disk, and are decoded as they are needed.

    Attributes:
        open: training and held-out images of a folder, as pictures of any size, for a reading, and a file of labels
            where there is one; DataError where there are none.
    """

    open: Callable[[Path, Reading, Path | None], tuple[EncodedImages, EncodedImages]]


def _on_disk(function: str) -> OnDiskSource:
    """What a function of `on_disk` opens; it is imported when it is asked to."""
    return OnDiskSource(lambda *words: imported(f"se_nas.data.on_disk.{function}")(*words))


def _shipped(module: str, *, may_be_missing: bool = False, fixed: bool = True) -> DataSource:
    """What a module of `in_memory` loads; it is imported when it is asked to, so that a help can list the names."""

    def of(name: str) -> Callable[[DataOptions], Any]:
        return lambda options: imported(f"se_nas.data.in_memory.{module}:{name}")(options)

    return DataSource(of("load_train"), of("load_test"), of("check_test") if may_be_missing else None, fixed)


DATASETS: Registry[DataSource | OnDiskSource] = Registry(
    "data set",
    {
        "digits": _shipped("digits"),
        "cifar10": _shipped("cifar", may_be_missing=True),
        "cifar100": _shipped("cifar", may_be_missing=True),
        "folder": _shipped("folder", may_be_missing=True, fixed=False),
        "synthetic": _shipped("synthetic"),
        "imagenet": _on_disk("encoded_images:open_encoded_images"),
        "shards": _on_disk("encoded_images:open_encoded_shards"),
        "folder_on_disk": _on_disk("image_folder:open_split_folder"),
    },
)


def is_fixed(name: str) -> bool:
    """Whether two data sets of this name have the same images, if their options are the same."""
    source = DATASETS.get(name)
    return isinstance(source, DataSource) and source.fixed


def stays_on_disk(name: str) -> bool:
    """Whether a data set is one whose images stay on disk.

    Raises:
        DataError: the name is unknown.
    """
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS)
        raise DataError(f"the data set must be one of {', '.join(DATASETS)}, but got {name!r}{hint}")
    return isinstance(DATASETS[name], OnDiskSource)


def data_name(name: Any) -> str:
    """The name of a data set, as a validator of pydantic's."""
    return DATASETS.checked(name)


def open_on_disk(
    name: str, data_dir: Path | None, channels: int, files: FileOptions
) -> tuple[EncodedImages, EncodedImages]:
    """Training and held-out images of a data set that stays on disk, of so many channels.

    Raises:
        DataError: it is none, no folder is named, or the folder does not hold it.
    """
    source = DATASETS.get(name)
    if not isinstance(source, OnDiskSource):
        known = ", ".join(other for other, entry in DATASETS.items() if isinstance(entry, OnDiskSource))
        raise DataError(f"the data set must be one whose images stay on disk ({known}), but got {name!r}")
    if data_dir is None:
        raise DataError(f"the data set {name} needs the folder of its images: name it with --data-dir")
    return source.open(data_dir, files.reading(channels), files.val_labels)


def load_searched(options: DataOptions, workers: int, say: Say) -> tuple[DataInfo, ImageSet | TrainingSet]:
    """The facts about a data set and its training images, in memory or on disk: all that a search may see.

    Args:
        workers: processes that decode images on disk, for each part that is trained on.
        say: is given a line for each damaged image that these meet.

    Raises:
        DataError: no such data set, or the data are missing or damaged.
    """
    if not stays_on_disk(options.name):
        return load_train(options)
    from se_nas.data.on_disk.stream_workers import DamageLog
    from se_nas.data.on_disk.training_set import TrainingSet, described

    images, _ = open_on_disk(options.name, options.data_dir, options.channels or 3, options.files)
    return described(options, images), TrainingSet(images, workers, DamageLog(options.files.max_damaged, say))


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """The facts about a data set and its training images: all that a search may see.

    Raises:
        DataError: no such data set fits the memory, or the data are missing or damaged.
    """
    return _in_memory(options.name).load_train(options)


def load_test(options: DataOptions) -> ImageSet:
    """The test images, for the one evaluation of a retrained network.

    Raises:
        DataError: no such data set fits the memory, or the data are missing or damaged.
    """
    return _in_memory(options.name).load_test(options)


def check_test(options: DataOptions) -> None:
    """See that the test images are there, in an instant, before hours of search make them needed.

    Raises:
        DataError: no such data set fits the memory, or test images are missing.
    """
    check = _in_memory(options.name).check_test
    if check is not None:
        check(options)


def _in_memory(name: str) -> DataSource:
    if stays_on_disk(name):
        known = ", ".join(other for other in DATASETS if not stays_on_disk(other))
        raise DataError(f"the data set must be one that fits the memory ({known}), but got {name!r}")
    source = DATASETS[name]
    assert isinstance(source, DataSource)
    return source
