"""The data sets, by name.

Training and test images come from two separate functions: nothing that a search is given can reach a test image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import DataError, did_you_mean
from se_nas.records.registry import Registry, imported

if TYPE_CHECKING:
    from se_nas.data.in_memory.images import DataInfo, ImageSet


@dataclass(frozen=True)
class DataSource:
    """How the two halves of a data set are loaded; each raises DataError where it cannot.

    `check_test` raises what `load_test` would, as far as can be told without reading an image; None where the test
    images cannot be missing.
    """

    load_train: Callable[[DataOptions], tuple[DataInfo, ImageSet]]
    load_test: Callable[[DataOptions], ImageSet]
    check_test: Callable[[DataOptions], None] | None = None


def _shipped(module: str, *, may_be_missing: bool = False) -> DataSource:
    """What a module of this folder loads; it is imported when it is asked to, so that a help can list the names."""

    def of(name: str) -> Callable[[DataOptions], Any]:
        return lambda options: imported(f"se_nas.data.in_memory.{module}:{name}")(options)

    return DataSource(of("load_train"), of("load_test"), of("check_test") if may_be_missing else None)


DATASETS: Registry[DataSource] = Registry(
    "data set",
    {
        "digits": _shipped("digits"),
        "cifar10": _shipped("cifar", may_be_missing=True),
        "cifar100": _shipped("cifar", may_be_missing=True),
        "folder": _shipped("folder", may_be_missing=True),
        "synthetic": _shipped("synthetic"),
    },
)


def load_train(options: DataOptions) -> tuple[DataInfo, ImageSet]:
    """The facts about a data set and its training images: all that a search may see.

    Raises:
        DataError: the name is unknown, or the data are missing or damaged.
    """
    return _source(options.name).load_train(options)


def load_test(options: DataOptions) -> ImageSet:
    """The test images, for the one evaluation of a retrained network.

    Raises:
        DataError: the name is unknown, or the data are missing or damaged.
    """
    return _source(options.name).load_test(options)


def check_test(options: DataOptions) -> None:
    """See that the test images are there, in an instant, before hours of search make them needed.

    Raises:
        DataError: the name is unknown, or test images are missing.
    """
    check = _source(options.name).check_test
    if check is not None:
        check(options)


def _source(name: str) -> DataSource:
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS)
        raise DataError(f"the data set must be one of {', '.join(DATASETS)}, but got {name!r}{hint}")
    return DATASETS[name]
