from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from se_nas.data.on_disk.encoded_images import open_encoded_images
from se_nas.data.on_disk.shuffle import shuffled_order
from se_nas.data.on_disk.stream import EvaluationStream
from se_nas.data.on_disk.transforms import MEAN, STD, EvalTransform, normalise
from se_nas.errors import CheckpointError, ConfigError, DataError, TrainingError, TrainingInterrupted
from se_nas.hardware.distributed import join_ranks
from se_nas.layers.network import Network, initialise
from se_nas.records.checkpoint import load_checkpoint
from se_nas.records.models.run_result import BestEpoch
from se_nas.records.run_log import read_log
from se_nas.training import optimizer
from se_nas.training import train as training
from se_nas.training.evaluate import TopAccuracies, top_accuracies
from se_nas.training.images import StreamedHeldOut
from se_nas.training.trained_network import network_with
from tests.helpers.rank_processes import on_ranks, start_ranks
from tests.helpers.tiny_imagenet import EVERYTHING, RECIPE, colour_of, recipe_of, tiny_network, write_images
from tests.training.disk_jobs import CPU, DiskJob, Fault, Watched, train

CLASSES = 4
SPEC = tiny_network(classes=CLASSES)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training images: three steps of 8 an epoch, and 12 held-out ones."""
    return write_images(tmp_path_factory.mktemp("images"), CLASSES)


def parameters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without running statistics and counters."""
    names = {name for name, _ in Network(SPEC).named_parameters()}
    return {name: value for name, value in state.items() if name in names}


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys()
    assert first
    for name, value in first.items():
        assert (value - second[name]).abs().max() <= tolerance, name


def moved(state: dict[str, Tensor]) -> float:
    """How far the weights are from those that an untrained network of the same seed has."""
    torch.manual_seed(0)
    network = Network(SPEC)
    initialise(network)
    before = network.state_dict()
    return max(float((value - before[name]).abs().max()) for name, value in parameters(state).items())


