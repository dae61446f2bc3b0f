"""Finalists: a search's answer is chosen among several networks by trainings of their own, on its training images.

A supernet ranks networks roughly, but knows neighbours of its answer hardly apart (Yu et al., arXiv 1902.08142). The
best of some by short trainings, more and more of fewer and fewer, are successive halving (Jamieson and Talwalkar, arXiv
1502.07943).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from se_nas.cost.latencies import Latencies
from se_nas.errors import TrainingError, counted
from se_nas.hardware.lines import Say
from se_nas.records.bounds import MOST_COUNT
from se_nas.records.measure import SUPERNET_ACCURACY
from se_nas.records.models.finalists import Finalist, FinalistsFile, Origin
from se_nas.records.models.run_result import LedgerEntry
from se_nas.records.record import Record, read_record, write_record
from se_nas.search.answer import answer_among
from se_nas.search.black_box.evaluators.stand_alone import StandAloneEvaluator, checked_short_recipe
from se_nas.search.budgets.repair import Repair
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SearchResult
from se_nas.space.architecture import Architecture
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import whole_recipe

#: Networks that the search judges for a place among the finalists: neighbours of its answer, and random ones.
POOL = 64
#: Picks by which a finalist differs from each that is better placed, so that they are not all the same network.
DIFFER = 2
#: Picks of the answer that a neighbour changes at most, before it is made to keep the budgets.
NEAR = 4
#: In the folder of the finalists.
FINALISTS = "finalists.json"


def _ascending(epochs: tuple[int, ...]) -> tuple[int, ...]:
    if not epochs or list(epochs) != sorted(set(epochs)):
        raise ValueError("must be one number or more, each greater than the one before")
    return epochs


class FinalistsConfig(Record):
    """Which trainings decide among the finalists.

    Attributes:
        count: networks of the first round, the search's own answer among them.
        epochs: of each training of a round. As many networks go on to the next round as make it take as many epochs
            in all as the first, and at least one.
        recipe: of the trainings, but for their epochs; null for that of `retrain`.
    """

    count: Annotated[int, Field(ge=2, le=MOST_COUNT)] = 8
    epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_ascending)] = (3, 12)
    recipe: Annotated[Recipe, BeforeValidator(whole_recipe)] | None = None

    @property
    def rounds(self) -> list[tuple[int, int]]:
        """How many networks are trained for how many epochs."""
        return [(max(self.count * self.epochs[0] // epochs, 1), epochs) for epochs in self.epochs]


def with_recipe(config: FinalistsConfig, retrain: Recipe | None) -> FinalistsConfig:
    """The same with the recipe of the retraining where it has none."""
    return config.model_copy(update={"recipe": config.recipe or retrain})


def check_finalists(config: FinalistsConfig) -> list[str]:
    """Faults of what finalists are trained by, which the configuration has by now."""
    if config.recipe is None:
        return ["finalists.recipe: must be given where `retrain` is null, as finalists are trained by it"]
    try:
        for epochs in config.epochs:
            checked_short_recipe(shortened(config.recipe, epochs))
    except ValueError as error:
        return [f"finalists.recipe.{error}"]
    return []


def with_finalists(
    problem: SearchProblem,
    found: SearchResult,
    latencies: Latencies,
    config: FinalistsConfig,
    folder: Path,
    say: Say,
) -> SearchResult:
    """The same finding with the best of its finalists as the answer, and their time as the search's.

    A killed call goes on with the training that it was in. A finalist whose training fails is out, and the next best
    takes its place in the round. Other budgets are answered by the search alone.

    Args:
        latencies: as for `SearchResult.answer`.
        config: with a recipe.
        folder: theirs.

    Raises:
        InfeasibleBudgetError: no architecture keeps the budgets.
        TrainingError: no training's loss stays finite.
    """
    assert config.recipe is not None
    path, rounds = folder / FINALISTS, config.rounds
    if path.exists():
        file = read_record(FinalistsFile, path)
    else:
        chosen = _chosen(problem, found, latencies, rounds[0][0])
        file = FinalistsFile(rounds=tuple(rounds), finalists=tuple(chosen))
        write_record(path, file)
    if len(file.finalists) < config.count:
        say(f"finalists: {len(file.finalists)} in place of {config.count}, as no more networks were found that differ")
    for number, (count, epochs) in enumerate(rounds):
        evaluator = StandAloneEvaluator(problem, shortened(config.recipe, epochs), folder / "trainings")
        while (place := _next(file, count, number)) is not None:
            one, sound = file.finalists[place], [o for o in file.finalists if o.failed is None][:count]
            said = f"{sound.index(one) + 1} of {len(sound)}, {counted(epochs, 'epoch')}"
            say(f"finalists: round {number + 1} of {len(rounds)}, {said}")
            began, cpu_began = time.monotonic(), time.process_time()
            trained: dict[str, object] = {}
            try:
                accuracy = evaluator.evaluate(problem.space.architecture(one.picks), lambda epoch, value: None)
                trained["accuracies"] = (*one.accuracies, accuracy)
            except TrainingError as error:
                trained["failed"] = str(error)
                say(f"finalists: one is out: {error}")
            trained["seconds"] = one.seconds + time.monotonic() - began
            trained["cpu_seconds"] = one.cpu_seconds + time.process_time() - cpu_began
            listed = list(file.finalists)
            listed[place] = one.model_copy(update=trained)
            file = file.model_copy(update={"finalists": tuple(listed)})
            write_record(path, file)
        # who was in the longest trainings first, and among them the best; at the end, who is out
        order = sorted(file.finalists, key=_standing, reverse=True)
        if order != list(file.finalists):
            file = file.model_copy(update={"finalists": tuple(order)})
            write_record(path, file)
    best, own = file.finalists[0], next(one for one in file.finalists if one.origin == "answer")
    if best.failed is not None:
        raise TrainingError(f"finalists: one training or more must go well, but all failed, the first: {best.failed}")
    words = f"the best of {len(file.finalists)} has {best.accuracies[-1]:.2%} on the validation images"
    if own.failed is not None:
        words += "; the training of the search's own answer failed"
    elif best is not own:
        epochs = config.epochs[len(own.accuracies) - 1]
        words += f"; the search's own answer had {own.accuracies[-1]:.2%} after {counted(epochs, 'epoch')}"
    say(f"finalists: {words}")
    return _answering(problem, found, file)


def _next(file: FinalistsFile, count: int, number: int) -> int | None:
    """The place of the first, of the `count` best that are not out, that has yet to be trained in a round."""
    sound = [place for place, one in enumerate(file.finalists) if one.failed is None][:count]
    return next((place for place in sound if len(file.finalists[place].accuracies) <= number), None)


def _standing(one: Finalist) -> tuple[bool, int, tuple[float, ...]]:
    return one.failed is None, len(one.accuracies), one.accuracies[-1:]


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe for so many epochs: what it counts in epochs in the same proportion, and no average of weights."""
    share = epochs / recipe.epochs
    return recipe.model_copy(
        update={
            "epochs": epochs,
            "evaluate_every": 1,
            "warmup_epochs": recipe.warmup_epochs * share,
            "decay_epochs": None if recipe.decay_epochs is None else recipe.decay_epochs * share,
            "mixup_off_epoch": round(recipe.mixup_off_epoch * share),
            "average_decay": None,
            "average_warmup": False,
        }
    )


