"""How noisy each judge is, and the best of several noisy judgements. Pure functions.

    x_ij = q_j + u_ij + ε̄_ij        ε̄_ij ~ N(0, σ_i² / k_ij)        u_ij ~ N(0, ω_i²)

Judge i says x_ij, the mean of k_ij repeats, of sample j whose quality is q_j. σ_i is what repeats show; ω_i
is what the judge gets wrong every time, and only the disagreement with other judges shows it.
"""

import numpy as np

from reward_service.fusion.arrays import SMALLEST, Bools, Floats, want_rank


def repeat_variance(within: Floats, num: Floats) -> Floats:
    """σ_i² from repeats: Σ_j (k_ij − 1) s_ij² / Σ_j (k_ij − 1). [n, m], [n, m] -> [m]

    Args:
        within: s_ij², the unbiased variance of the repeats of one sample; NaN where there are not two.
        num: k_ij.

    Returns:
        NaN for a judge without repeats.
    """
    want_rank(2, within=within, num=num)
    freedom = np.where(np.isnan(within), 0.0, num - 1.0)
    with np.errstate(invalid="ignore"):
        return np.asarray((freedom * np.nan_to_num(within)).sum(axis=0) / freedom.sum(axis=0))


def disagreement(values: Floats) -> tuple[Floats, Floats]:
    """D_ij: the variance of the difference of two judges, over samples that both judged. [n, m] -> [m, m] x 2

    Constant differences do not count: a judge who always says 0.2 more is biased, not noisy.

    Returns:
        D (NaN below two common samples) and the number of common samples.
    """
    want_rank(2, values=values)
    difference = values[:, :, None] - values[:, None, :]
    is_common = ~np.isnan(difference)
    num = is_common.sum(axis=0).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(difference, axis=0) / num
        variance = np.nansum((difference - mean) ** 2, axis=0) / (num - 1.0)
    return np.where(num >= 2, variance, np.nan), num


def split_disagreement(pairwise: Floats, num: Floats, low: Floats, is_fixed: Bools) -> Floats:
    """Noise variances v_i ≥ low_i for which v_i + v_j comes nearest to D_ij. [m, m], [m, m], [m], [m] -> [m]

        minimise Σ_{i<j} n_ij / D_ij² · (D_ij − v_i − v_j)²

    With three judges and positive solutions this is the three-cornered hat, v_1 = (D_12 + D_13 − D_23) / 2
    (Grubbs 1948; Gray and Allan 1974). With two, the excess over `low` is split equally: nothing says whose
    it is. The weights are one over the variance of D_ij as estimated from n_ij samples.

    Args:
        pairwise: D; NaN where two judges have too few samples in common.
        low: what repeats show already.
        is_fixed: judges whose v_i is known to be low_i.
    """
    want_rank(2, pairwise=pairwise, num=num)
    want_rank(1, low=low, is_fixed=is_fixed)
    first, second = np.triu_indices(len(low), k=1)
    keep = ~np.isnan(pairwise[first, second])
    first, second = first[keep], second[keep]
    if not len(first):
        return low.copy()
    seen = pairwise[first, second]
    weight = np.sqrt(num[first, second]) / np.maximum(seen, max(1e-6 * float(seen.max()), SMALLEST))
    design = np.zeros((len(first), len(low)))
    design[np.arange(len(first)), first] = weight
    design[np.arange(len(first)), second] = weight
    return low + _non_negative(design, weight * (seen - low[first] - low[second]), ~is_fixed)


def _non_negative(design: Floats, wanted: Floats, is_free: Bools) -> Floats:
    """The least-squares solution ≥ 0: the most negative unknown is put to 0 until none is. [p, m], [p] -> [m]

    Of several solutions, the shortest.
    """
    is_free = is_free.copy()
    solution = np.zeros(design.shape[1])
    while is_free.any():
        solution[:] = 0.0
        solution[is_free] = np.linalg.lstsq(design[:, is_free], wanted, rcond=None)[0]
        worst = int(solution.argmin())
        if solution[worst] >= 0.0:
            return solution
        is_free[worst] = False
    return np.zeros_like(solution)


def inverse_variance(values: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
    """q̂_j = Σ_i x_ij / v_ij ÷ Σ_i 1 / v_ij, whose variance is 1 / Σ_i 1 / v_ij. [n, m], [n, m]

    Returns:
        Fused values [n], their variances [n], and the share of each judge in them [n, m] (0 where it said
        nothing). A row in which nobody said anything is NaN.
    """
    want_rank(2, values=values, variance=variance)
    precision = np.where(np.isnan(values), 0.0, 1.0 / np.maximum(variance, SMALLEST))
    total = precision.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = precision / total[:, None]
        fused = (share * np.nan_to_num(values)).sum(axis=1)
        return fused, np.where(total > 0.0, 1.0 / total, np.nan), np.nan_to_num(share)
