"""Finding what a user wants the excitation of: the network, its weights, and the test images that it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from se_nas.evidence.excitation import Excitation, study_excitation
from se_nas.evidence.gates import units_of
from se_nas.hardware.device import pin_threads
from se_nas.hardware.environment import describe_environment
from se_nas.hardware.lines import Say
from se_nas.report.pages.excitation.numbers import Studied
from se_nas.report.pages.excitation.page import write_excitation
from se_nas.runs.run_folder import alone_in
from se_nas.runs.shown_images import ImageRequest, shown_images, trained_network


@dataclass(frozen=True, kw_only=True)
class Request(ImageRequest):
    """Whose excitation is studied, and on what.

    Attributes:
        classes: names of the classes to draw.
    """

    classes: Sequence[str] = ()


def excitation_folder(source: Path) -> Path:
    """Where the answer goes by default: `excitation` in the folder, or beside the architecture."""
    return (source if source.is_dir() else source.parent) / "excitation"


def study_run(
    request: Request, folder: Path, device: torch.device, *, progress: bool, say: Say
) -> tuple[Excitation, Path]:
    """Study a network and write what was found into `folder`; see `report.pages.excitation.page.write_excitation`.

    Returns:
        What was found, and the page's path.

    Raises:
        SeNasError: the network, its weights or the images are missing, damaged or do not fit each other.
    """
    pin_threads()
    network, file, home = trained_network(request, say)
    units_of(network)  # without SE it ends here, before images are loaded
    images = shown_images(request, home, file.network, device, progress)
    for line in images.notes:
        say(line)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with alone_in(folder):
        excitation = study_excitation(network, images.batches, images.classes)
        studied = Studied(file.space_name, images.data, images.of_images, describe_environment())
        return excitation, write_excitation(folder, excitation, studied, request.classes)
