"""A network of a finished search with its supernet's weights, as a folder that every command on trained ones takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from se_nas.cost.budget import Budget
from se_nas.data.in_memory.batches import DeviceImages
from se_nas.data.on_disk.transforms import EvalTransform
from se_nas.data.sources import load_test, stays_on_disk
from se_nas.errors import ConfigError, OutputError
from se_nas.hardware.lines import Say
from se_nas.records.models.run_result import SubnetResult
from se_nas.records.record import write_record
from se_nas.runs.prepare import open_setting
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.runs.search import answer_of, decode_again
from se_nas.search.one_shot.inheritance import inherit
from se_nas.search.result import load_supernet
from se_nas.search.strategies import strategy_of
from se_nas.training.evaluate import accuracy, top_accuracies
from se_nas.training.trained_network import WEIGHTS, DataCard, save_weights


def make_subnet(
    folder: Path,
    budgets: Sequence[Budget],
    out: Path,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    say: Say,
) -> SubnetResult:
    """Write an answer of a finished search into `out`, with the weights that it inherits from the search's supernet.

    Its batch norms are recalibrated on the training images that the search recalibrates by.

    Args:
        folder: of the run.
        budgets: of another answer than the run's; none for the run's own.
        data_dir, device: of this process, where they are not those of the run.

    Raises:
        ConfigError: the folder holds no finished search, or one without a supernet.
        OutputError: `out` holds something already, or cannot be written to.
        InfeasibleBudgetError: no architecture keeps the budgets.
    """
    with alone_in(out):
        if (out / "config.yaml").exists():
            must = "the folder for the network must hold no run and no network yet, but it does"
            raise OutputError(f"{out}: {must}; choose another --out")
        setting = open_setting(folder, data_dir=data_dir, device=device)
        run, config = setting.run, setting.config
        if stays_on_disk(setting.options.name):
            must = "must be of images in memory for its networks to be written with their inherited weights, but it is"
            raise ConfigError(str(run / "config.yaml"), [f"data.name: {must} {setting.options.name}"])
        problem = setting.problem(resume=True, progress=False)
        supernet = load_supernet(problem.folder, setting.space)
        if supernet is None:
            must = "must be of a search that trained a supernet, but it has none"
            raise ConfigError(str(folder), [must])
        if budgets:
            architecture = decode_again(folder, budgets, out).architecture
        else:
            architecture = setting.space.architecture(answer_of(folder, out).architecture.as_dict())
        supernet.to(setting.device)
        images = problem.images()
        count = strategy_of(config.search).calibration_images(config.search)
        network = inherit(supernet, architecture, images, problem, count)
        side = network.spec.resolution
        validation = accuracy(network, images.at(side), setting.parts["validation"])
        test = load_test(setting.options)
        for line in test.notes:
            say(line)
        shown = DeviceImages(setting.info, test, setting.device).at(side)
        everything = torch.arange(len(test))
        top1 = top_accuracies(network, shown.evaluate_batches(everything, 500), setting.device).top1
        info = setting.info
        tested = EvalTransform(side, 1.0, "bilinear")
        DataCard.of(info.name, info.class_names, info.mean, info.std, tested).save(out)
        save_weights(out / WEIGHTS, network.cpu(), None, accuracies={"network": top1})
        result = SubnetResult(
            run=config.name,
            data=info.name,
            seed=config.seed,
            calibration_images=count,
            validation_accuracy=validation,
            test_accuracy=top1,
            test_images=len(test),
        )
        write_record(out / "result.json", result)
        known = run.config
        RunFolder(out).begin({"data": known["data"], "seed": known.get("seed", 0), "run": str(folder.resolve())})
        return result
