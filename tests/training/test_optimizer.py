from __future__ import annotations

import pytest
import torch
from torch import nn

from se_nas.training.loop import StepContext
from se_nas.training.optimizer import WeightAverage, WeightUpdate, clip_gradients, parameter_groups
from se_nas.training.recipe_files import default_recipe


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_get_no_weight_decay() -> None:
    model = _model()
    decayed, plain = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[3].weight)}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = parameter_groups(model, 0.1)
    assert group["params"] == [model.weight]


def test_a_step_equals_the_hand_formula() -> None:
    module = nn.Linear(1, 1, bias=False)
    recipe = default_recipe(learning_rate=0.2, weight_decay=0.01, warmup_epochs=0, epochs=1000, clip=2.0)
    update = WeightUpdate(module, recipe, 1000, device=torch.device("cpu"))
    weight = start = module.weight.item()
    momentum = 0.0
    for step, gradient in enumerate((1.0, -3.0)):
        assert update.begin(StepContext(step, 0, step, attempt=0, lr_scale=0.5, seed=0)) == pytest.approx(0.1)
        update.backward((gradient * module.weight).sum())
        update.end()
        decayed = max(-2.0, gradient) + 0.01 * weight
        momentum = 0.9 * momentum + decayed
        weight -= 0.1 * (decayed + 0.9 * momentum)
    assert weight != start
    assert module.weight.item() == pytest.approx(weight, rel=1e-5)


def test_weight_average_equals_the_hand_formula() -> None:
    model = _model()
    average = WeightAverage(model, decay=0.15)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for update in range(4):
        model(torch.randn(2, 3, 3, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(update)
        decay = 0.15 if update else 0.0
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert average.module[1].num_batches_tracked.item() == 4


def test_weight_average_of_a_constant_is_that_constant() -> None:
    model = _model()
    average = WeightAverage(model, 0.9)
    average.update(3)
    torch.testing.assert_close(average.module.state_dict(), model.state_dict())


def test_weight_average_goes_on_where_it_was_saved() -> None:
    model = _model()
    first, second = WeightAverage(model, 0.9), WeightAverage(model, 0.9)
    with torch.no_grad():
        model[3].weight.add_(1.0)
    first.update(1)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        model[3].weight.add_(1.0)
    first.update(2)
    second.update(2)
    assert torch.equal(first.module[3].weight, second.module[3].weight)


@pytest.mark.parametrize("warmup", [False, True])
def test_an_average_of_a_short_run_forgets_the_weights_that_it_began_with(warmup: bool) -> None:
    model = nn.Linear(1, 1)
    average = WeightAverage(model, 0.9999, warmup)
    for step in range(200):
        nn.init.constant_(model.weight, 1.0 if step < 20 else 2.0)
        average.update(step)
    assert 1.99 < average.module.weight.item() <= 2.0


def test_a_long_run_comes_to_the_decay_that_it_was_given() -> None:
    model = nn.Linear(1, 1)
    average = WeightAverage(model, 0.99)
    nn.init.zeros_(model.weight)
    average.update(0)
    nn.init.ones_(model.weight)
    average.update(10_000)
    assert average.module.weight.item() == pytest.approx(0.01)


def test_weight_average_neither_trains_nor_moves_the_model() -> None:
    model = _model()
    average = WeightAverage(model, 0.9)
    before = model[3].weight.clone()
    average.update(0)
    assert model.training
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert torch.equal(model[3].weight, before)


def test_clipping_scales_all_gradients_alike() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([first, second], 1.0).item() == pytest.approx(5.0)
    assert (first.grad.item(), second.grad.item()) == pytest.approx((0.6, 0.8), rel=1e-4)
    assert clip_gradients([first, second], 10.0).item() == pytest.approx(1.0, rel=1e-4)
    assert first.grad.item() == pytest.approx(0.6, rel=1e-4)
