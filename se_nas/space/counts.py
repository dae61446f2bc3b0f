"""Multiply-accumulates and parameters, as the parts of a network add them up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Multiply-accumulates for one image, and trainable parameters."""

    macs: int
    params: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.macs + other.macs, self.params + other.params)

    def times(self, passes: int) -> Counts:
        """The same weights, run so many times."""
        return Counts(self.macs * passes, self.params)


def linear_counts(in_features: int, out_features: int, *, bias: bool = True) -> Counts:
    """A linear layer."""
    return Counts(in_features * out_features, in_features * out_features + out_features * bias)
