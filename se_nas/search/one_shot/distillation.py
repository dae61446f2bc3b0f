"""How far the soft answers of a subnet are from a teacher's: what it learns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional as F

#: Greatest weight that `alpha_divergence` gives to a class, AlphaNet's beta.
CLIP = 5.0


def divergence(predicted: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of soft answers from a teacher's, 0-d, of logits (B, classes); the teacher gets no gradient."""
    target = F.log_softmax(teacher.detach(), 1)
    return F.kl_div(F.log_softmax(predicted, 1), target, reduction="batchmean", log_target=True)


def alpha_divergence(predicted: Tensor, teacher: Tensor) -> Tensor:
    """AlphaNet's adaptive alpha-divergence (arXiv 2102.07954, section 4), 0-d, of logits (B, classes).

    Of each image the greater of two divergences of the student q from the teacher p: that of alpha 1, which is the KL
    divergence and punishes a student who knows less than its teacher, and that of alpha -1, (sum of q * q / p - 1) / 2,
    which punishes one who is surer. In the latter q / p is at most `CLIP` and, with the factor q before it, counts as
    fixed: the gradient is the sum of q * min(q / p, CLIP) * d log q. The teacher gets no gradient.
    """
    log_p, log_q = F.log_softmax(teacher.detach(), 1), F.log_softmax(predicted, 1)
    less = (log_p.exp() * (log_p - log_q)).sum(1)
    fixed = log_q.detach()
    weights = fixed.exp() * (fixed - log_p).exp().clamp(max=CLIP)
    more = (weights.sum(1) - 1) / 2
    learned = (weights * log_q).sum(1)
    return less.where(less >= more, more + learned - learned.detach()).mean()


#: What `distillation` of a run file names.
DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"kl": divergence, "alpha": alpha_divergence}
