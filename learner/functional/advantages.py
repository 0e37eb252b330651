"""How much better an action was than expected. Pure functions; fp64 scores, so that equal ones stay equal.

Time runs over columns; `mask` is True on action tokens. What stands at other positions has no influence.
"""

import torch
from torch import Tensor

from learner.functional.aggregate import whiten
from learner.functional.checks import same_shape


def place_score(score: Tensor, mask: Tensor) -> Tensor:
    """A score as a reward per token: all of it at the last action token. [B], [B, T] -> [B, T]

    A row without an action token gets no reward.
    """
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(last, score[:, None], 0.0)


def gae(
    reward_t: Tensor, value_t: Tensor, mask: Tensor, value_final: Tensor, gamma: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (1506.02438) over action tokens.

        δ_t = r_t + γ V_{t+1} − V_t        A_t = δ_t + γλ A_{t+1}        R_t = A_t + V_t

    t + 1 is the next *action* token: masked positions carry V and A unchanged and cost no decay.
    `value_final` [B] is the value after the last action: 0 where the episode ended.

    Returns:
        Advantage and return, both [B, T], 0 where masked.
    """
    same_shape(2, reward_t=reward_t, value_t=value_t, mask=mask)
    same_shape(1, value_final=value_final, rows=mask[:, 0])
    value_tp1, advantage_tp1 = value_final, torch.zeros_like(value_final)
    columns = []
    for t in reversed(range(mask.shape[1])):
        delta_t = reward_t[:, t] + gamma * value_tp1 - value_t[:, t]
        advantage_t = delta_t + gamma * lambda_ * advantage_tp1
        columns.append(torch.where(mask[:, t], advantage_t, 0.0))
        advantage_tp1 = torch.where(mask[:, t], advantage_t, advantage_tp1)
        value_tp1 = torch.where(mask[:, t], value_t[:, t], value_tp1)
    advantage = torch.stack(columns[::-1], dim=1)
    return advantage, torch.where(mask, advantage + value_t, 0.0)


def discounted_return(reward_t: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """R_t = r_t + γ R_{t+1} over action tokens. [B, T] -> [B, T]"""
    zero = torch.zeros_like(reward_t)
    return gae(reward_t, zero, mask, zero[:, 0], gamma, 1.0)[0]


def group_sizes(group: Tensor) -> Tensor:
    """How many rows share the row's group. [B] -> [B]"""
    return torch.bincount(group)[group]


def is_constant_group(score: Tensor, group: Tensor) -> Tensor:
    """True where all scores of the row's group are equal; a group of one is constant too. [B] -> [B]"""
    same_shape(1, score=score, group=group)
    num_groups = int(group.max()) + 1 if len(group) else 0
    lowest = score.new_full((num_groups,), torch.inf).scatter_reduce(0, group, score, "amin")
    highest = score.new_full((num_groups,), -torch.inf).scatter_reduce(0, group, score, "amax")
    return (lowest == highest)[group]


def centred_in_group(score: Tensor, group: Tensor) -> Tensor:
    """r − mean of the row's group; exactly 0 in a constant group. [B] -> [B]  (Dr.GRPO, 2503.20783)"""
    is_constant = is_constant_group(score, group)
    sums = torch.zeros(int(group.max()) + 1, dtype=score.dtype, device=score.device)
    mean = sums.index_add(0, group, score)[group] / group_sizes(group)
    return torch.where(is_constant, 0.0, score - mean)


def grpo(score: Tensor, group: Tensor, epsilon: float = 1e-6) -> Tensor:
    """(r − mean) / (std + ε) within the group, std with Bessel's correction; exactly 0 in a constant group.
    [B] -> [B]  (GRPO, 2402.03300)
    """
    centred = centred_in_group(score, group)
    sums = torch.zeros(int(group.max()) + 1, dtype=score.dtype, device=score.device)
    squares = sums.index_add(0, group, centred**2)[group]
    return centred / ((squares / (group_sizes(group) - 1).clamp(min=1)).sqrt() + epsilon)


def rloo(score: Tensor, group: Tensor) -> Tensor:
    """r − mean of the others in the group; exactly 0 in a constant group. [B] -> [B]  (RLOO, 2402.14740)"""
    size = group_sizes(group)
    return centred_in_group(score, group) * size / (size - 1).clamp(min=1)


def reinforce_pp(reward_t: Tensor, mask: Tensor, gamma: float) -> Tensor:
    """The discounted return, whitened over the batch. [B, T] -> [B, T]  (REINFORCE++, 2501.03262)"""
    return whiten(discounted_return(reward_t, mask, gamma), mask)


def per_token(advantage: Tensor, mask: Tensor) -> Tensor:
    """The same advantage for every action token of a row. [B], [B, T] -> [B, T]"""
    same_shape(1, advantage=advantage, rows=mask[:, 0])
    return torch.where(mask, advantage[:, None], 0.0)
