"""What length costs, and what it was worth to the judge so far. Called by the judge components.

Judges like long answers. The correction is declared and fixed, so that a score depends on its sample alone:

    corrected = clip(score − slope · max(0, ln((1 + n) / (1 + pivot))), 0, 1)

with n the length of the completion. `fitted_slope` of past judgements, shown in the stats of a component,
says which slope takes away what length was worth on average.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Unit = Literal["words", "characters"]


def length_of(text: str, unit: Unit) -> int:
    """Words are what white space separates; count characters where a language writes without it."""
    return len(text.split()) if unit == "words" else len(text)


def corrected(score: float, length: float, *, slope: float, pivot: float) -> float:
    """The score less the price of length beyond `pivot`, within [0, 1].

    Raises:
        ValueError: a negative length, pivot or slope.
    """
    if min(length, pivot, slope) < 0:
        raise ValueError(f"length, pivot and slope must be >= 0, got {length}, {pivot}, {slope}")
    excess = max(0.0, math.log1p(length) - math.log1p(pivot))
    return min(1.0, max(0.0, score - slope * excess))


def middle(lengths: Sequence[int]) -> float:
    """exp(mean ln(1 + n)) − 1: the length that is as far from short as from long opponents."""
    return math.expm1(math.fsum(map(math.log1p, lengths)) / len(lengths))


def fitted_slope(lengths: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Least squares of score on x = ln(1 + n): slope = cov(x, s) / var(x), and the correlation of x and s.

    Args:
        lengths, scores: [n] each.

    Returns:
        (slope, correlation); zeros where either does not vary.

    Raises:
        ValueError: other shapes.
    """
    x, s = np.log1p(np.asarray(lengths, dtype=np.float64)), np.asarray(scores, dtype=np.float64)
    if x.ndim != 1 or x.shape != s.shape:
        raise ValueError(f"expected two vectors of one length, got {x.shape} and {s.shape}")
    # Of constant numbers rounding can leave a spread that is not quite nothing.
    if len(x) < 2 or np.ptp(x) == 0.0 or np.ptp(s) == 0.0:
        return 0.0, 0.0
    dx, ds = x - x.mean(), s - s.mean()
    slope = float(dx @ ds / (dx @ dx))
    return slope, slope * float(np.sqrt((dx @ dx) / (ds @ ds)))