# --- several ranks ------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_train_as_one_that_accumulates_the_same_parts(
    tmp_path: Path, images: Path, size: int, accumulate: int
) -> None:
    """With all that is random, and every kind of state, at the same global batch."""
    values = {**EVERYTHING, "batch_size": 16, "epochs": 4}
    alone = train(DiskJob(tmp_path / "one", images, SPEC, recipe_of(values, accumulate=size * accumulate)))
    job = DiskJob(tmp_path / "several", images, SPEC, recipe_of(values, accumulate=accumulate))
    together: list[Watched] = on_ranks(size, tmp_path / "job", train, job)
    assert_close(parameters(together[0].network), parameters(alone.network), 1e-6)
    assert_close(parameters(together[0].average), parameters(alone.average), 1e-6)
    assert moved(alone.network) > 1e-3
    losses = [[entry.loss for entry in found.training.history] for found in (together[0], alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_without_batch_statistics_train_as_one_with_the_whole_batch(
    tmp_path: Path, images: Path, size: int
) -> None:
    values = {**RECIPE, "batch_size": 16, "epochs": 4, "average_decay": 0.9, "dropout": 0.0, "label_smoothing": 0.1}
    job = DiskJob(tmp_path / "one", images, SPEC, recipe_of(values), frozen_norms=True)
    alone = train(job)
    several = DiskJob(tmp_path / "several", images, SPEC, recipe_of(values), frozen_norms=True)
    together: list[Watched] = on_ranks(size, tmp_path / "job", train, several)
    assert_close(together[0].network, alone.network, 1e-6)
    assert_close(together[0].average, alone.average, 1e-6)
    assert moved(alone.network) > 0.01


def test_all_ranks_hold_the_same_state_after_every_step_and_the_mean_statistics(tmp_path: Path, images: Path) -> None:
    job = DiskJob(tmp_path / "run", images, SPEC, recipe_of(EVERYTHING, batch_size=12))
    ranks: list[Watched] = on_ranks(3, tmp_path / "job", train, job)
    assert len(ranks[0].digests) == len(set(ranks[0].digests)) == 4
    assert ranks[0].digests == ranks[1].digests == ranks[2].digests
    for step in range(4):
        own = torch.stack([rank.own_statistics[step] for rank in ranks])
        assert len(own[0]) > 100
        assert not torch.equal(own[0], own[1])  # each saw other images
        torch.testing.assert_close(ranks[0].statistics[step], own.mean(0))
    assert [rank.training.history for rank in ranks] == [ranks[0].training.history] * 3
    assert ranks[1].said == ""  # the first speaks for all


@pytest.mark.parametrize("fault", [Fault("loss", 4, 1), Fault("weights", 5, 1)], ids=lambda fault: fault.of)
def test_a_fault_on_one_rank_rolls_all_back_together(tmp_path: Path, images: Path, fault: Fault) -> None:
    job = DiskJob(tmp_path / "run", images, SPEC, recipe_of(EVERYTHING, batch_size=8), fault=fault)
    ranks: list[Watched] = on_ranks(2, tmp_path / "job", train, job)
    assert ranks[0].steps == ranks[1].steps
    assert ranks[0].steps[-1] == (5, 0.5)
    assert [step for step, _ in ranks[0].steps] in ([0, 1, 2, 3, 4, 3, 4, 5], [0, 1, 2, 3, 4, 5, 3, 4, 5])
    assert ranks[0].digests[-1] == ranks[1].digests[-1]
    (line,) = [line for line in read_log(job.folder / "log.jsonl") if line["event"] == "rollback"]
    assert line["fault_step"] == fault.step
    assert all(value.isfinite().all() for value in ranks[0].network.values() if value.is_floating_point())


def test_a_batch_that_does_not_divide_among_the_ranks_is_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match=r"multiple of ranks \(3\) times accumulate \(1\), but got 8"):
        recipe_of(RECIPE).micro_batch(3)
    with pytest.raises(ConfigError, match=r"even parts over ranks \(2\) times accumulate \(2\).*parts of 3"):
        recipe_of(RECIPE, batch_size=12, accumulate=2, mixup=0.2).micro_batch(2)


# --- held-out images ----------------------------------------------------------------------------


class ColourVotes(nn.Module):
    """Fixed random logits of the mean colour; notes that it was in evaluation mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.votes = nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        logits: Tensor = self.votes(x.mean((2, 3)))
        return logits


def count_brute_force(images: Path, classes: int) -> tuple[int, int, int]:
    """First guesses right, first five, and images; one image at a time."""
    _, held_out = open_encoded_images(images)
    network, first, five = ColourVotes(classes).eval(), 0, 0
    for x, y in EvaluationStream(held_out, EvalTransform(16), batch_size=1):
        order = network(normalise(x))[0].argsort(descending=True).tolist()
        first, five = first + (order[0] == int(y)), five + (int(y) in order[:5])
    return first, five, len(held_out)


def evaluate_folders(folders: list[Path], classes: int, batch_size: int) -> list[TopAccuracies]:
    with join_ranks(CPU) as (ranks, _):
        found = []
        for folder in folders:
            _, held_out = open_encoded_images(folder)
            stream = EvaluationStream(
                held_out, EvalTransform(16), batch_size=batch_size, rank=ranks.rank, ranks=ranks.size
            )
            network = ColourVotes(classes).train()
            found.append(top_accuracies(network, StreamedHeldOut(stream, CPU), CPU, ranks))
            assert network.training
        return found


@pytest.fixture(scope="module")
def many_classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Path]]:
    """Held-out sets of 9 classes and of 9, 18 and 19 images: with 4 ranks of batches of 2 nothing divides."""
    home, classes = tmp_path_factory.mktemp("sets"), 9
    folders = [write_images(home / str(count), classes, 1, count) for count in (1, 2)]
    odd = write_images(home / "odd", classes, 1, 2)
    extra = odd / "val/class03"
    (extra / "more.jpg").write_bytes((extra / "0.jpg").read_bytes())
    return classes, [*folders, odd]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_held_out_image_counts_once(tmp_path: Path, many_classes: tuple[int, list[Path]], size: int) -> None:
    classes, folders = many_classes
    ranks = on_ranks(size, tmp_path / "job", evaluate_folders, folders, classes, 2)
    for number, folder in enumerate(folders):
        first, five, count = count_brute_force(folder, classes)
        assert 0 < first < five < count
        for found in ranks:
            by_class = found[number].by_class
            assert found[number].balanced == pytest.approx(sum(by_class) / classes)
            assert found[number].class_images == [len(list(f.iterdir())) for f in sorted(folder.glob("val/*"))]
            assert found[number].top1 == pytest.approx(first / count)
            assert found[number].top5 == pytest.approx(five / count)
            assert found[number].images == count


def test_more_ranks_than_images(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 2, 1, 1)
    found = on_ranks(3, tmp_path / "job", evaluate_folders, [images], 2, 4)
    assert [rank[0].images for rank in found] == [2] * 3
    assert [rank[0].top5 for rank in found] == [1.0] * 3  # of two classes, the first five are all


# --- killed and resumed -------------------------------------------------------------------------


def finished(folder: Path) -> dict[str, Any]:
    """All numbers of a training that no clock made."""
    files = {name: load_checkpoint(folder / name) for name in ("network.pt", "best.pt", "epochs/0002.pt")}
    log = [{k: v for k, v in line.items() if k != "time"} for line in read_log(folder / "log.jsonl")]
    position = load_checkpoint(folder / "checkpoint.pt")["position"]
    return {"files": _plain(files), "log": log, "history": position["history"], "losses": position["losses"]}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value.tolist() if isinstance(value, Tensor) else value


def long_job(folder: Path, images: Path, **options: Any) -> DiskJob:
    recipe = recipe_of(EVERYTHING, epochs=6, accumulate=2)
    return DiskJob(folder, images, SPEC, recipe, save_always=True, options={"keep_every": 2, **options})


def at_step(folder: Path) -> int:
    """The step of the checkpoint on disk; -1 where there is none."""
    try:
        return int(load_checkpoint(folder / "checkpoint.pt")["position"]["step"])
    except CheckpointError:
        return -1


def test_killed_in_mid_epoch_and_resumed_equals_uninterrupted(tmp_path: Path, images: Path) -> None:
    whole = train(long_job(tmp_path / "whole", images))
    job = long_job(tmp_path / "killed", images, resume=True)
    for number, step in enumerate((4, 11)):  # neither at the end of an epoch of three
        dying = replace(job, fault=Fault("kill", step, 0))
        process = start_ranks(1, tmp_path / f"job{number}", train, dying)
        assert process.join()[0].code == -signal.SIGKILL
    resumed = train(job)
    assert resumed.steps[0][0] == 10  # a state is saved once a later loss has confirmed it
    assert finished(job.folder) == finished(tmp_path / "whole")
    assert resumed.training.history == whole.training.history
    assert resumed.training.best == whole.training.best


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_resumed_equals_uninterrupted(tmp_path: Path, images: Path) -> None:
    values = recipe_of(EVERYTHING, epochs=40, accumulate=2)
    whole, killed = (DiskJob(tmp_path / name, images, SPEC, values, save_always=True) for name in ("whole", "killed"))
    train(DiskJob(whole.folder, images, SPEC, values, save_always=True, options={"keep_every": 2}))
    job = DiskJob(
        killed.folder, images, SPEC, values, save_always=True, options={"keep_every": 2, "resume": True, "workers": 1}
    )
    rng = random.Random(4)
    for number, step in enumerate(sorted(rng.sample(range(115), 10))):
        process = start_ranks(1, tmp_path / f"job{number}", train, job)
        process.wait_until(lambda step=step: at_step(job.folder) >= step)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.05))
        process.send(0, signal.SIGKILL)
        assert process.join()[0].code == -signal.SIGKILL
    train(job)
    assert finished(job.folder) == finished(whole.folder)


def test_two_ranks_stopped_by_a_signal_to_one_save_and_go_on(tmp_path: Path, images: Path) -> None:
    whole: list[Watched] = on_ranks(2, tmp_path / "unbroken", train, long_job(tmp_path / "whole", images))
    job = long_job(tmp_path / "stopped", images, resume=True)
    stopping = start_ranks(2, tmp_path / "stopping", stop_after, job, 4)
    ended = stopping.join()
    assert [rank.code for rank in ended] == [0, 0], ended
    assert [rank.value for rank in ended] == [(signal.SIGTERM, 5)] * 2  # both, after the same step
    resumed: list[Watched] = on_ranks(2, tmp_path / "resuming", train, job)
    assert resumed[0].steps[0][0] == 4
    assert resumed[0].digests[-1] == whole[0].digests[-1]
    assert finished(job.folder) == finished(tmp_path / "whole")


def stop_after(job: DiskJob, step: int) -> tuple[int, int]:
    """Train; the last rank alone gets SIGTERM in that step. Returns the signal and the number of steps done."""
    done = []
    learning_rates = optimizer.learning_rates

    def rates(recipe: Any, steps: int) -> Any:
        rate = learning_rates(recipe, steps)

        def noticed(number: int) -> float:
            done.append(number)
            if number == step and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGTERM)
            return rate(number)

        return noticed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "learning_rates", rates)
        try:
            train(job)
        except TrainingInterrupted as stopped:
            return stopped.signal_number, len(done)
    return 0, len(done)


def test_workers_change_nothing(tmp_path: Path, images: Path) -> None:
    alone, helped = (
        train(DiskJob(tmp_path / str(workers), images, SPEC, recipe_of(EVERYTHING), options={"workers": workers}))
        for workers in (0, 2)
    )
    assert helped.digests == alone.digests
    assert helped.training.history == alone.training.history


def test_the_checkpoint_of_another_architecture_is_one_line_said_once(tmp_path: Path, images: Path) -> None:
    other = tiny_network(classes=CLASSES, stem={"width": 16, "stride": 2})
    train(DiskJob(tmp_path / "run", images, other, recipe_of(RECIPE)))
    job = DiskJob(tmp_path / "run", images, SPEC, recipe_of(RECIPE), options={"resume": True})
    with pytest.raises(CheckpointError, match="a checkpoint to resume must fit this run") as caught:
        train(job)
    assert "\n" not in str(caught.value)
    ended = start_ranks(2, tmp_path / "job", train, job).join()
    assert ended[1].code == 2
    assert "must fit this run" in ended[0].err
    assert ended[1].err == ""


# --- learning -----------------------------------------------------------------------------------


def test_it_memorises_twenty_classes(tmp_path: Path) -> None:
    classes = 20
    images = write_images(tmp_path / "images", classes, 4, 1)
    values = {"epochs": 30, "batch_size": 20, "reference_batch_size": 20, "learning_rate": 0.3, "warmup_epochs": 2}
    recipe = recipe_of(RECIPE, **values, dropout=0.0, average_decay=0.9, flip=0.0, evaluate_every=10)
    found = train(DiskJob(tmp_path / "run", images, tiny_network(classes=classes), recipe))
    last = found.training.history[-1]
    assert last.accuracy > 0.95
    assert last.of("val_top1") > 0.95
    assert last.of("val_top5") == 1.0
    assert found.training.best is not None
    assert found.training.best.top1 == max(
        entry.of(name) or 0 for entry in found.training.history for name in ("val_top1", "ema_val_top1")
    )


def test_a_distilled_student_comes_to_the_teachers_logits_and_not_to_the_labels(tmp_path: Path, images: Path) -> None:
    torch.manual_seed(1)
    teacher = Teacher()
    values = {"epochs": 40, "batch_size": 12, "learning_rate": 0.1, "dropout": 0.0, "evaluate_every": 40}
    recipe = recipe_of(RECIPE, **values, distillation={"alpha": 1.0, "temperature": 1.0})
    spec = tiny_network(classes=CLASSES)
    student = train(DiskJob(tmp_path / "run", images, spec, recipe, options={"teacher": teacher}))
    _, held_out = open_encoded_images(images)
    ((x, y),) = EvaluationStream(held_out, recipe.eval_transform(16), batch_size=100)
    network = Network(spec).eval()
    untrained = Network(spec).eval()
    network.load_state_dict(student.network)
    with torch.no_grad():
        wanted = teacher(normalise(x)).log_softmax(1)
        gaps = [
            nn.functional.kl_div(model(normalise(x)).log_softmax(1), wanted, reduction="batchmean", log_target=True)
            for model in (network, untrained)
        ]
        agreement = (network(normalise(x)).argmax(1) == wanted.argmax(1)).float().mean()
    assert gaps[0] < 0.1 * gaps[1]
    assert agreement == 1.0
    assert (wanted.argmax(1) != y).all()
    assert student.training.history[-1].of("val_top1") == 0.0


class Teacher(nn.Module):
    """Takes each colour for that of the class after it, surely."""

    def __init__(self) -> None:
        super().__init__()
        colours = torch.tensor([colour_of(label, CLASSES) for label in range(CLASSES)])
        self.colours = ((colours - torch.tensor(MEAN)) / torch.tensor(STD)).roll(1, 0)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return -(x.mean((2, 3))[:, None] - self.colours).square().sum(2)


def test_distillation_is_weighed_against_the_labels(tmp_path: Path, images: Path) -> None:
    losses = {}
    for alpha in (0.25, 1.0):
        recipe = recipe_of(RECIPE, epochs=1, distillation={"alpha": alpha, "temperature": 2.0})
        job = DiskJob(tmp_path / str(alpha), images, SPEC, recipe, options={"teacher": Teacher()}, frozen_norms=True)
        losses[alpha] = train(job).training.history[0].loss
    plain = train(DiskJob(tmp_path / "plain", images, SPEC, recipe_of(RECIPE, epochs=1), frozen_norms=True))
    between = 0.75 * plain.training.history[0].loss + 0.25 * losses[1.0]
    # the weights of the three part after the first of three steps, but not far
    assert losses[0.25] == pytest.approx(between, rel=0.02)
    assert abs(losses[1.0] / losses[0.25] - 1) > 0.1


# --- precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_is_close_and_resumes(tmp_path: Path, images: Path, precision: str, tolerance: float) -> None:
    whole, half = (
        train(DiskJob(tmp_path / name, images, SPEC, recipe_of(RECIPE, epochs=1, precision=name, clip=1.0)))
        for name in ("float32", precision)
    )
    first, second = whole.training.history[0].loss, half.training.history[0].loss
    assert first != second
    assert second == pytest.approx(first, rel=tolerance)
    assert all(value.dtype != getattr(torch, precision) for value in half.network.values())
    assert moved(half.network) == pytest.approx(moved(whole.network), rel=0.2)
    parts = load_checkpoint(tmp_path / precision / "checkpoint.pt")["parts"]
    assert ("scaler" in parts) == (precision == "float16")


def test_gradients_that_overflow_in_float16_skip_the_step_and_lower_the_scale(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer.torch.amp, "GradScaler", HugeScale)
    found = train(DiskJob(tmp_path / "run", images, SPEC, recipe_of(RECIPE, epochs=1, precision="float16")))
    assert moved(found.network) == 0.0
    assert load_checkpoint(tmp_path / "run/checkpoint.pt")["parts"]["scaler"]["scale"] == 2.0**97
    assert all(value.isfinite().all() for value in found.network.values() if value.is_floating_point())


class HugeScale(torch.amp.GradScaler):
    def __init__(self, device: str, enabled: bool) -> None:
        super().__init__(device, enabled=enabled, init_scale=2.0**100)


# --- damaged images, and what is left behind ----------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two damaged training images and a held-out one."""
    images = write_images(tmp_path / "images", CLASSES)
    for name in ("train/class01/0.jpg", "train/class02/3.jpg", "val/class03/1.jpg"):
        path = images / name
        path.write_bytes(path.read_bytes()[:100])
    return images


@pytest.mark.parametrize("size", [1, 2])
def test_damaged_images_are_named_and_training_goes_on(tmp_path: Path, damaged: Path, size: int) -> None:
    job = DiskJob(tmp_path / "run", damaged, SPEC, recipe_of(RECIPE))
    ranks: list[Watched] = on_ranks(size, tmp_path / "job", train, job)
    names = ["train/class01/0.jpg", "train/class02/3.jpg", "val/class03/1.jpg"]
    for rank in ranks:
        assert sorted(rank.training.damaged) == names
        assert rank.training.history[-1].of("val_top5") == 1.0
    assert list(json.loads((job.folder / "damaged.json").read_text())) == names
    said = "".join(rank.said for rank in ranks)
    for name in names:
        assert f"{name}: the image is damaged and left out" in said
    assert "of at most 100" in said


def test_damaged_images_met_before_a_kill_are_still_known(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", CLASSES)
    sample, _ = open_encoded_images(images)
    order = shuffled_order(len(sample), seed=0, epoch=1)  # of the last epoch, which is killed in its third step
    for index in (order[0], order[12]):
        (images / sample.name(int(index))).write_bytes(b"")
    job = DiskJob(
        tmp_path / "run", images, SPEC, recipe_of(RECIPE), save_always=True, options={"resume": True, "max_damaged": 2}
    )
    process = start_ranks(1, tmp_path / "job", kill_at_step, job, 5)
    assert process.join()[0].code == -signal.SIGKILL
    resumed = train(job)
    assert resumed.steps[0][0] == 4
    names = {sample.name(int(index)) for index in (order[0], order[12])}
    assert set(resumed.training.damaged) == names
    assert set(json.loads((job.folder / "damaged.json").read_text())) == names


def kill_at_step(job: DiskJob, step: int) -> None:
    learning_rates = optimizer.learning_rates

    def rates(recipe: Any, steps: int) -> Any:
        rate = learning_rates(recipe, steps)
        return lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == step else rate(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizer, "learning_rates", rates)
        train(job)


def test_too_many_damaged_images_are_an_error_with_count_and_name(tmp_path: Path, damaged: Path) -> None:
    job = DiskJob(tmp_path / "run", damaged, SPEC, recipe_of(RECIPE), options={"max_damaged": 1})
    with pytest.raises(DataError, match=r"at most 1 image may be damaged.*but 2 are, the last train/class0[12]"):
        train(job)


def test_the_files_of_weights_hold_what_they_say(tmp_path: Path, images: Path) -> None:
    recipe = recipe_of(RECIPE, epochs=4, average_decay=0.5, evaluate_every=2, learning_rate=0.2)
    job = DiskJob(tmp_path / "run", images, SPEC, recipe, options={"keep_every": 3})
    found = train(job)
    history = found.training.history
    looked = [entry.epoch for entry in history if entry.of("val_top1") is not None]
    assert looked == [1, 3]
    top1 = {(e.epoch, k): e.of(n) for e in history for k, n in NAMES.items() if e.of(n) is not None}
    best = load_checkpoint(job.folder / "best.pt")
    assert found.training.best.plain() == {name: best[name] for name in ("epoch", "weights", "top1")}
    assert best["top1"] == max(top1.values()) == top1[best["epoch"], best["weights"]]
    assert sorted(path.name for path in (job.folder / "epochs").iterdir()) == ["0003.pt"]
    assert load_checkpoint(job.folder / "epochs/0003.pt")["epoch"] == 2
    last = load_checkpoint(job.folder / "network.pt")
    assert_close(last["network"], found.network, 0.0)
    assert_close(last["average"], found.average, 0.0)
    assert not torch.equal(last["average"]["head.classifier.weight"], last["network"]["head.classifier.weight"])
    # loaded back, each has the accuracy that the training said
    _, held_out = open_encoded_images(images)
    for path, epoch in (("best.pt", best["epoch"]), ("network.pt", 3)):
        for average, kind in ((False, "network"), (True, "average")):
            network, _ = network_with(SPEC, job.folder / path, average=average)
            stream = EvaluationStream(held_out, recipe.eval_transform(16), batch_size=5)
            assert top_accuracies(network, StreamedHeldOut(stream, CPU), CPU).top1 == top1[epoch, kind]


NAMES = {"network": "val_top1", "average": "ema_val_top1"}


def test_best_is_of_the_training_that_went_on(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback over the end of an epoch takes back what that epoch called the best, in the file too."""
    said = iter([0.5, 0.9, 0.4, 0.3])  # the second is of the epoch that is undone
    look = TopAccuracies(top1=0.0, top5=1.0, images=2, balanced=0.5, by_class=[0.0, 1.0], class_images=[1, 1])
    monkeypatch.setattr(training, "top_accuracies", lambda *_: replace(look, top1=next(said)))
    job = DiskJob(tmp_path / "run", images, SPEC, recipe_of(RECIPE, epochs=3), fault=Fault("loss", 6, 0))
    found = train(job)
    assert [step for step, _ in found.steps] == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 8]
    assert found.training.best == BestEpoch(epoch=0, weights="network", top1=0.5)
    best = load_checkpoint(job.folder / "best.pt")
    assert {name: best[name] for name in ("epoch", "weights", "top1")} == found.training.best.plain()


def test_a_lasting_fault_is_one_line_of_one_rank(tmp_path: Path, images: Path) -> None:
    ended = start_ranks(2, tmp_path / "job", train_at_an_absurd_rate, tmp_path / "run", images).join()
    assert [rank.value for rank in ended] == ["TrainingError", "SystemExit 2"], ended


def train_at_an_absurd_rate(folder: Path, images: Path) -> str:
    recipe = recipe_of(RECIPE, learning_rate=1e30)
    try:
        train(DiskJob(folder, images, SPEC, recipe))
    except TrainingError:
        return "TrainingError"
    except SystemExit as error:
        return f"SystemExit {error.code}"
    return "well"
