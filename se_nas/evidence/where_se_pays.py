"""Where SE pays: what each option of SE is worth in each block, all else equal, beside what it costs there.

A network with SE in one block and the same network without differ by nothing else, and with a supernet's weights both
cost a recalibration and a pass over the validation images. What is found is what SE is worth to shared weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from se_nas.cost.metrics import METRICS
from se_nas.cost.table import CostTable
from se_nas.evidence.choices_in_use import se_ops_in_use, se_places
from se_nas.evidence.statistics import paired_difference
from se_nas.records.models.evidence import BlockGains, GainEntry, WherePart
from se_nas.search.one_shot.correct_images import InheritedGuesses
from se_nas.search.problem import SearchProblem
from se_nas.space.architecture import Architecture
from se_nas.space.choice import Option
from se_nas.space.slots.slot import SlotOp
from se_nas.space.specs import BlockSpec
from se_nas.space.templates import NO_SE
from se_nas.supernet.supernet import SuperNet


@dataclass(frozen=True)
class _Block:
    """A choice of SE with at least one context that makes use of it.

    Attributes:
        op: of the first such context, with what is picked of its other parts.
        networks: for each context one network an option, in the choice's order.
    """

    choice: str
    op: SlotOp
    picked: Mapping[str, Option]
    reference: Option
    networks: tuple[tuple[Architecture, ...], ...]

    @property
    def options(self) -> tuple[Option, ...]:
        return self.op.axis("se").options

    def spec(self, option: Option) -> BlockSpec:
        """The block of the first context with another option."""
        return self.op.block(**{**self.picked, "se": option})


def where_se_pays(
    problem: SearchProblem,
    supernet: SuperNet,
    answer: Architecture,
    contexts: Sequence[Architecture],
    *,
    calibration_images: int,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> WherePart:
    """The gains of every option in every block that the answer or a context has in use, as `where_se_pays.json` has it.

    The gain of an option is the accuracy with that pick less the accuracy without SE there, meaned over the answer and
    those contexts that use the block. Where a block cannot be without SE, its option of the fewest MACs takes the place
    of none (`reference`). Networks that exceed the budgets by the one changed pick are judged like the others. The
    interval is Student's over images, of each image's mean over the contexts: it says how far other images would move
    the gain, not other contexts or another supernet. Gains are shares of the images.

    Channels, hidden width and costs (option less reference) are those of the answer's block, or, in a block that the
    answer does not use, of the first context's.

    Args:
        supernet: on the problem's device.
        contexts: further architectures; the answer and duplicates among them count once.
        calibration_images: see `search.one_shot.inheritance.inherit`.
        folder: keeps what is known of each network, so that a killed call goes on where it was; see `InheritedGuesses`.
        progress: is told after each network how many are done, and of how many.

    Raises:
        ArchitectureError: an architecture of another space.
    """
    space, places = problem.space, se_places(problem.space)
    surroundings = tuple(dict.fromkeys((answer, *contexts)))
    blocks = [block for choice in places if (block := _block(problem, choice, surroundings)) is not None]
    guesses = InheritedGuesses(problem, supernet, calibration_images, folder)
    asked = list(dict.fromkeys(network for block in blocks for row in block.networks for network in row))
    correct: dict[Architecture, NDArray[np.bool_]] = {}
    for done, network in enumerate(asked, 1):
        correct[network] = guesses(network)
        if progress is not None:
            progress(done, len(asked))
    used = se_ops_in_use(space, answer)
    found = []
    for block in blocks:
        first = next(option for option in block.options if block.spec(option).se is not None)
        found.append(
            BlockGains(
                block=places[block.choice],
                resolution=block.spec(first).se_resolution,
                channels=block.spec(first).se_channels,
                chosen=str(answer[block.choice]) if block.choice in used else None,
                reference=str(block.reference),
                options=tuple(
                    _gain(block, option, correct, problem.tables)
                    for option in block.options
                    if option != block.reference
                ),
            )
        )
    return WherePart(images=guesses.images, contexts=len(surroundings), blocks=tuple(found))


def _block(problem: SearchProblem, choice: str, contexts: Sequence[Architecture]) -> _Block | None:
    """The block that a choice decides on; None where its options are one network in every context."""
    space, rows, first = problem.space, [], None
    for context in contexts:
        op = se_ops_in_use(space, context).get(choice)
        if op is None:
            continue
        row = tuple(space.architecture({**context.as_dict(), choice: option}) for option in op.axis("se").options)
        if len(set(row)) > 1:
            first = first or (op, context.as_dict())
            rows.append(row)
    if first is None:
        return None
    op, picks = first
    cheapest = min(range(len(rows[0])), key=lambda i: problem.tables["macs"].cost(rows[0][i]))
    options = op.axis("se").options
    reference = NO_SE if NO_SE in options else options[cheapest]
    return _Block(choice, op, op.picked(picks), reference, tuple(rows))


def _gain(
    block: _Block,
    option: Option,
    correct: Mapping[Architecture, NDArray[np.bool_]],
    tables: Mapping[str, CostTable],
) -> GainEntry:
    i, reference = block.options.index(option), block.options.index(block.reference)
    ours, theirs = (np.mean([correct[row[j]] for row in block.networks], axis=0) for j in (i, reference))
    estimate = paired_difference(ours, theirs)
    return GainEntry(
        option=str(option),
        hidden=block.spec(option).se_hidden,
        gain=estimate.value,
        low=estimate.low,
        high=estimate.high,
        **_price(block, option, tables),
    )


def _price(block: _Block, option: Option, tables: Mapping[str, CostTable]) -> dict[str, float | None]:
    """What the option costs more than the reference, in each metric's unit; None where there is no table."""
    ours, theirs = (block.networks[0][block.options.index(one)] for one in (option, block.reference))
    return {
        metric: tables[metric].cost(ours) - tables[metric].cost(theirs) if metric in tables else None
        for metric in METRICS.listed(tables)
    }
