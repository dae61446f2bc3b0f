"""What is found in a model: its convolutions with what follows each, its stem, its blocks and its head."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from se_nas.layers.from_model.steps import Excitation, Step
from se_nas.space.vocabulary import Activation, Position, StemPool


@dataclass(frozen=True)
class Unit:
    """A convolution with the norm and the activation that follow it ("identity": none)."""

    conv: Any
    norm: Any
    activation: Activation
    where: str
    end: Step

    @property
    def inputs(self) -> int:
        """Channels that the convolution reads."""
        return int(self.conv.in_channels)

    @property
    def channels(self) -> int:
        """Channels that it puts out."""
        return int(self.conv.out_channels)

    @property
    def kernel(self) -> int:
        """Its side."""
        return int(self.conv.kernel_size[0])

    @property
    def stride(self) -> int:
        """Its stride."""
        return int(self.conv.stride[0])

    @property
    def groups(self) -> int:
        """Its groups."""
        return int(self.conv.groups)

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a convolution of its own."""
        return self.groups == self.inputs == self.channels

    @property
    def is_pointwise(self) -> bool:
        """Whether it is 1x1 of one group."""
        return self.kernel == self.groups == 1

    @property
    def is_dense(self) -> bool:
        """Whether it has a kernel and one group."""
        return self.kernel > 1 and self.groups == 1


@dataclass(frozen=True)
class FoundStem:
    """The convolutions before the first block, each with the pooling that may follow."""

    units: tuple[Unit, ...]
    pools: tuple[StemPool, ...]


@dataclass(frozen=True, kw_only=True)
class FoundBlock:
    """A block of a kind in BLOCKS.

    Attributes:
        units: its convolutions in the order of its plan, the shortcut's last.
        entry: the norm that comes before all of them, in a block of pre-activation.
        form: its variants, where they are not the kind's plain ones.
        se: its SE.
        position: the place of that; of a block without SE the one where alone it could have one, if there is such.
    """

    kind: str
    units: tuple[Unit, ...]
    in_channels: int
    channels: int
    stride: int
    kernel: int
    expanded: int
    activation: Activation
    entry: Any = None
    form: dict[str, Any] = field(default_factory=dict)
    se: Excitation | None = None
    position: Position | None = None
    where: str = ""


@dataclass(frozen=True)
class FoundHead:
    """What follows the last block.

    Attributes:
        unit: the 1x1 convolution before the mean.
        hidden: linear layers before the classifier.
        activation: what follows these and the convolution.
        dropout: rate of that before the classifier.
        norm: what comes first, with the activation, behind blocks of pre-activation.
    """

    unit: Unit | None
    hidden: tuple[Any, ...]
    classifier: Any
    activation: Activation
    dropout: float
    norm: Any = None
