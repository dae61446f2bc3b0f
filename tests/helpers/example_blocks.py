"""A small block of every kind, and a head of every part."""

from __future__ import annotations

from typing import Any

from se_nas.space.blocks.shape import BlockForm
from se_nas.space.specs import BlockSpec, HeadSpec, SESpec

#: Channels that a block of 6 input channels puts out.
OUT_CHANNELS = 10
_FORMS = {"inception": BlockForm(branches=((4,), (2, 3)), pool_width=3)}
_STRIDED_FORMS = {"inception": BlockForm(branches=((2, 3), (2, 1, 1)), pool="max")}


def block_spec(
    kind: str,
    in_channels: int,
    out_channels: int,
    *,
    expanded: int,
    stride: int = 1,
    resolution: int = 7,
    kernel: int = 3,
    activation: str = "relu",
    **more: Any,
) -> BlockSpec:
    """A block of 7x7 inputs, of which a test says what it is about."""
    return BlockSpec(
        kind=kind,
        in_channels=in_channels,
        out_channels=out_channels,
        stride=stride,
        resolution=resolution,
        kernel=kernel,
        expanded=expanded,
        activation=activation,
        **more,
    )


def head_of_every_part(**sizes: Any) -> HeadSpec:
    """A head with a norm, a convolution, pooling to a map that is flattened, and two hidden layers."""
    return HeadSpec(norm=True, max_pool=True, flatten=True, hidden_layers=2, **sizes)


def example(kind: str, *, stride: int = 1, resolution: int = 7, se: SESpec | None = None) -> BlockSpec:
    """6 to 10 channels; an identity has no SE."""
    of_output = dict.fromkeys(("conv", "residual_conv", "inception"), OUT_CHANNELS)
    expanded = {**of_output, "separable": 6, "identity": 6}.get(kind, 12)
    form = (_FORMS if stride == 1 else _STRIDED_FORMS).get(kind, BlockForm())
    unit = None if kind == "identity" else se
    return block_spec(
        kind,
        6,
        OUT_CHANNELS,
        stride=stride,
        resolution=resolution,
        expanded=expanded,
        activation="silu",
        se=unit,
        form=form,
    )
