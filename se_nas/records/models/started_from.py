"""What a training of a network began with in place of random weights: a part of its `result.json`."""

from __future__ import annotations

from se_nas.errors import counted
from se_nas.records.fields import Count, Share
from se_nas.records.models.starting_weights import WeightsSource
from se_nas.records.record import Record


class StartedFrom(Record):
    """Trained weights, and what became of them. Tensors are counted without the norms' counts of batches.

    Attributes:
        source_data, source_classes: what they were trained on; None where nothing beside them says it.
        source_accuracy: theirs on the held-out images there; None where the file does not say it.
        data, classes: what is trained on.
        kept: tensors that came; replaced: those of a classifier for other classes, which started anew.
        frozen: the parts that stayed as they were, by the names of a recipe's `freeze`; frozen_tensors: theirs.
    """

    weights: WeightsSource
    source_data: str | None = None
    source_classes: Count | None = None
    source_accuracy: Share | None = None
    data: str
    classes: Count
    kept: Count
    replaced: Count
    frozen: tuple[str, ...] = ()
    frozen_tensors: Count = 0

    @property
    def frozen_words(self) -> str:
        """The frozen parts in plain words; nothing where there are none."""
        stages = [part for part in self.frozen if part.isdecimal()]
        named = [part for part in self.frozen if not part.isdecimal()]
        if stages:
            of_stages = f"{'stages' if len(stages) > 1 else 'stage'} {', '.join(stages)}"
            named.insert(1 if "stem" in named else 0, of_stages)
        return ", ".join(named)

    def words(self) -> str:
        """What a training says of it as it begins, in one line."""
        known = ""
        if self.source_data is not None:
            accuracy = "" if self.source_accuracy is None else f", top-1 {self.source_accuracy:.2%} there"
            known = f", trained on {self.source_data}{accuracy}"
        line = (
            f"weights: {self.weights.source} (sha256 {self.weights.digest}{known}): {counted(self.kept, 'tensor')} kept"
        )
        if self.frozen:
            line += f", {self.frozen_tensors} of them frozen ({self.frozen_words})"
        whose = f"{counted(self.classes, 'class', 'classes')} of {self.data}"
        if self.replaced:
            return f"{line}; the classifier, {counted(self.replaced, 'tensor')}, starts anew for {whose}"
        return f"{line}, the classifier among them, for {whose}"
