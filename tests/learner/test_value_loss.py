import pytest
import torch

from learner.functional.value_loss import clipped_value_loss, explained_variance


def test_value_loss_by_hand() -> None:
    """S14: V moves by 2·ε; its clip shows before the clip is applied."""
    # V_old = 0, V = 0.4, ε = 0.2, R = 1: ½ max((−0.6)², (0.2 − 1)²) = ½ · 0.64
    loss, is_clipped = clipped_value_loss(
        torch.tensor([[0.4]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), clip=0.2
    )
    assert loss.item() == pytest.approx(0.32)
    assert is_clipped.float().mean() == 1.0


def test_value_loss_without_a_clip_is_half_the_squared_error() -> None:
    loss, is_clipped = clipped_value_loss(
        torch.tensor([[0.4]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), clip=None
    )
    assert loss.item() == pytest.approx(0.18)
    assert not is_clipped.any()


def test_a_value_that_moved_too_far_in_the_right_direction_has_no_gradient() -> None:
    value = torch.tensor([[0.4]], requires_grad=True)
    clipped_value_loss(value, torch.zeros(1, 1), torch.ones(1, 1), clip=0.2)[0].sum().backward()
    assert value.grad is not None
    assert value.grad.item() == 0.0


def test_explained_variance_looks_at_the_mask_alone() -> None:
    """S14."""
    # R = 0, 2 and V = 0.5, 1.5: residuals ∓0.5, Var 0.25, Var(R) = 1, so 0.75
    value, return_ = torch.tensor([[0.5, 1.5, 9.0]]), torch.tensor([[0.0, 2.0, -5.0]])
    mask = torch.tensor([[True, True, False]])
    assert explained_variance(value, return_, mask).item() == pytest.approx(0.75)


def test_explained_variance_of_constant_returns_is_zero() -> None:
    ones = torch.ones(1, 3)
    assert explained_variance(ones * 0.3, ones, ones.bool()) == 0.0
