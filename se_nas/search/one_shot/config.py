"""How a supernet is trained in one shot, as a run file says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from se_nas.records.bounds import MOST_COUNT
from se_nas.records.fields import PathText
from se_nas.records.numbers import Count, CountFromZero
from se_nas.search.one_shot.distillation import DIVERGENCES
from se_nas.search.one_shot.weight_training import WeightConfig
from se_nas.training.recipe import Decay, Recipe

#: Samplings that choose among several subnets, and those whose steps begin with the largest one.
ATTENTIVE = ("best_up", "worst_up")
IN_PLACE = ("sandwich", *ATTENTIVE)
#: Subnets to choose among, unless the run file says otherwise: as many as AttentiveNAS has where it looks at the loss.
CANDIDATES = 3


class OneShotConfig(WeightConfig):
    """How a supernet is trained for a black-box search; see also `WeightConfig`.

    Attributes:
        sampling: what a step trains. "sandwich": the subnet of the most MACs on the labels, then the one of the fewest
            and `random_subnets` drawn uniformly on the soft answers of the first. "best_up", "worst_up": the same, but
            each of the latter is, of `candidates` subnets of about one number of MACs, the one of the least or of the
            greatest loss on the step's own images and labels, with the supernet's weights of then; AttentiveNAS has a
            trained predictor of accuracy beside this loss. "strict_fairness": as many subnets as the largest choice has
            options, see `fair_picks`. "uniform": one subnet drawn uniformly. The gradients of a step's subnets add up,
            each with weight 1, for one update; of several parts the mean of their sums is taken.
        random_subnets: subnets drawn in a step of the sandwich rule and its kin; the other samplings do not read it.
        candidates: subnets among which "best_up" and "worst_up" choose, each run forward once more; null is 3 there.
        teacher: a trained network whose soft answers all subnets learn from in place of the largest one's, each with
            weight 1 beside the labels (Once for All, arXiv 1908.09791, whose teacher is the trained largest network): a
            folder that a retraining left, relative to the run file, or the name of a timm model; null is none.
        teacher_checkpoint: the file of its weights: of a timm model its state dict; of a folder what is read instead of
            `network.pt`.
        distillation: what is learned from soft answers. "kl": the KL divergence from them; "alpha": AlphaNet's
            divergence (arXiv 2102.07954), see `alpha_divergence`; "none": all subnets learn from the labels alone.
            "auto" is "kl" where there is a teacher or a largest subnet to learn from, else "none". It has no label
            smoothing.
        average_decay: decay of a running average of the supernet's weights, as timm's; it is then what validation,
            evaluation and inheritance take. null is no average.
        epochs: passes over the images that train the weights.
        validate_every: epochs between two validations of the largest and the smallest subnet; the last epoch has one.
    """

    sampling: Literal["sandwich", "best_up", "worst_up", "strict_fairness", "uniform"] = "sandwich"
    random_subnets: CountFromZero = 2
    candidates: int | None = Field(None, ge=2, le=MOST_COUNT)
    teacher: PathText | None = None
    teacher_checkpoint: PathText | None = None
    distillation: Literal["auto", "none", "kl", "alpha"] = "auto"
    average_decay: Decay | None = None
    epochs: Count = 30
    validate_every: Count = 5

    @field_validator("random_subnets")
    @classmethod
    def _some_to_choose(cls, value: int, info: ValidationInfo) -> int:
        if value == 0 and info.data.get("sampling") in ATTENTIVE:
            raise ValueError(f"must be at least 1 with sampling {info.data['sampling']}, which chooses these")
        return value

    @field_validator("candidates")
    @classmethod
    def _chosen_among(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("sampling", "best_up") not in ATTENTIVE:
            raise ValueError(f"must be null unless sampling is {' or '.join(ATTENTIVE)}, which alone choose")
        return value

    @field_validator("teacher_checkpoint")
    @classmethod
    def _of_a_teacher(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("teacher", "") is None:
            raise ValueError("must be left out without teacher, whose it is")
        return value

    @field_validator("distillation")
    @classmethod
    def _something_to_learn_from(cls, value: str, info: ValidationInfo) -> str:
        teacher, largest = info.data.get("teacher"), info.data.get("sampling", "sandwich") in IN_PLACE
        if value in DIVERGENCES and teacher is None and not largest:
            raise ValueError(f"must be none without a teacher, unless sampling is one of {', '.join(IN_PLACE)}")
        if value == "none" and teacher is not None:
            raise ValueError("must be auto, kl or alpha with a teacher")
        return value

    def unread(self) -> list[str]:
        """Faults of values that were given and are not read; runs that began before they were refused have them."""
        usual = type(self).model_fields["random_subnets"].default
        if self.sampling in IN_PLACE or self.random_subnets == usual:
            return []
        return [
            f"random_subnets: must be left out unless sampling is one of {', '.join(IN_PLACE)}, which alone draw "
            f"them, but got {self.random_subnets} with {self.sampling}"
        ]

    def recipe(self, epochs: int) -> Recipe:
        """With the average."""
        return super().recipe(epochs).model_copy(update={"average_decay": self.average_decay})

    @property
    def divergence(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Of a subnet's answers from a teacher's, what it learns by; None where all learn from the labels alone."""
        auto = "kl" if self.sampling in IN_PLACE or self.teacher is not None else "none"
        return DIVERGENCES.get(auto if self.distillation == "auto" else self.distillation)
