"""What a window of judgements says about its judges: scale, bias, noise. Pure; used by the ensemble."""

from dataclasses import dataclass

import numpy as np

from reward_service.fusion.align import Align, alignment
from reward_service.fusion.arrays import Bools, Floats
from reward_service.fusion.contrary import is_contrary
from reward_service.fusion.judgements import Judgements
from reward_service.fusion.noise import disagreement, repeat_variance, split_disagreement
from reward_service.fusion.robust import deviation_from_others, is_outlier, row_median, usual_deviation

MIN_SHARE = 0.1
"""No judge counts as less noisy than this share of the median judge of the sample: an estimate that came out
as 0 would give it all the weight."""

NUM_ROUNDS = 3
"""Of aligning judges without outliers and finding outliers on the common scale."""


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """What is known of m judges. All [m]."""

    factor: Floats
    shift: Floats
    """x' = factor · x + shift brings a judge onto the common scale. The rest is on that scale."""
    usual_deviation: Floats
    """From the other judges; infinite where nothing is known, so that nothing is an outlier."""
    repeat_variance: Floats
    """σ_i² of one judgement."""
    own_variance: Floats
    """ω_i², which repeats do not reduce."""
    is_known: Bools
    """Whether something was learned of the judge's noise."""
    is_contrary: Bools
    """Whether the judge says the opposite of the others."""

    def aligned(self, values: Floats) -> Floats:
        """[n, m] -> [n, m] on the common scale."""
        return values * self.factor + self.shift

    def variance(self, num: Floats) -> Floats:
        """v_ij = ω_i² + σ_i² / k_ij, at least 0.1 of the row's median. [n, m] -> [n, m]; NaN where k is 0"""
        plain = np.where(num > 0, self.own_variance + self.repeat_variance / np.maximum(num, 1.0), np.nan)
        return np.maximum(plain, MIN_SHARE * row_median(plain)[:, None])


def ignorance(sigma: Floats) -> NoiseModel:
    """What is known before there are enough samples: the given σ, where they are. [m]"""
    return NoiseModel(
        factor=np.ones_like(sigma),
        shift=np.zeros_like(sigma),
        usual_deviation=np.full_like(sigma, np.inf),
        repeat_variance=np.nan_to_num(sigma) ** 2,
        own_variance=np.zeros_like(sigma),
        is_known=~np.isnan(sigma),
        is_contrary=np.zeros(len(sigma), dtype=np.bool_),
    )


def noise_model(
    seen: Judgements, sigma: Floats, align: Align, outlier_threshold: float, min_samples: int
) -> NoiseModel:
    """Scale, bias and noise of judges from what they said.

    Args:
        seen: the window.
        sigma: σ_i where it is given, NaN where it is to be estimated; on the judge's own scale. [m]
        outlier_threshold: infinity leaves nothing out.
        min_samples: a judge of whom there are fewer is not known.
    """
    is_given = ~np.isnan(sigma)
    repeats = np.nan_to_num(np.where(is_given, sigma**2, repeat_variance(seen.within, seen.num)))
    low = repeats * _usual_inverse(seen.num)
    factor, shift = alignment(seen.mean, low, align)
    values, usual = seen.mean * factor + shift, np.full(len(sigma), np.inf)
    is_wild = np.zeros(values.shape, dtype=np.bool_)
    for _ in range(NUM_ROUNDS):  # Wild judgements spoil the alignment, and a spoilt alignment hides them.
        usual = usual_deviation(deviation_from_others(values), min_samples)
        is_wild = is_outlier(values, usual, outlier_threshold)
        factor, shift = alignment(np.where(is_wild, np.nan, seen.mean), low, align)
        values = seen.mean * factor + shift
    pairwise, num = disagreement(np.where(is_wild, np.nan, values))
    pairwise[num < min_samples] = np.nan
    total = split_disagreement(pairwise, num, low * factor**2, is_given)
    return NoiseModel(
        factor=factor,
        shift=shift,
        usual_deviation=usual,
        repeat_variance=repeats * factor**2,
        own_variance=np.maximum(0.0, total - low * factor**2),
        is_known=is_given | _has_repeats(seen, min_samples) | _has_company(pairwise),
        is_contrary=is_contrary(np.where(is_wild, np.nan, values), min_samples),
    )


def _usual_inverse(num: Floats) -> Floats:
    """The mean of 1 / k_ij over the samples that a judge judged; 1 for a judge without any. [n, m] -> [m]"""
    is_judged = num > 0
    inverse = np.where(is_judged, 1.0 / np.maximum(num, 1.0), 0.0).sum(axis=0)
    return np.where(is_judged.any(axis=0), inverse / np.maximum(is_judged.sum(axis=0), 1), 1.0)


def _has_repeats(seen: Judgements, min_samples: int) -> Bools:
    return np.asarray((~np.isnan(seen.within)).sum(axis=0) >= min_samples)


def _has_company(pairwise: Floats) -> Bools:
    """Whether some other judge judged enough of the same samples."""
    others = ~np.isnan(pairwise) & ~np.eye(len(pairwise), dtype=bool)
    return np.asarray(others.any(axis=0))
