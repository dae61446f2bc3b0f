"""Handing a retrained network on: which weights, with what is known of the images that it wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from se_nas.errors import ConfigError
from se_nas.export.forms import FORMS
from se_nas.export.record import ExportReport, Normalisation
from se_nas.export.write import export_network
from se_nas.runs.run_folder import RETRAINING, alone_in
from se_nas.training.trained_network import WEIGHTS, DataCard, load_trained


def export_retrained(
    source: Path,
    out: Path,
    forms: Sequence[str] | None,
    *,
    weights: Path | None,
    average: bool | None,
    say: Callable[[str], None],
) -> ExportReport:
    """Export the network of a retraining; see `load_trained` for the weights and `export_network` for the rest.

    Args:
        forms: names in FORMS; None for all whose packages are installed, and a line on each of the others.
    """
    if weights is None and not (source / WEIGHTS).exists() and (source / RETRAINING / WEIGHTS).exists():
        must = f"must be the folder of a retraining, but is that of a run, whose retraining is in {source / RETRAINING}"
        raise ConfigError(str(source), [must])
    network, file, taken = load_trained(source, weights, average=average)
    say(taken.words())
    trained_on = DataCard.load(source if source.is_dir() else source.parent)
    normalisation = Normalisation(mean=trained_on.mean, std=trained_on.std) if trained_on is not None else None
    wanted = [name for name, form in FORMS.items() if form.lacks is None] if forms is None else forms
    with alone_in(out):
        report = export_network(network, file, out, wanted, say=say, normalisation=normalisation)
    for name, form in FORMS.items():
        if forms is None and form.lacks:
            say(f"left out: {name}, which {form.lacks}")
    return report
