"""Counts of the scores that a guard gave."""

from collections import Counter

from reward_service.types import Score, Status


class Tally:
    """Scores by status, and the time that the component took for them."""

    def __init__(self) -> None:
        self._by_status: Counter[Status] = Counter()
        self._latency_s = 0.0

    def count(self, scores: list[Score]) -> list[Score]:
        """Counts the scores and hands them through."""
        self._by_status.update(score.status for score in scores)
        self._latency_s += sum(score.latency_s for score in scores)
        return scores

    def stats(self) -> dict[str, float]:
        return {**{f"num_{s.value}": self._by_status[s] for s in Status}, "latency_s": self._latency_s}
