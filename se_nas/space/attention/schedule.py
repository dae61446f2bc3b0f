"""Operations in the order in which they run, and how many numbers are live at once: what memory a network takes.

A value is live from the operation that makes it to the last one that reads it. An operation's result has a place of
its own beside what it reads, but for one that works element by element (an activation, a norm, a sum, a scaling by
gates): that writes over an operand of the result's size which nobody reads afterwards. Views, which reshape, permute or
leave out, are no operations: who reads one reads what it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class _Step:
    numbers: int
    reads: tuple[int, ...]
    elementwise: bool


class Schedule:
    """Operations on one input, value 0; each returns its result, to be read by later ones.

    Args:
        numbers: how many the input has.
    """

    def __init__(self, numbers: int) -> None:
        self._steps = [_Step(numbers, (), False)]

    def run(self, numbers: int, *reads: int, elementwise: bool = False) -> int:
        """An operation with a result of so many numbers, of the values that it reads."""
        self._steps.append(_Step(numbers, reads, elementwise))
        return len(self._steps) - 1

    def scaled(self, numbers: int, x: int, gates: int) -> int:
        """A map times gates that all or some of its numbers share."""
        return self.run(numbers, x, gates, elementwise=True)

    def then(self, other: Schedule, output: int, x: int) -> int:
        """All of another schedule, with the value `x` for its input; returns what its `output` is here."""
        here = {0: x}
        for value, step in enumerate(other._steps[1:], 1):
            here[value] = self.run(step.numbers, *(here[read] for read in step.reads), elementwise=step.elementwise)
        return here[output]

    def peak(self, output: int) -> int:
        """The most numbers that are live at once; the output stays to the end."""
        last = {value: value for value in range(len(self._steps))}
        for value, step in enumerate(self._steps):
            last.update(dict.fromkeys(step.reads, value))
        last[output] = len(self._steps)
        place: list[int] = []  # the value whose place each one has
        until: dict[int, int] = {}  # the last reader of all that had a place
        live = most = 0
        for value, step in enumerate(self._steps):
            over = (place[read] for read in step.reads if step.elementwise)
            free = (p for p in over if until[p] == value and self._steps[p].numbers == step.numbers)
            place.append(next(free, value))
            if place[value] == value:
                live += step.numbers
                most = max(most, live)
            until[place[value]] = last[value]
            for p in {value, *(place[read] for read in step.reads)}:
                if place[p] == p and until[p] == value:
                    live -= self._steps[p].numbers
        return most
