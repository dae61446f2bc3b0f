"""The size of one block and the variants of its kind: what its plan is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from se_nas.records.bounds import MOST_CHANNELS, MOST_KERNEL, size_within
from se_nas.space.vocabulary import Activation, Pool, Shortcut, StrideAt

M = TypeVar("M", bound=BaseModel)

Scalar = bool | int | float | str
OwnValue = Scalar | tuple[Scalar, ...]
"""The value of an option that a user's own kind of block has."""


_Width = Annotated[int, Field(ge=1, strict=True), size_within(MOST_CHANNELS)]
_WidthOrNone = Annotated[int, Field(ge=0, strict=True), size_within(MOST_CHANNELS)]


def _odd(value: Any) -> Any:
    if type(value) is int and value % 2 == 0:
        raise ValueError("a kernel must be odd")
    return value


Kernel = Annotated[int, Field(ge=1, strict=True), size_within(MOST_KERNEL), BeforeValidator(_odd)]


def _mixed(kernels: tuple[int, ...]) -> tuple[int, ...]:
    if len(kernels) == 1 or len(set(kernels)) < len(kernels):
        raise ValueError("must be two or more kernels, all distinct")
    return kernels


def _some(widths: tuple[int, ...]) -> tuple[int, ...]:
    if not widths:
        raise ValueError("must have convolutions")
    return widths


@dataclass(frozen=True, kw_only=True)
class BlockForm:
    """The variants of a kind of block; `BlockKind.options` says which kinds have which.

    Attributes:
        group_width: channels in each group of the kxk convolution (ResNeXt, arXiv 1611.05431); 0 for one group.
        entry: share of the kxk convolution's channels that the 1x1 before it puts out; SENet-154 has half of them.
        stride_at: which convolution has the stride: the kxk, or the 1x1 before it as in the first ResNets.
        shortcut: what is added where the shape changes: a 1x1 convolution, a 3x3 one (SENet-154), the input
            subsampled with zeros for new channels (option A of arXiv 1512.03385), or, in place of a 1x1 convolution
            with a stride, a 2x2 average pooling with it and then the convolution (ResNet-D, arXiv 1812.01187).
        preactivation: norm and activation before each convolution (arXiv 1603.05027).
        groups: groups of the 1x1 convolutions (ShuffleNet, arXiv 1707.01083).
        dense_reduction: whether the first of them has one group all the same, as ShuffleNet's first unit.
        branches: channels of the convolutions of each branch of an Inception module: the first is 1x1, those after it
            are kxk, and the last has the stride.
        pool, pool_width: one branch more, a 3x3 pooling and a 1x1 convolution to so many channels (0: none).
        always_expands: whether the expansion convolution stays at expansion 1 (FBNet, arXiv 1812.03443).
        skip: whether the input is added where the shape is kept.
        mixed_kernels: of equal parts of the depthwise convolution's channels (MixConv, arXiv 1907.09595), `kernel`
            being the greatest; empty for one kernel.
        expand_parts, project_parts: parts of the channels, each of which the 1x1 convolution maps by itself, as MixNet.
        own: options that only this kind has, those away from their defaults, in the order of their names.
    """

    group_width: _WidthOrNone = 0
    entry: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    stride_at: StrideAt = "kxk"
    shortcut: Shortcut = "projection"
    preactivation: Annotated[bool, Field(strict=True)] = False
    groups: _Width = 1
    dense_reduction: Annotated[bool, Field(strict=True)] = False
    branches: tuple[Annotated[tuple[_Width, ...], AfterValidator(_some)], ...] = ()
    pool: Pool = "mean"
    pool_width: _WidthOrNone = 0
    own: tuple[tuple[str, OwnValue], ...] = field(default=(), metadata={"since": 3})
    always_expands: Annotated[bool, Field(strict=True)] = field(default=False, metadata={"since": 4})
    skip: Annotated[bool, Field(strict=True)] = field(default=True, metadata={"since": 4})
    mixed_kernels: Annotated[tuple[Kernel, ...], AfterValidator(_mixed)] = field(default=(), metadata={"since": 4})
    expand_parts: _Width = field(default=1, metadata={"since": 4})
    project_parts: _Width = field(default=1, metadata={"since": 4})

    @property
    def in_parts(self) -> bool:
        """Whether convolutions map parts of the channels, so that a prefix of all is no prefix of each part."""
        return bool(self.mixed_kernels) or max(self.expand_parts, self.project_parts) > 1

    def words(self) -> list[str]:
        """What differs from the kind's plain form, in plain words."""
        named = {
            f"groups of {self.group_width} channels": self.group_width > 0,
            f"1x1 convolution to {self.entry:g} of them": self.entry != 1,
            "stride in the 1x1 convolution": self.stride_at == "1x1",
            "padded shortcut": self.shortcut == "pad",
            "3x3 shortcut": self.shortcut == "conv3x3",
            "pooled shortcut": self.shortcut == "pooled",
            "pre-activation": self.preactivation,
            f"{self.groups} groups": self.groups > 1,
            "first convolution dense": self.dense_reduction,
            "expansion convolution at expansion 1 too": self.always_expands,
            "no shortcut": not self.skip,
            f"mixed kernels {', '.join(map(str, self.mixed_kernels))}": bool(self.mixed_kernels),
            f"expansion of {self.expand_parts} parts": self.expand_parts > 1,
            f"projection of {self.project_parts} parts": self.project_parts > 1,
            f"branches of {', '.join('-'.join(map(str, branch)) for branch in self.branches)}": bool(self.branches),
            f"{self.pool} pooling to {self.pool_width or 'all its'} channels": bool(self.branches),
        }
        return [words for words, true in named.items() if true] + [f"{name} {value}" for name, value in self.own]


#: Names of the variants that kinds of block may share.
FORM = tuple(part.name for part in fields(BlockForm) if part.name != "own")


def own_values(options: BaseModel, names: Mapping[str, Any]) -> tuple[tuple[str, OwnValue], ...]:
    """The options of these names that are away from their defaults, for `BlockForm.own`."""

    def fixed(value: Any) -> OwnValue:
        return tuple(value) if isinstance(value, list) else value

    given = {name: getattr(options, name) for name in sorted(names)}
    defaults = {name: part.default for name, part in type(options).model_fields.items()}
    return tuple((name, fixed(value)) for name, value in given.items() if value != defaults[name])


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """One block without its attention: of which kind, its channels, and the side of its input in pixels.

    Attributes:
        expanded: channels that the kxk convolution puts out; equal to `in_channels` for a block that does nothing.
        form: the kind's variants.
    """

    kind: str
    in_channels: int
    out_channels: int
    stride: int
    resolution: int
    kernel: int
    expanded: int
    activation: Activation
    form: BlockForm = BlockForm()

    @property
    def out_resolution(self) -> int:
        """Side of the output in pixels."""
        return -(-self.resolution // self.stride)

    @property
    def keeps_shape(self) -> bool:
        """Whether output and input have one shape, so that a skip connection is possible."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def beside_input(self) -> int:
        """Channels of a branch beside which the input is put where the shape changes."""
        return self.out_channels if self.keeps_shape else self.out_channels - self.in_channels

    @property
    def without_attention(self) -> BlockShape:
        """The shape alone."""
        return BlockShape(**{part.name: getattr(self, part.name) for part in fields(BlockShape)})

    def own_options(self, model: type[M]) -> M:
        """The options that only this kind has, as its entry's model."""
        return model.model_validate({name: list(v) if isinstance(v, tuple) else v for name, v in self.form.own})
