"""Several repeats of several judges as arrays, one row per sample. Used by the ensemble; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reward_service.fusion.arrays import Floats, Ints
from reward_service.fusion.robust import MIN_PRESENT, row_median, usual_deviation

Readings = Sequence[Sequence[Sequence[float]]]
"""readings[sample][judge]: the repeats that succeeded, none where the judge failed."""


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """What m judges said of n samples; NaN where a judge said nothing. All [n, m]."""

    mean: Floats
    """x_ij, over the repeats."""
    num: Floats
    """k_ij; 0 where nothing was said."""
    within: Floats
    """s_ij², unbiased; NaN below two repeats."""
    gap: Floats
    """|first − second repeat|; NaN below two."""

    def stacked(self) -> Floats:
        """[n, 4, m], as a window keeps them."""
        return np.stack([self.mean, self.num, self.within, self.gap], axis=1)


def unstacked(rows: Floats) -> Judgements:
    """[n, 4, m] -> what `stacked` was made from."""
    return Judgements(mean=rows[:, 0], num=rows[:, 1], within=rows[:, 2], gap=rows[:, 3])


def as_array(readings: Readings, num_judges: int) -> Floats:
    """Readings as one array, NaN where there are fewer repeats than elsewhere. -> [n, m, k]"""
    num_repeats = max((len(values) for row in readings for values in row), default=0) or 1
    padding = [(float("nan"),) * missing for missing in range(num_repeats + 1)]
    padded = [(*values, *padding[num_repeats - len(values)]) for row in readings for values in row]
    return np.array(padded, dtype=np.float64).reshape(len(readings), num_judges, num_repeats)


def repeat_scale(gap: Floats, min_samples: int) -> Floats:
    """A judge's σ from |x_1 − x_2|, little moved by wild judgements: robust scale / √2. [n, m] -> [m]

    Infinite, so that nothing is far, below `min_samples`.
    """
    return usual_deviation(gap, min_samples) / np.sqrt(2.0)


def without_wild_repeats(values: Floats, scale: Floats, threshold: float) -> tuple[Floats, Ints]:
    """Repeats further than threshold · scale_i from the median of at least three become NaN. [n, m, k], [m]

    Returns:
        The values that stay, and how many of a judge's repeats of a sample did not. [n, m, k], [n, m]
    """
    enough = (~np.isnan(values)).sum(axis=2, keepdims=True) >= MIN_PRESENT
    with np.errstate(invalid="ignore"):
        is_wild = np.abs(values - row_median(values)[..., None]) > threshold * scale[:, None]
    is_wild &= enough
    return np.where(is_wild, np.nan, values), is_wild.sum(axis=2)


def summarised(values: Floats, gap: Floats) -> Judgements:
    """Mean, number and variance of the repeats of each judge, beside the gaps. [n, m, k], [n, m]"""
    num = (~np.isnan(values)).sum(axis=2).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=2) / num
        within = np.nansum((values - mean[..., None]) ** 2, axis=2) / (num - 1.0)
    return Judgements(mean=mean, num=num, within=np.where(num >= 2, within, np.nan), gap=gap)


def gaps(values: Floats) -> Floats:
    """|first − second repeat|; NaN below two. [n, m, k] -> [n, m]"""
    if values.shape[2] < 2:
        return np.full(values.shape[:2], np.nan)
    return np.abs(values[:, :, 0] - values[:, :, 1])
