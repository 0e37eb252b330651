"""Losses of Q-learning per token, before aggregation. All tensors [B, T]; targets carry no gradient."""

import torch
from torch import Tensor

from learner.functional.checks import at_least, same_shape


def td_loss(q_t: Tensor, target_t: Tensor, huber: float | None = None) -> Tensor:
    """(Q − y)², or with `huber` δ the same up to |Q − y| = δ and the straight line 2δ|Q − y| − δ² from there.

    Raises:
        ValueError: unequal shapes, or a δ that is not positive.
    """
    same_shape(2, q_t=q_t, target_t=target_t)
    error = q_t - target_t.detach()
    if huber is None:
        return error**2
    if huber <= 0:
        raise ValueError(f"huber must be positive, got {huber}")
    size = error.abs()
    return torch.where(size <= huber, error**2, 2.0 * huber * size - huber**2)


def expectile_loss(value_t: Tensor, target_t: Tensor, expectile: float) -> Tensor:
    """|τ − 1[y < V]| (y − V)²: its minimum over a distribution of y is the τ-expectile (2110.06169).

    0.5 is half of plain regression; towards 1 V approaches the largest y that was seen.

    Raises:
        ValueError: unequal shapes, or an expectile that is not within 0 … 1.
    """
    same_shape(2, value_t=value_t, target_t=target_t)
    if not 0.0 < expectile < 1.0:
        raise ValueError(f"the expectile must lie between 0 and 1, got {expectile}")
    error = target_t.detach() - value_t
    weight = torch.where(error < 0, 1.0 - expectile, expectile)
    return weight * error**2


def conservative_loss(q_t: Tensor, logsumexp_t: Tensor) -> Tensor:
    """log Σ_a e^{Q(s, a)} − Q(s, a_t): the cross-entropy of softmax Q(s, ·) with the token that was drawn.

    Pushes down what was never tried (conservative Q-learning, 2006.04779).
    """
    same_shape(2, q_t=q_t, logsumexp_t=logsumexp_t)
    return logsumexp_t - q_t


def advantage_weight(q_t: Tensor, value_t: Tensor, beta: float, cap: float) -> Tensor:
    """min(e^{β(Q − V)}, cap), without gradient: how much a token deserves to be imitated (AWAC, 2006.09359).

    β = 0 gives 1 everywhere: plain imitation.

    Raises:
        ValueError: unequal shapes, a negative β, or a cap below 1.
    """
    same_shape(2, q_t=q_t, value_t=value_t)
    at_least(0.0, beta=beta)
    at_least(1.0, cap=cap)
    # Clamped before the exponential: e^100 is infinite in fp32, and infinity times 0 is no number.
    return (beta * (q_t - value_t)).detach().clamp(max=torch.tensor(cap).log().item()).exp()
