"""The data sets, by name.

Training and test images come from two separate functions: nothing that a search is given can reach a test image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from se_nas.data.in_memory import cifar, digits, folder, synthetic
from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.errors import DataError, did_you_mean
from se_nas.records.registry import Registry


@dataclass(frozen=True)
class DataSource:
    """How the two halves of a data set are loaded; each raises DataError where it cannot.

    `check_test` raises what `load_test` would, as far as can be told without reading an image; None where the test
    images cannot be missing.
    """

    load_train: Callable[[DataOptions], tuple[DataInfo, ImageSet]]
    load_test: Callable[[DataOptions], ImageSet]
    check_test: Callable[[DataOptions], None] | None = None


DATASETS: Registry[DataSource] = Registry(
    "data set",
    {
        "digits": DataSource(digits.load_train, digits.load_test),
        "cifar10": DataSource(cifar.load_train, cifar.load_test, cifar.check_test),
        "cifar100": DataSource(cifar.load_train, cifar.load_test, cifar.check_test),
        "folder": DataSource(folder.load_train, folder.load_test, folder.check_test),
        "synthetic": DataSource(synthetic.load_train, synthetic.load_test),
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
