"""Judges who use their scale differently, brought onto one. Pure functions.

    x'_ij = f_i x_ij + b_i

Fits two unknowns per judge from a window of judgements, without labels: afterwards all judges have the
centre, and if wanted the spread, of the median judge. Where there are trusted labels, calibrate.py is better.
"""

from itertools import combinations
from typing import Literal

import numpy as np

from reward_service.fusion.arrays import Floats, want_rank

Align = Literal["none", "bias", "scale"]
"""none    judges use one scale and are not harsher than one another
bias    some are harsher: means are made equal
scale   and some use less of the scale: spreads of what they see in common are made equal"""
MIN_SIGNAL = 0.1
"""A judge's signal is at least this share of its variance; less would be blown up noise."""


def alignment(values: Floats, noise: Floats, align: Align) -> tuple[Floats, Floats]:
    """f_i and b_i that give every judge the centre (and signal) of the median judge. [n, m], [m] -> [m], [m]

        f_i = median_l(s_l) / s_i        b_i = median_l(mean_l) − f_i mean_i

    s_i is the standard deviation of the judge's signal (see `signal_variance`), and f_i = 1 unless `scale`.

    Args:
        noise: variance of a judge's own noise where it is known from repeats; 0 else.
    """
    want_rank(2, values=values)
    num_judges = values.shape[1]
    factor = np.ones(num_judges)
    if align == "none" or np.isnan(values).all():
        return factor, np.zeros(num_judges)
    num = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.nansum(values, axis=0) / num
    if align == "scale":
        signal = np.sqrt(signal_variance(covariance(values), noise))
        varies = signal > 0.0
        factor[varies] = np.median(signal[varies]) / signal[varies] if varies.any() else 1.0
    return factor, np.nan_to_num(np.nanmedian(mean) - factor * mean)


def covariance(values: Floats) -> Floats:
    """Covariances of the judges over the samples that both judged; 0 below two. [n, m] -> [m, m]"""
    want_rank(2, values=values)
    is_common = ~np.isnan(values[:, :, None] + values[:, None, :])
    num = is_common.sum(axis=0)
    pair = np.where(is_common, values[:, :, None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(is_common, pair - pair.sum(axis=0) / num, 0.0)
        product = (centred * centred.transpose(0, 2, 1)).sum(axis=0) / (num - 1)
    return np.where(num >= 2, product, 0.0)


def signal_variance(covariances: Floats, noise: Floats) -> Floats:
    """The variance of what a judge has in common with the others: all without its noise. [m, m], [m] -> [m]

        three or more judges:  median over pairs (j, k) of  C_ij C_ik / C_jk     (one factor; Spearman 1904)
        fewer:                 C_ii − noise_i

    kept within [0.1 C_ii, C_ii − noise_i].
    """
    want_rank(2, covariances=covariances)
    want_rank(1, noise=noise, columns=covariances[0])
    total = np.diag(covariances)
    high = np.maximum(total - noise, MIN_SIGNAL * total)
    triads = np.array([_triad(covariances, i) for i in range(len(total))])
    found = np.where(np.isnan(triads), high, triads)
    return np.clip(found, MIN_SIGNAL * total, high)


def _triad(covariances: Floats, judge: int) -> float:
    """The median of C_ij C_ik / C_jk for judge i over all pairs of others; NaN where there is no pair."""
    others = [j for j in range(len(covariances)) if j != judge]
    c = covariances
    pairs = [(j, k) for j, k in combinations(others, 2) if c[j, k] != 0.0]
    found = [c[judge, j] * c[judge, k] / c[j, k] for j, k in pairs]
    return float(np.median(found)) if found else float("nan")
