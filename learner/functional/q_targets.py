"""What an action should have been worth: targets of temporal differences. Pure functions.

Time runs over columns; `mask` is True on action tokens. The state that belongs to a column is that before its
token. The state after token t is the one before the next *action* token: masked positions in between, what an
environment said, say, cost nothing. Tensors are [B, T] unless said otherwise; what stands off the mask has no
influence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.functional.checks import at_least, same_shape


def next_action(mask: Tensor) -> Tensor:
    """The column of the first action token after each column; T where there is none. [B, T] -> [B, T]"""
    same_shape(2, mask=mask)
    num_rows, width = mask.shape
    column = torch.where(mask, torch.arange(width, device=mask.device), width)
    after = torch.cat([column[:, 1:], column.new_full((num_rows, 1), width)], dim=1)
    return after.flip(1).cummin(dim=1).values.flip(1)


def at_next(x_t: Tensor, x_final: Tensor, mask: Tensor) -> Tensor:
    """x of the next action token, x_final [B] after the last one, 0 off the mask. [B, T] -> [B, T]"""
    same_shape(2, x_t=x_t, mask=mask)
    same_shape(1, x_final=x_final, rows=mask[:, 0])
    shifted = torch.cat([x_t, x_final[:, None].to(x_t.dtype)], dim=1).gather(1, next_action(mask))
    return torch.where(mask, shifted, 0.0)


def n_step_target(
    reward_t: Tensor, value_t: Tensor, mask: Tensor, value_final: Tensor, gamma: float, num_steps: int
) -> Tensor:
    """y_t = Σ_{i<k} γ^i r_{t+i} + γ^k V(s_{t+k}), k = min(num_steps, actions left). 0 off the mask.

    Every k-step return runs along the tokens that were drawn. Which V makes which algorithm:

        the V head                         implicit Q-learning (2110.06169, 2206.11871)
        min_k Q̄_k(s, argmax_a Q(s, a))     double Q-learning (1509.06461), see `double_q`
        min_k Q̄_k(s_t, a_t)                SARSA

    Args:
        value_t: of the state before token t.
        value_final: [B] of the state after the last action; 0 where the episode ended.

    Raises:
        ValueError: unequal shapes, fewer than one step, or γ outside of 0 … 1.
    """
    same_shape(2, reward_t=reward_t, value_t=value_t, mask=mask)
    at_least(1, num_steps=num_steps)
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be within 0 … 1, got {gamma}")
    target = value_t
    # A row with A actions is done after A rounds: more change nothing.
    most = int(mask.sum(dim=1).max()) if len(mask) else 0
    for _ in range(min(num_steps, max(most, 1))):
        target = torch.where(mask, reward_t + gamma * at_next(target, value_final, mask), 0.0)
    return target


def soft_n_step_target(
    reward_t: Tensor,
    log_ratio_t: Tensor,
    value_t: Tensor,
    mask: Tensor,
    value_final: Tensor,
    gamma: float,
    temperature: float,
    num_steps: int,
) -> Tensor:
    """y_t = r_t + Σ_{0<i<k} γ^i (r_{t+i} − τ x_{t+i}) + γ^k V(s_{t+k}), x = log π − log π_ref.

    The soft Q-value of token t: its own log-ratio is free, those of the tokens after it cost τ each. Where π
    and V are optimal, y_t = V(s_t) + τ x_t along *every* path (path consistency, 1702.08892), so that returns
    of several steps need no correction for who drew the tokens.

    Raises:
        ValueError: as `n_step_target`, or a temperature that is not positive.
    """
    same_shape(2, reward_t=reward_t, log_ratio_t=log_ratio_t, mask=mask)
    if temperature <= 0:
        raise ValueError(f"the temperature of a soft Q-value must be positive, got {temperature}")
    later = value_t
    if num_steps > 1:
        charged = reward_t - temperature * log_ratio_t
        later = n_step_target(charged, value_t, mask, value_final, gamma, num_steps - 1)
    return n_step_target(reward_t, later, mask, value_final, gamma, 1)


def double_q(online: Sequence[Tensor], target: Sequence[Tensor], allowed: Tensor | None = None) -> Tensor:
    """min_k Q̄_k(s, a*) with a* = argmax_a min_k Q_k(s, a). [N, V] each -> [N]

    One network chooses, the other says what the choice is worth (double Q-learning, 1509.06461); of several
    heads the least is believed (1802.09477).

    Args:
        allowed: [N, V] bool, at least one True in each row; the choice is among these.

    Raises:
        ValueError: no head, or unequal shapes.
    """
    at_least(1, num_online=len(online), num_target=len(target))
    same_shape(2, **{f"online_{k}": q for k, q in enumerate(online)}, first=target[0])
    best = torch.stack(list(online)).amin(dim=0)
    if allowed is not None:
        same_shape(2, online=best, allowed=allowed)
        best = best.masked_fill(~allowed, -torch.inf)
    choice = best.argmax(dim=1, keepdim=True)
    return torch.stack([q.gather(1, choice).squeeze(1) for q in target]).amin(dim=0)


def supported(logits: Tensor, share: float) -> Tensor:
    """Where π(a|s) ≥ share · max_a π(a|s): the tokens that somebody who speaks like π would think of.
    [N, V] -> [N, V] bool

    Others were never tried: their Q-values are noise, of which a maximum would take the largest (BCQ for
    discrete actions, 1910.01708).

    Raises:
        ValueError: a share outside of 0 … 1.
    """
    same_shape(2, logits=logits)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"the share must be within 0 … 1, got {share}")
    return (logits - logits.amax(dim=1, keepdim=True)).exp() >= share
