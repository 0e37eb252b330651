"""Losses of the policy gradient, per token, before aggregation. All tensors [B, T].

ρ_t = π(a_t) / π_prox(a_t); A_t the advantage. Positions that are no action hold zeros on both sides (ρ = 1).
"""

import torch
from torch import Tensor

from learner.functional.checks import at_least, same_shape

MAX_LOG_RATIO = 20.0
"""e^20 is far outside any clip range, and its square is still finite in fp32."""


def log_ratio(logprob: Tensor, logprob_old: Tensor) -> Tensor:
    """log π − log π_old, within ±20."""
    same_shape(2, logprob=logprob, logprob_old=logprob_old)
    return (logprob - logprob_old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_log_ratio(logprob: Tensor, logprob_old: Tensor, mask: Tensor) -> Tensor:
    """The mean log-ratio of the row at each of its tokens, with the gradient of the token's own.

    GSPO (2507.18071): log s_t = sg[mean_t (log π − log π_old)] + log π_t − sg[log π_t].
    """
    token = torch.where(mask, log_ratio(logprob, logprob_old), 0.0)
    mean = token.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(mask, mean.detach() + logprob - logprob.detach(), 0.0)


def clipped_surrogate(
    ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """max(−Aρ, −A·clip(ρ, 1 − ε_low, 1 + ε_high)), and where the clip decided.

    PPO (1707.06347); ε_high > ε_low is DAPO's clip-higher. `dual_clip` c > 1 (1912.09729) bounds the loss by
    −cA where A < 0.

    Raises:
        ValueError: unequal shapes, or a dual clip of 1 or less.
    """
    same_shape(2, ratio=ratio, advantage=advantage)
    at_least(0.0, clip_low=clip_low, clip_high=clip_high)
    free = -advantage * ratio
    clipped = -advantage * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss = torch.maximum(free, clipped)
    if dual_clip is not None:
        if dual_clip <= 1.0:
            raise ValueError(f"dual_clip must be above 1, got {dual_clip}")
        loss = torch.where(advantage < 0, torch.minimum(loss, -dual_clip * advantage), loss)
    return loss, clipped > free


def cispo(
    logprob: Tensor, ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """−sg[clip(ρ)]·A·log π, and where the clip changed ρ: every token keeps a gradient.

    CISPO (MiniMax-M1, 2506.13585).
    """
    same_shape(2, logprob=logprob, ratio=ratio, advantage=advantage)
    weight = ratio.detach().clamp(1.0 - clip_low, 1.0 + clip_high)
    return -weight * advantage * logprob, weight != ratio.detach()


def correction_weight(logprob_prox: Tensor, logprob_behaviour: Tensor, cap: float) -> Tensor:
    """min(π_prox / π_behaviour, C), detached: what decoupled PPO multiplies the loss by.

    Truncated importance sampling between the policy that the clip is around and the one that acted
    (AReaL, 2505.24298).
    """
    if cap <= 0:
        raise ValueError(f"the cap of the correction must be positive, got {cap}")
    return log_ratio(logprob_prox, logprob_behaviour).exp().clamp(max=cap).detach()
