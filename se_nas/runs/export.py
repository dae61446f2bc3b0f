"""Handing a retrained network on: which weights, with what is known of the images that it wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from se_nas.errors import ConfigError
from se_nas.export.forms import FORMS
from se_nas.export.record import ExportReport, normalisation_of
from se_nas.export.write import export_network
from se_nas.records.bounds import NEWEST_OPSET, OLDEST_OPSET, USUAL_OPSET
from se_nas.runs.run_folder import RETRAINING, alone_in
from se_nas.training.trained_network import WEIGHTS, DataCard, load_trained


def export_retrained(
    source: Path,
    out: Path,
    forms: Sequence[str] | None,
    *,
    weights: Path | None,
    average: bool | None,
    opset: int | None,
    say: Callable[[str], None],
) -> ExportReport:
    """Export the network of a retraining; see `load_trained` for the weights and `export_network` for the rest.

    Args:
        forms: names in FORMS; None for all whose packages are installed, and a line on each of the others.
        opset: of ONNX; None for the usual one, and where ONNX is not written.
    """
    if weights is None and not (source / WEIGHTS).exists() and (source / RETRAINING / WEIGHTS).exists():
        must = f"must be the folder of a retraining, but is that of a run, whose retraining is in {source / RETRAINING}"
        raise ConfigError(str(source), [must])
    wanted = [name for name, form in FORMS.items() if form.lacks is None] if forms is None else forms
    if opset is not None:
        if "onnx" not in wanted:
            raise ConfigError("--opset", [f"must be left out where onnx is not written, but got {opset}"])
        if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
            raise ConfigError("--opset", [f"must be from {OLDEST_OPSET} to {NEWEST_OPSET}, but got {opset}"])
    network, file, taken = load_trained(source, weights, average=average)
    say(taken.words())
    trained_on = DataCard.load(source if source.is_dir() else source.parent)
    if trained_on is None:
        say("nothing beside the weights says what the images went through, so the forms do not either (data.json)")
    normalisation = normalisation_of(trained_on) if trained_on is not None else None
    with alone_in(out):
        report = export_network(
            network, file, out, wanted, say=say, normalisation=normalisation, opset=opset or USUAL_OPSET
        )
    for name, form in FORMS.items():
        if forms is None and form.lacks:
            say(f"left out: {name}, which {form.lacks}")
    return report
