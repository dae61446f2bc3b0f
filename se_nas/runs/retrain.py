"""Training the network of an answer, or of an exported architecture, from scratch on all training images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from se_nas.data.in_memory.images import DataInfo, ImageSet
from se_nas.data.in_memory.options import DataOptions
from se_nas.data.in_memory.sources import load_test, load_train
from se_nas.hardware.environment import describe_environment
from se_nas.records.files import write_json
from se_nas.records.record import Record
from se_nas.runs.open_architecture import check_channels, open_architecture
from se_nas.runs.prepare import Say, pin_threads
from se_nas.runs.run_file import completed
from se_nas.runs.run_folder import RunFolder, alone_in
from se_nas.space.architecture_file import ArchitectureFile, save_architecture
from se_nas.training.initial_weights import InitialWeights, read_initial_weights
from se_nas.training.stand_alone import Trained, Training, TrainingRecipe, train_network
from se_nas.training.trained_network import ARCHITECTURE, WEIGHTS, TrainedOn, save_weights


def retrain(
    file: ArchitectureFile,
    recipe: TrainingRecipe,
    info: DataInfo,
    train: ImageSet,
    options: DataOptions,
    device: torch.device,
    seed: int,
    folder: Path,
    resume: bool,
    progress: bool,
    initial: InitialWeights | None = None,
) -> Trained:
    """Train the network of `file`, from scratch or from `initial`; `folder` gets what `load_trained` reads."""
    test = load_test(options)
    trained = train_network(
        file.network,
        recipe,
        info,
        train,
        test,
        device=device,
        seed=seed,
        folder=folder,
        resume=resume,
        initial=initial,
        progress=progress,
    )
    write_json(folder / "history.json", trained.history)
    save_architecture(folder / ARCHITECTURE, replace(file, scaled={}))
    TrainedOn(info.name, info.class_names, info.mean, info.std).save(folder)
    save_weights(folder / WEIGHTS, trained.network, trained.average)
    return trained


def retrain_exported(
    architecture: Path,
    recipe: TrainingRecipe,
    data: DataOptions,
    device: torch.device,
    folder: Path,
    *,
    seed: int,
    resume: bool,
    progress: bool,
    weights: Path | None = None,
    say: Say = print,
) -> Trained:
    """Train the network of an architecture file, its classifier made for the classes of `data`.

    Args:
        weights: a file to start from instead of random weights; see `training.timm_checkpoint.read_initial_weights`.

    Raises:
        CheckpointError: `weights` cannot be read or are of another architecture.
        ArchitectureError: the file holds no architecture that this version can read, or it is for other channels.
        OutputError: the folder holds a training and `resume` is not given, or cannot be written to.
        ConfigError: `resume` with other settings.
        DataError: the data are missing or damaged.
    """
    pin_threads()
    file = open_architecture(architecture)
    data = replace(data, resolution=file.network.resolution)
    info, train = load_train(data)
    check_channels(architecture, file.network, info.channels)
    spec = replace(file.network, head=replace(file.network.head, classes=info.classes))
    initial = read_initial_weights(weights, spec) if weights else None
    resolved = {
        "network": json.loads(json.dumps(spec.to_dict())),
        "data": {"name": data.name, "dir": str(data.data_dir) if data.data_dir else None, "size": data.size},
        "recipe": recipe.model_dump(mode="json"),
        "weights": initial.digest if initial else None,
        "seed": seed,
    }
    with alone_in(folder):
        run = RunFolder(folder)
        begun = resumes(run, resolved, TrainingRecipe, resume, say)
        if not begun:
            write_json(folder / "environment.json", describe_environment())
            run.begin(resolved)
        answer = replace(file, network=spec)
        trained = retrain(answer, recipe, info, train, data, device, seed, folder, resume, progress, initial)
        write_json(
            folder / "result.json",
            {
                "data": data.name,
                "seed": seed,
                "retrain": retrained(trained, recipe),
                "environment": run.read("environment.json"),
            },
        )
        return trained


def resumes(run: RunFolder, resolved: dict[str, Any], recipe: type[Record], resume: bool, say: Say) -> bool:
    """Whether a folder holds this very training; until that has a checkpoint, its recipe may be corrected.

    Args:
        recipe: the model of `resolved["recipe"]`.

    Raises:
        OutputError: it holds a training and `resume` is not given.
        ConfigError: it holds another one.
    """
    if not run.has_begun(resume):
        return False

    def whole(stored: dict[str, Any]) -> dict[str, Any]:
        return {**stored, "recipe": completed(recipe, stored.get("recipe"), str(run / "config.yaml"))}

    corrections = run.corrections(resolved, whole, None if any(run.path.glob("checkpoint*")) else r"recipe\..*")
    for line in corrections:
        say(line)
    if corrections:
        run.begin(resolved)
    return True


def spent(training: Training) -> dict[str, Any]:
    """What a training took, as a ledger has it."""
    return {"seconds": training.seconds, "cpu_seconds": training.cpu_seconds, "images": training.images}


def retrained(trained: Trained, recipe: TrainingRecipe) -> dict[str, Any]:
    """What `result.json` says of a training."""
    return {
        "epochs": recipe.epochs,
        "seconds": trained.seconds,
        "images": trained.images,
        "test_accuracy": trained.test_accuracy,
        "ema_test_accuracy": trained.ema_test_accuracy,
        "train_accuracy": trained.history[-1]["accuracy"],
        "test_images": trained.test_images,
    }
