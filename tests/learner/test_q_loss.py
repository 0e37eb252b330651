import math

import pytest
import torch

from learner.functional.q_loss import advantage_weight, conservative_loss, expectile_loss, td_loss


def test_temporal_difference_by_hand() -> None:
    q, target = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.75]])
    assert td_loss(q, target).tolist() == [[4.0, 0.0625]]
    # δ = ½: a difference of 2 costs 2·½·2 − ¼, one of ¼ its square
    assert td_loss(q, target, huber=0.5).tolist() == [[1.75, 0.0625]]


def test_no_gradient_goes_into_a_target() -> None:
    q, target = torch.ones(1, 1, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    (td_loss(q, target) + expectile_loss(q, target, 0.7)).sum().backward()
    assert target.grad is None
    # 2·(1 − 0) + 2·0.3·(1 − 0)
    assert q.grad is not None
    assert q.grad.item() == pytest.approx(2.6)


def test_expectile_by_hand() -> None:
    # y above V by 2: 0.7·4; y below V by 1: 0.3·1
    loss = expectile_loss(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.0]]), 0.7)
    torch.testing.assert_close(loss, torch.tensor([[2.8, 0.3]]))


def test_an_expectile_of_one_half_is_half_of_plain_regression() -> None:
    """S13."""
    value, target = torch.randn(2, 5), torch.randn(2, 5)
    torch.testing.assert_close(expectile_loss(value, target, 0.5), 0.5 * td_loss(value, target))


def test_the_minimum_of_the_expectile_loss_is_the_expectile() -> None:
    # three times 0, once 1, τ = 0.9: V = 0.9·1 / (0.1·3 + 0.9·1) = 0.75
    value = torch.full((1, 4), 0.75, requires_grad=True)
    expectile_loss(value, torch.tensor([[0.0, 0.0, 0.0, 1.0]]), 0.9).sum().backward()
    assert value.grad is not None
    assert value.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_the_conservative_loss_is_a_cross_entropy() -> None:
    # e^Q = 1 and 3: −log(3 / 4) for the second
    q = torch.tensor([[0.0, math.log(3.0)]])
    loss = conservative_loss(q[:, 1:], q.logsumexp(1, keepdim=True))
    torch.testing.assert_close(loss, torch.tensor([[math.log(4.0 / 3.0)]]))
    torch.testing.assert_close(loss[0], torch.nn.functional.cross_entropy(q, torch.tensor([1]))[None])


def test_advantage_weight_by_hand() -> None:
    q, value = torch.tensor([[2.0, 1000.0]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    weight = advantage_weight(q, value, beta=0.5, cap=20.0)
    torch.testing.assert_close(weight, torch.tensor([[math.exp(0.5), 20.0]]))
    assert not weight.requires_grad
    assert advantage_weight(q, value, beta=0.0, cap=20.0).tolist() == [[1.0, 1.0]]


def test_wrong_arguments_are_refused() -> None:
    one, two = torch.zeros(1, 1), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="equal shapes"):
        td_loss(one, two)
    with pytest.raises(ValueError, match="huber"):
        td_loss(one, one, huber=0.0)
    with pytest.raises(ValueError, match="expectile"):
        expectile_loss(one, one, 1.0)
    with pytest.raises(ValueError, match="equal shapes"):
        conservative_loss(one, two)
    with pytest.raises(ValueError, match="beta"):
        advantage_weight(one, one, -1.0, 20.0)
    with pytest.raises(ValueError, match="cap"):
        advantage_weight(one, one, 1.0, 0.5)
