"""What an evaluator says of an architecture: an accuracy, or another number, by its own name and in its own range."""

from __future__ import annotations

from se_nas.records.record import Record


class Measure(Record):
    """What is measured of an architecture.

    Searches raise its `worth`, which is the value itself or, where less is better, its negative.

    Attributes:
        name: what it is called, such as "accuracy" or "loss"; the first of a search's objectives.
        source: where it comes from, as pages put it after the name, such as "with the supernet's weights".
        raised: whether more of it is better.
        lowest, highest: the range that a value must be in; None for no end.
        share: whether it is a share, which is shown in percent.
        on_images: whether it is the share of the validation images that are right, which has an interval.
    """

    name: str = "accuracy"
    source: str = "as the search judges it"
    raised: bool = True
    lowest: float | None = 0.0
    highest: float | None = 1.0
    share: bool = True
    on_images: bool = False

    def fault(self, value: float) -> str | None:
        """What is wrong with a value that is out of the range; None where it is in it."""
        if (self.lowest is None or value >= self.lowest) and (self.highest is None or value <= self.highest):
            return None
        if self.share:
            hint = "; percent must be divided by 100" if 1 < value <= 100 else ""
            return f"{self.name}: must be a share from {self.lowest:g} to {self.highest:g}, but got {value!r}{hint}"
        ends = [f"at least {self.lowest:g}"] if self.lowest is not None else []
        ends += [f"at most {self.highest:g}"] if self.highest is not None else []
        return f"{self.name}: must be {' and '.join(ends)}, but got {value!r}"

    def worth(self, value: float) -> float:
        """What a search raises; of a worth, the value again."""
        return value if self.raised else -value

    def show(self, value: float, digits: int = 2) -> str:
        """A value for people: `93.21 %`, or as a plain number."""
        return f"{100 * value:.{digits}f} %" if self.share else f"{value:.4g}"


ACCURACY = Measure()
SUPERNET_ACCURACY = Measure(source="with the supernet's weights", on_images=True)
