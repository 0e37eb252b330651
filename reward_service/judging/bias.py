"""Running counts of a judge's habits: does it favour the first place, or the longer answer?

Filled by the judge components, read by their `stats`. Thread-safe, because several batches may be judged at
once.
"""

import threading
from collections import deque

from reward_service.judging.length import fitted_slope

WINDOW = 4096
"""Judgements that the report on length looks back on."""


class Habits:
    """What all judges are watched for: how they score, and what length is worth to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_judged = 0
        self._judged: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def add(self, length: int, raw: float) -> None:
        """One verdict; `raw` is the score before length is paid for."""
        with self._lock:
            self._num_judged += 1
            self._judged.append((length, raw))

    def report(self) -> dict[str, float]:
        """`length_slope` is what a recipe would set to take the average worth of length away."""
        with self._lock:
            num, judged = self._num_judged, list(self._judged)
        slope, correlation = fitted_slope([n for n, _ in judged], [s for _, s in judged])
        return {
            "judged_total": float(num),
            "raw_mean": sum(s for _, s in judged) / max(1, len(judged)),
            "length_mean": sum(n for n, _ in judged) / max(1, len(judged)),
            "length_slope": slope,
            "length_correlation": correlation,
        }


class PositionBias:
    """What comparing the same two answers in both orders says of the judge."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_pairs = self._num_flips = 0
        self._num_shown = self._num_ties = self._num_first_wins = 0

    def add(self, first_order: float, second_order: float) -> None:
        """The share that went to the answer shown first, in either order; 0.5 is a tie.

        An unbiased judge who finds the same answer better in both orders gives s and 1 − s.
        """
        with self._lock:
            self._num_pairs += 1
            # In both orders the first place, or in both the second: the order decided.
            self._num_flips += (first_order - 0.5) * (second_order - 0.5) > 0.0
            for share in (first_order, second_order):
                self._num_shown += 1
                self._num_ties += share == 0.5
                self._num_first_wins += share > 0.5

    def report(self) -> dict[str, float]:
        """Shares in [0, 1]; an unbiased judge has `first_wins_share` 0.5 and no flips."""
        with self._lock:
            decided = self._num_shown - self._num_ties
            return {
                "pairs_total": float(self._num_pairs),
                "flip_share": self._num_flips / max(1, self._num_pairs),
                "tie_share": self._num_ties / max(1, self._num_shown),
                "first_wins_share": self._num_first_wins / decided if decided else 0.5,
            }