def _chosen(problem: SearchProblem, found: SearchResult, latencies: Latencies, count: int) -> list[Finalist]:
    """The search's answer, and of its pool those that it judges best and that differ enough, best first."""
    first = found.answer(latencies).architecture
    pool: dict[Architecture, Finalist] = {}
    for architecture, origin in _pool(problem, found, first):
        if architecture not in pool:
            picks = dict(architecture.as_dict())
            pool[architecture] = Finalist(picks=picks, origin=origin, judged=found.accuracy(architecture))
    worth = found.measure.worth
    ranked = sorted(pool, key=lambda a: worth(pool[a].judged), reverse=True)
    placed = [first]
    for differ in (DIFFER, 1):  # where too few differ enough, some that hardly do
        for architecture in ranked:
            if len(placed) < count and min(_differing(architecture, other) for other in placed) >= differ:
                placed.append(architecture)
    return [pool[architecture] for architecture in placed]


def _pool(problem: SearchProblem, found: SearchResult, first: Architecture) -> Iterator[tuple[Architecture, Origin]]:
    """The answer, what else the search would name, and where a supernet judges them, neighbours and random networks."""
    yield first, "answer"
    for other in found.others():
        yield other, "other"
    if found.measure != SUPERNET_ACCURACY:  # a table does not know every network, and a short training takes its time
        return
    space, rng = problem.space, np.random.default_rng([problem.seed, 3])
    repair = Repair(space, problem.tables, problem.budgets)
    for i in range(POOL):
        drawn = space.sample(rng).as_dict()
        if i % 2:
            yield repair.nearest(drawn, rng), "random"
        else:
            most = min(NEAR, len(space.choices))
            changed = rng.choice(len(space.choices), size=int(rng.integers(1, most + 1)), replace=False)
            names = {space.choices[c].name for c in changed}
            picks = {name: drawn[name] if name in names else option for name, option in first.as_dict().items()}
            yield repair.nearest(picks, rng), "neighbour"


def _differing(one: Architecture, other: Architecture) -> int:
    theirs = other.as_dict()
    return sum(option != theirs[name] for name, option in one.as_dict().items())


def _answering(problem: SearchProblem, found: SearchResult, file: FinalistsFile) -> SearchResult:
    sound = [one for one in file.finalists if one.failed is None]
    ranked = [(problem.space.architecture(one.picks), one.accuracies[-1]) for one in sound]
    cpu_seconds = sum(one.cpu_seconds for one in file.finalists)
    learned = len(problem.parts["weights"]) + len(problem.parts["choices"])
    # a training that failed counts as a whole one: it was seldom longer, with all its rollbacks
    images = learned * sum(epochs for one in file.finalists for _, epochs in file.rounds[: one.trainings])
    return replace(
        found,
        answer=lambda latencies: answer_among(problem.space, problem.tables, latencies, problem.budgets, ranked),
        seconds=found.seconds + file.seconds,
        images=found.images + images,
        ledger=(
            *found.ledger,
            LedgerEntry(part="finalists", seconds=file.seconds, cpu_seconds=cpu_seconds, images=images),
        ),
    )
