from __future__ import annotations

import pytest
import torch

from se_nas.search.one_shot.distillation import CLIP, alpha_divergence, divergence


def test_distillation_teaches_the_student_alone() -> None:
    student = torch.randn(6, 4, requires_grad=True)
    teacher = torch.randn(6, 4, requires_grad=True)
    p, q = teacher.softmax(1), student.softmax(1)
    loss = divergence(student, teacher)
    assert loss.item() == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-5)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (q - p).detach() / 6)
    assert divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_alpha_divergence_is_the_greater_of_two_image_by_image() -> None:
    """One student knows less than its teacher, the other is surer of the wrong class; no weight is clipped."""
    teacher = torch.tensor([[0.50, 0.25, 0.25], [0.40, 0.30, 0.30]]).log().requires_grad_()
    student = torch.tensor([[0.05, 0.475, 0.475], [0.10, 0.80, 0.10]]).log().requires_grad_()
    p, q = teacher.detach().softmax(1), student.softmax(1)
    less, more = (p * (p / q).log()).sum(1), ((q * q / p).sum(1) - 1) / 2
    assert (less > more).tolist() == [True, False]
    expected = torch.maximum(less, more).mean()
    assert (q / p).max() < CLIP
    loss = alpha_divergence(student, teacher)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(expected, student)
    loss.backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, gradient)


def test_alpha_divergence_weighs_a_class_by_no_more_than_the_clip() -> None:
    """Its weight is q * CLIP, however little the teacher gives it; the gradient is that of weighted log-likelihoods."""
    teacher = torch.tensor([[0.90, 0.05, 0.05]]).log()
    student = torch.tensor([[0.60, 0.39, 0.01]]).log().requires_grad_()
    p, q = teacher.softmax(1), student.detach().softmax(1)
    weights = q * torch.stack([q[0, 0] / p[0, 0], torch.tensor(CLIP), q[0, 2] / p[0, 2]])
    assert (weights.sum() - 1) / 2 > (p * (p / q).log()).sum()
    loss = alpha_divergence(student, teacher)
    assert loss.item() == pytest.approx((weights.sum().item() - 1) / 2, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(student.grad, weights - weights.sum() * q)
    assert torch.isfinite(alpha_divergence(torch.tensor([[-300.0, 300.0]]), torch.tensor([[300.0, -300.0]])))
