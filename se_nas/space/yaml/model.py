"""Models of a space's YAML where it is not a template itself: stages and blocks, and what they are short for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from se_nas.records.bounds import MOST_CLASSES, size_within
from se_nas.space.blocks import BLOCKS, OF_A_STAGE
from se_nas.space.blocks.kind import BlockKind
from se_nas.space.blocks.shape import FORM, BlockForm, Kernel, own_values
from se_nas.space.templates import (
    WITHOUT_SE,
    ActivationOrSeveral,
    Channels,
    Depth,
    HeadTemplate,
    OpTemplate,
    PixelsOrSeveral,
    Scaling,
    SETemplate,
    StageTemplate,
    StemTemplate,
    Stride,
    WidthOrWidths,
    distinct,
    options_of,
    plain_number,
)
from se_nas.space.vocabulary import Activation

T = TypeVar("T")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _plain_name(value: str) -> str:
    if not re.fullmatch(r"[\w \-]+", value):
        raise ValueError("must be letters, digits, spaces, - and _ only")
    if len(value) > 100:  # it is part of the names of files
        raise ValueError("must have at most 100 characters")
    return value


Name = Annotated[str, AfterValidator(_plain_name)]
Multiple = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True), size_within(1000)]
Classes = Annotated[int, Field(ge=2, strict=True), size_within(MOST_CLASSES)]
OneOrMore = Annotated[list[T], Field(min_length=1), AfterValidator(distinct), BeforeValidator(_as_list)]


class YamlModel(BaseModel):
    """A part of a space file; an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid")


class BlockModel(YamlModel):
    """One kind of block that a stage offers, with what every kind may have; see `block_model`.

    Attributes:
        kind: a kind of block.
        name: what the block is called in picks; without it, its kind, kernel and expansion, and its own activation.
        kernel: side of the kxk convolution, or a list to choose from.
        expansion: channels of the kxk convolution as a multiple of the block's input or output, or a list of such.
        activation: of its convolutions, or a list to choose from; null is the stage's.
        se: the block's SE; null is no SE.
    """

    kind: Annotated[str, AfterValidator(BLOCKS.checked)]
    name: Name | None = None
    kernel: OneOrMore[Kernel] = [3]
    expansion: OneOrMore[Multiple] = [1.0]
    activation: ActivationOrSeveral | None = None
    se: SETemplate | None = None

    def form(self) -> BlockForm:
        """What the kind of block has beside kernel, expansion and SE."""
        own = BLOCKS[self.kind].own_options
        values = {name: getattr(self, name) for name in FORM}
        return BlockForm(**values, own=() if own is None else own_values(self, own.model_fields))


class _BlockOfNoKind(BlockModel):
    """Of whose options nothing can be said."""

    model_config = ConfigDict(extra="ignore")


@cache
def block_model(kind: BlockKind | None) -> type[BlockModel]:
    """The model of a block of this kind: with every variant in `BlockForm`, and with the options that only it has.

    Args:
        kind: None for a block that says no kind there is.
    """
    shared: dict[str, Any] = {part.name: (part.type, part.default) for part in fields(BlockForm) if part.name in FORM}
    if kind is None:
        return _BlockOfNoKind
    own = () if kind.own_options is None else (kind.own_options,)
    return create_model("BlockModel", __base__=(BlockModel, *own), __module__=BlockForm.__module__, **shared)


def _of_its_kind(value: Any) -> Any:
    """The block by the model of the kind that it says."""
    name = value.get("kind") if isinstance(value, Mapping) else None
    return block_model(BLOCKS.get(name) if isinstance(name, str) else None).model_validate(value)


class StageModel(YamlModel):
    """A stage: its width, stride and depths, and its blocks, or what its one kind of block has.

    Attributes:
        width: channels that every block of the stage puts out, or a list to choose from, once for the whole stage.
        stride: stride of the first block.
        depth: number of blocks, or a list to choose from.
        activation: activation of the stage's blocks, or a list that each of them chooses from.
        kernel, expansion, se: as under `blocks`, for a stage without them, whose blocks are all of one kind.
        blocks: whole blocks that each block of the stage chooses among.
        share: what is chosen once for the whole stage and not for each block.
    """

    width: WidthOrWidths
    stride: Stride = 1
    depth: OneOrMore[Depth] = [1]
    activation: ActivationOrSeveral = "relu"
    kernel: OneOrMore[Kernel] | None = None
    expansion: OneOrMore[Multiple] | None = None
    se: SETemplate | None = None
    blocks: Annotated[list[Annotated[BlockModel, BeforeValidator(_of_its_kind)]], Field(min_length=1)] | None = None
    share: Annotated[list[Literal["kernel", "expansion", "activation", "se", "block"]], AfterValidator(distinct)] = []


