"""Where the weights come from that a search started with: `search/start.json`, and a part of certificates."""

from __future__ import annotations

from typing import Any, Literal

from se_nas.records.fields import Count, Share
from se_nas.records.record import Record


class WeightsSource(Record):
    """Where weights come from.

    Attributes:
        source: the file, with the folder that it lies in, or "timm:" and the name of a model.
        digest: sixteen hexadecimal digits of the file's SHA-256, or of timm's weights.
        licence: what comes with them says of it; None where nothing does.
    """

    source: str
    digest: str
    licence: str | None = None

    def words(self) -> str:
        """In one line."""
        licence = f"licence {self.licence}" if self.licence else "no licence named"
        return f"{self.source} (sha256 {self.digest}, {licence})"


class StartingWeights(Record):
    """What a supernet started with.

    Attributes:
        architecture: the network's picks in the space.
        taken: tensors of the network that came; padded: of these in larger ones of the supernet, or with zeros around
            their kernels; sorted: of these with their channels in the order of importance.
        opened: places of attention that the network has not, whose gates start near 1.
        random: tensors of the supernet that nothing came to, beside attention.
        classifier: whether the classifier came; one for other classes stays random.
        accuracy: of the network on the validation part; None without its classifier.
    """

    format: Literal["se_nas starting weights"] = "se_nas starting weights"
    version: Literal[1] = 1
    weights: WeightsSource
    architecture: dict[str, Any]
    taken: Count
    padded: Count
    sorted: Count
    opened: Count
    random: Count
    classifier: bool
    accuracy: Share | None = None
