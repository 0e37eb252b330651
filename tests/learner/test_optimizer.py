import math

import pytest
import torch
from torch import nn

from antiphon.errors import UserError
from antiphon.settings import parse
from learner.optimizer import Optimizer, OptimizerConfig


def _parameter(*numbers: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(numbers))


def test_the_first_step_of_adamw_by_hand() -> None:
    # m̂ / √v̂ = ±1 at the first step, so each number moves by lr against its gradient; lr = 0.1
    parameter = _parameter(1.0, 2.0)
    optimizer = Optimizer(OptimizerConfig(lr=0.1), [("p", parameter)], num_updates=10)
    parameter.grad = torch.tensor([0.3, -0.4])
    step = optimizer.step(0)
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, 2.1]))
    assert step.grad_norm == pytest.approx(0.5)
    assert parameter.grad is None


def test_long_gradients_are_scaled_and_reported_as_they_were() -> None:
    # ‖(3, 4)‖ = 5 becomes 0.5: m = 0.1 · (0.3, 0.4)
    parameter = _parameter(0.0, 0.0)
    config = OptimizerConfig(lr=0.1, max_grad_norm=0.5, betas=(0.9, 0.95))
    optimizer = Optimizer(config, [("p", parameter)], num_updates=1)
    parameter.grad = torch.tensor([3.0, 4.0])
    assert optimizer.step(0).grad_norm == pytest.approx(5.0)
    torch.testing.assert_close(optimizer.state_dict()["p"]["exp_avg"], torch.tensor([0.03, 0.04]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float, caplog: pytest.LogCaptureFixture) -> None:
    parameter, other = _parameter(1.0), _parameter(2.0)
    optimizer = Optimizer(OptimizerConfig(lr=0.1), [("p", parameter), ("q", other)], num_updates=1)
    parameter.grad, other.grad = torch.tensor([bad]), torch.tensor([1.0])
    step = optimizer.step(7)
    assert step.is_skipped
    assert (parameter.item(), other.item()) == (1.0, 2.0)
    assert optimizer.state_dict() == {}
    assert "update 7" in caplog.text
    assert parameter.grad is None


def test_matrices_decay_and_vectors_do_not() -> None:
    matrix, vector = nn.Parameter(torch.ones(1, 1)), _parameter(1.0)
    config = OptimizerConfig(lr=0.1, weight_decay=0.5)
    optimizer = Optimizer(config, [("m", matrix), ("v", vector)], num_updates=1)
    matrix.grad, vector.grad = torch.zeros(1, 1), torch.zeros(1)
    optimizer.step(0)
    assert matrix.item() == pytest.approx(0.95)
    assert vector.item() == 1.0


def test_heads_may_learn_faster() -> None:
    policy, head = _parameter(0.0), _parameter(0.0)
    config = OptimizerConfig(lr=0.1, head_lr=0.4)
    optimizer = Optimizer(config, [("p", policy)], [("h", head)], num_updates=1)
    policy.grad, head.grad = torch.tensor([0.5]), torch.tensor([0.5])
    optimizer.step(0)
    assert policy.item() == pytest.approx(-0.1)
    assert head.item() == pytest.approx(-0.4)


def test_schedules_by_hand() -> None:
    warm = OptimizerConfig(warmup_updates=4)
    assert [warm.lr_share(u, 100) for u in (0, 1, 3, 4, 99)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    linear = OptimizerConfig(schedule="linear", warmup_updates=2, min_lr_share=0.1)
    # updates 2 … 12 go from 1 to 0.1: half-way 0.55
    assert [linear.lr_share(u, 12) for u in (0, 2, 7, 12, 50)] == pytest.approx([0.5, 1.0, 0.55, 0.1, 0.1])
    cosine = OptimizerConfig(schedule="cosine")
    assert [cosine.lr_share(u, 8) for u in (0, 2, 4, 8)] == pytest.approx([1.0, 0.853553, 0.5, 0.0])


def test_state_of_another_model_is_refused_by_name() -> None:
    parameter = _parameter(1.0)
    optimizer = Optimizer(OptimizerConfig(), [("p", parameter)], num_updates=1)
    moments = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
    with pytest.raises(ValueError, match="'q'"):
        optimizer.load_state_dict({"q": moments})
    with pytest.raises(ValueError, match="'p'"):
        optimizer.load_state_dict({"p": {**moments, "exp_avg": torch.zeros(2)}})


def test_an_unknown_schedule_is_a_mistake_of_the_recipe() -> None:
    with pytest.raises(UserError, match="schedule"):
        parse(OptimizerConfig, {"schedule": "exponential"}, "learner.optimizer")
