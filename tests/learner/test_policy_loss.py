import math

import pytest
import torch
from torch import Tensor

from learner.functional.policy_loss import (
    cispo,
    clipped_surrogate,
    correction_weight,
    log_ratio,
    sequence_log_ratio,
)


def row(*numbers: float) -> Tensor:
    return torch.tensor([numbers])


def test_clipped_surrogate_by_hand() -> None:
    # ε = 0.2 / 0.3; columns: inside, above for A > 0, below for A > 0, above for A < 0, below for A < 0
    ratio, advantage = row(1.1, 2.0, 0.5, 2.0, 0.5), row(2.0, 2.0, 2.0, -2.0, -2.0)
    loss, is_clipped = clipped_surrogate(ratio, advantage, 0.2, 0.3)
    # −2·1.1, −2·1.3 (clipped), −2·0.5, 2·2, 2·0.8 (clipped)
    torch.testing.assert_close(loss, row(-2.2, -2.6, -1.0, 4.0, 1.6))
    assert is_clipped.tolist() == [[False, True, False, False, True]]


def test_dual_clip_bounds_the_loss_of_bad_actions_only() -> None:
    # c = 3, A = −1: the loss 10 becomes 3; A = +1 stays as it is
    loss, _ = clipped_surrogate(row(10.0, 0.1), row(-1.0, 1.0), 0.2, 0.2, dual_clip=3.0)
    torch.testing.assert_close(loss, row(3.0, -0.1))
    with pytest.raises(ValueError, match="dual_clip"):
        clipped_surrogate(row(1.0), row(1.0), 0.2, 0.2, dual_clip=1.0)


def test_beyond_the_clip_there_is_no_gradient() -> None:
    ratio = row(1.1, 2.0).requires_grad_()
    clipped_surrogate(ratio, row(1.0, 1.0), 0.2, 0.2)[0].sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [[-1.0, 0.0]]


def test_cispo_keeps_the_gradient_of_every_token_and_clips_its_weight() -> None:
    # weights clip(2, ≤ 1.2) = 1.2 and 0.9; d/dlogπ = −weight · A
    logprob = row(-1.0, -2.0).requires_grad_()
    loss, is_clipped = cispo(logprob, row(2.0, 0.9), row(1.0, -1.0), 0.2, 0.2)
    loss.sum().backward()
    torch.testing.assert_close(loss, row(1.2, -1.8))
    assert logprob.grad is not None
    torch.testing.assert_close(logprob.grad, row(-1.2, 0.9))
    assert is_clipped.tolist() == [[True, False]]


def test_sequence_ratio_is_the_geometric_mean_with_the_gradient_of_its_token() -> None:
    # log-ratios 0.3 and 0.1, and a masked 9: the mean is 0.2 at both tokens
    logprob = row(-0.7, -0.9, 0.0).requires_grad_()
    mask = torch.tensor([[True, True, False]])
    ratio = sequence_log_ratio(logprob, row(-1.0, -1.0, -9.0), mask)
    torch.testing.assert_close(ratio, row(0.2, 0.2, 0.0))
    ratio[0, 0].backward()
    assert logprob.grad is not None
    assert logprob.grad.tolist() == [[1.0, 0.0, 0.0]]


def test_the_correction_is_truncated_and_carries_no_gradient() -> None:
    # e^(−1 + 2) = 2.718 → 2; e^(−1 + 0.5) = 0.6065
    prox = row(-1.0, -1.0).requires_grad_()
    weight = correction_weight(prox, row(-2.0, -0.5), cap=2.0)
    torch.testing.assert_close(weight, row(2.0, math.exp(-0.5)))
    assert not weight.requires_grad


def test_log_ratios_stay_finite_in_the_exponential() -> None:
    ratio = log_ratio(row(0.0), row(-1000.0)).exp()
    assert ratio.square().isfinite().all()


def test_unequal_shapes_are_refused_though_they_would_broadcast() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        log_ratio(torch.zeros(3, 1), torch.zeros(3, 3))
