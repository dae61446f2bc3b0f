"""What `export.json` holds of a network that was exported in INT8, and what each of its SE costs there."""

from __future__ import annotations

from pydantic import PositiveInt

from se_nas.records.fields import Count, Share
from se_nas.records.models.certificate import LatencyConditions, Timing
from se_nas.records.models.environment import Environment
from se_nas.records.record import Record


class QuantisedNetwork(Record):
    """The network in INT8 but for some of its SE, or all in float, as ONNX Runtime ran it.

    Attributes:
        float_se: numbers of the blocks, from 1, whose SE is in float; None where all of the network is.
        accuracy: share of the test images whose class it finds.
        agreement: share of them for which it finds what the float network finds.
        gained, lost: images that it has right and the network whose SE are all in INT8 wrong, and the other way round.
        latency: of one image, in turns with the others.
        bytes: of its file.
    """

    float_se: tuple[PositiveInt, ...] | None
    accuracy: Share
    agreement: Share
    gained: Count
    lost: Count
    latency: Timing
    bytes: Count


class SEUnit(Record):
    """The SE of a block, whose numbers begin at 1."""

    block: PositiveInt
    words: str


class Int8Export(Record):
    """A network in INT8 beside itself in float, and what each SE costs.

    Attributes:
        weights_sha256: of the network, as in `ExportedNetwork`.
        how: what was made integers of, in words.
        data: the name of the data set.
        calibrated_on: training images, evenly spaced among `training_images`, that told the ranges.
        tested_on: test images, evenly spaced among `test_images`.
        units: every SE.
        float32: the network in float.
        int8: the same with every SE in INT8, then with one SE in float each, then with all, then as it was asked for.
        written: the `float_se` of the file.
    """

    weights_sha256: str
    how: str
    data: str
    calibrated_on: PositiveInt
    training_images: PositiveInt
    tested_on: PositiveInt
    test_images: PositiveInt
    units: tuple[SEUnit, ...]
    float32: QuantisedNetwork
    int8: tuple[QuantisedNetwork, ...]
    written: tuple[PositiveInt, ...]
    files: dict[str, Count]
    sha256: dict[str, str]
    conditions: LatencyConditions
    environment: Environment

    def of(self, float_se: tuple[int, ...]) -> QuantisedNetwork:
        """The network in INT8 with the SE of these blocks in float."""
        return next(network for network in self.int8 if network.float_se == float_se)

    @property
    def every_se(self) -> tuple[int, ...]:
        """The numbers of all blocks with SE."""
        return tuple(unit.block for unit in self.units)
