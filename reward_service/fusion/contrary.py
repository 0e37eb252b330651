"""Judges who say the opposite of the others. Pure functions, used by the noise model.

Such a judge is no noise around the quality: its error grows with the quality, so that weighing it down is not
enough.
"""

import numpy as np

from reward_service.fusion.align import covariance
from reward_service.fusion.arrays import Bools, Floats, want_rank

CERTAINTY = 3.0
"""Standard errors below 0 that a correlation must lie: chance alone makes nobody contrary."""
MIN_JUDGES = 3
"""Of two who say the opposite nobody can tell which one is contrary."""


def is_contrary(values: Floats, min_samples: int) -> Bools:
    """Whether judge i disagrees with the others on what is better. [n, m] -> [m]

        r_i = mean_j ρ_ij < −3 / √n_i

    ρ_ij is the correlation over the samples that both judged, n_i the mean number of them. The most contrary
    judge is taken out first, and the rest are looked at again while there are three: next to a contrary judge
    the others look contrary too.
    """
    want_rank(2, values=values)
    rho, num = correlation(values, min_samples)
    left = list(range(values.shape[1]))
    while len(left) >= MIN_JUDGES:
        others = len(left) - 1
        agreement = rho[np.ix_(left, left)].sum(axis=1) / others
        usual_num = num[np.ix_(left, left)].sum(axis=1) / others
        excess = agreement + CERTAINTY / np.sqrt(np.maximum(usual_num, 1.0))
        worst = int(excess.argmin())
        if excess[worst] >= 0.0:
            break
        del left[worst]
    contrary = np.ones(values.shape[1], dtype=np.bool_)
    contrary[left] = False
    return contrary


def correlation(values: Floats, min_samples: int) -> tuple[Floats, Floats]:
    """ρ_ij and the number of samples that both judged. [n, m] -> [m, m], [m, m]

    Both are 0 on the diagonal and below `min_samples`, and ρ_ij where a judge always says the same.
    """
    want_rank(2, values=values)
    is_said = (~np.isnan(values)).astype(float)
    num = is_said.T @ is_said
    num = np.where((num >= min_samples) & ~np.eye(len(num), dtype=bool), num, 0.0)
    c = covariance(values)
    scale = np.sqrt(np.outer(np.diag(c), np.diag(c)))
    rho = np.divide(c, scale, out=np.zeros_like(c), where=(scale > 0.0) & (num > 0.0))
    return rho, num