class ScalingModel(YamlModel):
    """What changes for one data set.

    Attributes:
        resolution: side of the square images in pixels; where the space lists several, one for all networks, or a list
            of as many, one for each of the space's.
        classes: number of classes; null keeps the space's.
        stem_stride: stride of the stem's first convolution; null keeps the space's.
        strides: strides of the stages, one for each; null keeps the space's.
        width: what the channels of stem, stages and head convolution are multiplied by.
    """

    resolution: PixelsOrSeveral
    classes: Classes | None = None
    stem_stride: Stride | None = None
    strides: tuple[Stride, ...] | None = None
    width: Multiple = 1.0

    def scaling(self, data: str) -> Scaling:
        """The scaling to the data set of this name."""
        return Scaling(data=data, **{name: getattr(self, name) for name in ScalingModel.model_fields})


class SpaceModel(YamlModel):
    """A whole space file.

    Attributes:
        name: what the space is called.
        resolution: side of the square images in pixels, or a list of which one is chosen for the whole network.
        channels: channels of the images.
        classes: number of classes; data with another number replaces it.
        channel_divisor: expanded channels are rounded to a multiple of it; 1 is plain rounding.
        width_multiplier: what the widths of stem, stages and head convolution are multiplied by, or a list of which one
            is chosen for the whole network; the results are rounded as expanded channels are.
        stem: what comes before the first stage.
        stages: the stages, in their order.
        head: what follows the last stage.
        scaling: what changes where a network of the space is built for another data set, by the name of that.
        plugins: modules of your own that are imported before the rest is read, or .py files relative to the space file.
    """

    plugins: list[str] = []
    name: Name
    resolution: PixelsOrSeveral
    channels: Channels = 3
    classes: Classes = 10
    channel_divisor: Channels = 8
    width_multiplier: OneOrMore[Multiple] = [1.0]
    stem: StemTemplate
    stages: Annotated[list[StageModel], Field(min_length=1)]
    head: HeadTemplate = HeadTemplate()
    scaling: dict[Name, ScalingModel] = {}


def stage_template(stage: StageModel) -> StageTemplate:
    """The template of a stage."""
    blocks = stage.blocks
    if blocks is None:
        given = {"kernel": stage.kernel, "expansion": stage.expansion, "se": stage.se}
        options = {name: value for name, value in given.items() if value is not None}
        blocks = [block_model(OF_A_STAGE)(kind=OF_A_STAGE.name, **options)]
    return StageTemplate(
        width=stage.width,
        stride=stage.stride,
        depths=tuple(stage.depth),
        ops=tuple(op_template(block, stage.activation) for block in blocks),
        share=tuple(stage.share),
    )


def op_template(block: BlockModel, of_stage: Activation | tuple[Activation, ...]) -> OpTemplate:
    """The template of one kind of block, named by what it is where it has no name.

    Args:
        of_stage: the activation of blocks that have none of their own.
    """
    kind = BLOCKS[block.kind]
    if kind.passes_through:
        return OpTemplate(kind=kind.name, name=block.name or kind.name, kernels=(1,), activation="identity")
    expansions = tuple(plain_number(e) for e in block.expansion)
    name = kind.name
    if "kernel" in kind.options:
        name += f" k{'-'.join(map(str, block.kernel))}"
    if "expansion" in kind.options:
        name += f" e{'-'.join(map(str, expansions))}".replace(".", "_")
    if block.activation is not None:
        name += f" {'-'.join(options_of(block.activation))}"
    form, kernels = block.form(), tuple(block.kernel) if "kernel" in kind.options else (1,)
    if form.mixed_kernels and "kernel" not in block.model_fields_set:
        kernels = (max(form.mixed_kernels),)
    return OpTemplate(
        kind=kind.name,
        name=block.name or name,
        kernels=kernels,
        expansions=expansions,
        se=block.se or WITHOUT_SE,
        activation=of_stage if block.activation is None else block.activation,
        form=form,
    )
