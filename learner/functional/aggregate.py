"""From a loss per token to one number: which sum, and which global count it is divided by.

The sum of a part of a batch divided by the count of the whole: adding the parts gives the whole, so that the
gradient does not depend on micro-batches, padding, order or number of ranks.
"""

from typing import Literal

import torch
from torch import Tensor

from learner.functional.checks import same_shape

Aggregation = Literal["token_mean", "sequence_mean_token_sum", "sequence_mean_token_mean", "constant"]
Count = str
"""The name of a global count: "tokens" or "sequences"; an algorithm may add its own."""


def masked_sum(x_t: Tensor, mask: Tensor) -> Tensor:
    """The sum over the True positions; whatever stands elsewhere, NaN too, has no influence. [B, T] -> []"""
    same_shape(x_t.dim(), x_t=x_t, mask=mask)
    return torch.where(mask, x_t, 0.0).sum()


def masked_mean(x_t: Tensor, mask: Tensor) -> Tensor:
    """The mean over the True positions; 0 where there are none. [B, T] -> []"""
    return masked_sum(x_t, mask) / mask.sum().clamp(min=1)


def whiten(x_t: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """(x − μ) / √(σ² + ε) over the True positions of the whole batch, 0 elsewhere; σ² with Bessel's
    correction. One position alone, or none, gives 0. [B, T] -> [B, T]
    """
    mean = masked_mean(x_t, mask)
    variance = masked_sum((x_t - mean) ** 2, mask) / (mask.sum() - 1).clamp(min=1)
    return torch.where(mask, (x_t - mean) * (variance + epsilon).rsqrt(), 0.0)


def counts(mask: Tensor) -> dict[Count, float]:
    """What losses over this mask are divided by; add them up over ranks. A sequence without a True position
    does not count. [B, T] -> {"tokens": …, "sequences": …}
    """
    return {"tokens": float(mask.sum()), "sequences": float(mask.any(dim=1).sum())}


def aggregate(
    loss_t: Tensor, mask: Tensor, how: Aggregation, horizon: int | None = None
) -> tuple[Tensor, Count]:
    """The numerator of a loss, and the name of the global count to divide it by. [B, T] -> [], name

    token_mean                Σ_i Σ_t ℓ / tokens                    (DAPO, 2503.14476)
    sequence_mean_token_sum   Σ_i Σ_t ℓ / sequences
    sequence_mean_token_mean  Σ_i (Σ_t ℓ / tokens of i) / sequences (GRPO, 2402.03300)
    constant                  Σ_i Σ_t ℓ / (sequences · horizon)     (Dr.GRPO, 2503.20783)

    Raises:
        ValueError: unequal shapes, an unknown way, or "constant" without a positive horizon.
    """
    same_shape(2, loss_t=loss_t, mask=mask)
    per_sequence = torch.where(mask, loss_t, 0.0).sum(dim=1)
    match how:
        case "token_mean":
            return per_sequence.sum(), "tokens"
        case "sequence_mean_token_sum":
            return per_sequence.sum(), "sequences"
        case "sequence_mean_token_mean":
            return (per_sequence / mask.sum(dim=1).clamp(min=1)).sum(), "sequences"
        case "constant":
            if horizon is None or horizon < 1:
                raise ValueError(f"aggregation 'constant' divides by a horizon of at least 1, got {horizon}")
            return per_sequence.sum() / horizon, "sequences"
    raise ValueError(f"there is no aggregation {how!r}")
