"""Losses and measures of a critic. All tensors [B, T]."""

import torch
from torch import Tensor

from learner.functional.aggregate import masked_mean
from learner.functional.checks import same_shape


def clipped_value_loss(
    value: Tensor, value_old: Tensor, return_: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    """½ max((V − R)², (V_clip − R)²) with V_clip = V_old + clip(V − V_old, ±ε), and where |V − V_old| > ε.

    `clip` None is plain regression. The second result looks at V before the clip, where it still shows.
    """
    same_shape(2, value=value, value_old=value_old, return_=return_)
    squared = (value - return_) ** 2
    if clip is None:
        return 0.5 * squared, torch.zeros_like(value, dtype=torch.bool)
    step = value - value_old
    value_clipped = value_old + step.clamp(-clip, clip)
    return 0.5 * torch.maximum(squared, (value_clipped - return_) ** 2), step.abs() > clip


def explained_variance(value: Tensor, return_: Tensor, mask: Tensor) -> Tensor:
    """1 − Var(R − V) / Var(R) over the mask; 0 where the returns do not vary. -> []"""
    same_shape(2, value=value, return_=return_, mask=mask)
    residual = return_ - value
    noise = masked_mean((residual - masked_mean(residual, mask)) ** 2, mask)
    spread = masked_mean((return_ - masked_mean(return_, mask)) ** 2, mask)
    return torch.where(spread > 0, 1.0 - noise / spread.clamp(min=1e-12), 0.0)
