"""How far a noisy score is to be believed: shrinkage towards the mean of its prompt. Pure functions.

    q̃_j = m_g + B_j (q̂_j − m_g)        B_j = τ_g² / (τ_g² + s_j²)

s_j² is the variance of the noise in q̂_j, τ_g² the variance of true quality among the completions of prompt
g. With normal noise and quality this is the posterior mean (Efron and Morris 1973).
"""

import numpy as np

from reward_service.fusion.arrays import SMALLEST, Floats, Ints, num_groups, sum_by_group, want_rank


def between_excess(fused: Floats, variance: Floats, group: Ints) -> tuple[Floats, Floats]:
    """What a group varies more than its noise explains, and its degrees of freedom. [n] x 3 -> [groups] x 2

        E_g = Σ_{j in g} (q̂_j − q̄_g)² − (n_g − 1) · mean_j s_j²        has expectation (n_g − 1) τ_g²

    Below 0 where a group happened to vary less. NaN are left out.
    """
    want_rank(1, fused=fused, variance=variance, group=group)
    num = sum_by_group((~np.isnan(fused)).astype(float), group)
    mean = sum_by_group(fused, group) / np.maximum(num, 1.0)
    squares = sum_by_group((fused - mean[group]) ** 2, group)
    noise = sum_by_group(variance, group) / np.maximum(num, 1.0)
    freedom = np.maximum(num - 1.0, 0.0)
    return squares - freedom * noise, freedom


def pooled_between(prompts: Floats) -> float:
    """τ² = max(0, Σ E / Σ (n − 1)) over rows of excess and degrees of freedom; 0 without any. [groups, 2]"""
    want_rank(2, prompts=prompts)
    excess, freedom = prompts.sum(axis=0)
    return max(0.0, float(excess / freedom)) if freedom > 0.0 else 0.0


def between_variance(excess: Floats, freedom: Floats, pooled: float, prior_strength: float) -> Floats:
    """τ_g²: the group's own estimate, and that of all groups as more degrees of freedom. [g], [g] -> [g]

        τ_g² = max(0, (E_g + ν τ²) / (n_g − 1 + ν))

    Args:
        pooled: τ² of a window of groups.
        prior_strength: ν; 0 believes the group alone.
    """
    want_rank(1, excess=excess, freedom=freedom)
    own = excess + prior_strength * pooled
    return np.maximum(0.0, own / np.maximum(freedom + prior_strength, SMALLEST))


def shrunk(fused: Floats, variance: Floats, group: Ints, between: Floats) -> tuple[Floats, Floats]:
    """q̃ and B. [n], [n], [n], [groups] -> [n], [n]

    m_g is the mean of the group with weights 1 / (τ_g² + s_j²). A group of one has no mean to shrink towards:
    its B is 1, as it is where there is no noise.
    """
    want_rank(1, fused=fused, variance=variance, group=group)
    if len(between) != num_groups(group):
        raise ValueError(f"want one τ² for each of {num_groups(group)} groups, got {len(between)}")
    is_said = ~np.isnan(fused)
    spread = between[group] + variance
    weight = np.where(is_said, 1.0 / np.maximum(spread, SMALLEST), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = sum_by_group(weight * fused, group) / sum_by_group(weight, group)
        factor = np.where(spread > 0.0, between[group] / spread, 1.0)
    factor = np.where((sum_by_group(is_said.astype(float), group) < 2)[group], 1.0, factor)
    return centre[group] + factor * (fused - centre[group]), factor
