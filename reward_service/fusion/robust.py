"""Judgements that have nothing to do with the others, found by median absolute deviation.

Pure functions; NaN means that nothing was said. Used by the noise model and by the ensemble.

A deviation is measured against what is usual for the *same judge* over many samples, not against the spread
of the three or four judgements of one sample: of three numbers, two are near each other by chance often
enough.
"""

import numpy as np

from reward_service.fusion.arrays import Bools, Floats, want_rank

MAD_TO_SIGMA = 1.4826
"""1 / Φ⁻¹(3/4): the median absolute deviation of normal noise, as its standard deviation."""
MEAN_TO_SIGMA = 1.2533
"""√(π/2): the same for the mean absolute deviation."""
MIN_PRESENT = 3
"""Of two judgements that differ nobody can say which is wrong."""


def robust_scale(deviation: Floats) -> float:
    """The usual size of a deviation around 0: 1.4826 · median |d|. [n] -> number

    Where more than half are 0, as with judges who answer in whole numbers, 1.2533 · mean |d| (Iglewicz and
    Hoaglin 1993). 0 where nothing was said.
    """
    want_rank(1, deviation=deviation)
    size = np.abs(deviation[~np.isnan(deviation)])
    if not len(size):
        return 0.0
    return float(MAD_TO_SIGMA * np.median(size) or MEAN_TO_SIGMA * size.mean())


def deviation_from_others(values: Floats) -> Floats:
    """x_ij minus the median of the row without it; NaN where fewer than three judged. [n, m] -> [n, m]"""
    want_rank(2, values=values)
    others = np.repeat(values[:, None, :], values.shape[1], axis=1)
    others[:, np.arange(values.shape[1]), np.arange(values.shape[1])] = np.nan
    return np.where(_has_enough(values), values - row_median(others), np.nan)


def usual_deviation(deviation: Floats, min_samples: int) -> Floats:
    """The robust scale of each judge; infinite, so that nothing is far, below `min_samples`. [n, m] -> [m]"""
    want_rank(2, deviation=deviation)
    num = (~np.isnan(deviation)).sum(axis=0)
    scale = np.array([robust_scale(column) for column in deviation.T])
    return np.where(num >= min_samples, scale, np.inf)


def is_outlier(values: Floats, scale: Floats, threshold: float) -> Bools:
    """|x_ij − median_j| > threshold · scale_i, where at least three judged. [n, m], [m] -> [n, m]

    An infinite threshold finds none.
    Where that would be more than half of a row, there is no common opinion to lie outside of: none is.
    """
    want_rank(2, values=values)
    want_rank(1, scale=scale, columns=values.sum(axis=0))
    with np.errstate(invalid="ignore"):
        is_far = np.abs(values - row_median(values)[:, None]) > threshold * scale
    is_far &= _has_enough(values)
    is_minority = 2 * is_far.sum(axis=1) <= (~np.isnan(values)).sum(axis=1)
    return np.asarray(is_far & is_minority[:, None])


def row_median(values: Floats) -> Floats:
    """The median over the last axis of what is not NaN; NaN where nothing was said. [..., m] -> [...]"""
    num = (~np.isnan(values)).sum(axis=-1)
    ordered = np.sort(values, axis=-1)  # NaN goes to the end.
    low, high = np.maximum(num - 1, 0) // 2, num // 2
    high = np.minimum(high, values.shape[-1] - 1)
    middle = [np.take_along_axis(ordered, i[..., None], axis=-1)[..., 0] for i in (low, high)]
    return np.asarray((middle[0] + middle[1]) / 2.0)


def _has_enough(values: Floats) -> Bools:
    return np.asarray((~np.isnan(values)).sum(axis=1, keepdims=True) >= MIN_PRESENT)
