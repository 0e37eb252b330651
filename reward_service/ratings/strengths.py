"""The model of Bradley and Terry (1952): from who beat whom to how good each is. Pure numpy.

P(i beats j) = π_i / (π_i + π_j). Every item also has `prior` wins and `prior` losses against an opponent
of strength 1 that is not there. That keeps the strengths finite where somebody won or lost everything, and
on one scale where not everybody met.
"""

import numpy as np
from numpy.typing import NDArray

PRIOR = 0.5
"""Half a win and half a loss, the weight of one comparison."""
TOLERANCE = 1e-12
MAX_STEPS = 10_000

Array = NDArray[np.float64]


def win_shares(wins: Array, prior: float = PRIOR) -> Array:
    """How probably each item beats the absent opponent of strength 1: π_i / (π_i + 1).

    The strengths maximise the likelihood of the wins and of the prior, by the iteration of Hunter (2004,
    doi:10.1214/aos/1079120141): π_i ← (W_i + prior) / (Σ_j N_ij / (π_i + π_j) + 2 prior / (π_i + 1)),
    W_i = Σ_j wins_ij, N = wins + winsᵀ. It never goes down and has one fixed point.

    Args:
        wins: [n, n]; wins[i, j] is how often i beat j, a tie counts half for both. The diagonal is 0.
        prior: more of it pulls everything towards 0.5.

    Returns:
        [n], in (0, 1); 0.5 for an item without comparisons, more for the better ones.

    Raises:
        ValueError: `wins` is not square, has a negative or infinite entry or somebody who beat himself, or
            the prior is not positive.
    """
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1]:
        raise ValueError(f"wins must have shape [n, n], got {wins.shape}")
    if not np.isfinite(wins).all() or (wins < 0.0).any() or np.diagonal(wins).any():
        raise ValueError("wins must be finite, at least 0, and 0 on the diagonal")
    if not prior > 0.0:
        raise ValueError(f"the prior must be positive, got {prior}")
    won, met = wins.sum(axis=1) + prior, wins + wins.T
    strength = np.ones(len(wins))
    for _ in range(MAX_STEPS):
        per_pair = (met / (strength[:, None] + strength[None, :])).sum(axis=1)
        stronger = won / (per_pair + 2.0 * prior / (strength + 1.0))
        is_settled = np.allclose(stronger, strength, rtol=TOLERANCE, atol=0.0)
        strength = stronger
        if is_settled:
            break
    shares: Array = strength / (strength + 1.0)
    return shares
