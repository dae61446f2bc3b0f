"""Handing a retrained network on: which weights, with what is known of the images that it wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from se_nas.export.write import Normalisation, export_network
from se_nas.runs.run_folder import alone_in
from se_nas.training.trained_network import DataCard, load_trained


def export_retrained(
    source: Path,
    out: Path,
    forms: Sequence[str],
    *,
    weights: Path | None,
    average: bool | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Export the network of a retraining; see `load_trained` for the weights and `export_network` for the rest."""
    network, file = load_trained(source, weights, average=average)
    trained_on = DataCard.load(source if source.is_dir() else source.parent)
    normalisation = Normalisation(trained_on.mean, trained_on.std) if trained_on is not None else None
    with alone_in(out):
        return export_network(network, file, out, forms, say=say, normalisation=normalisation)
