"""What the HTTP door counts, for Prometheus. Calls by handle do not pass the door and are not in it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from reward_service.types import Score, Status


class DoorMetrics:
    """Its own registry, so that two doors in one process do not collide."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._samples = Counter(
            "antiphon_reward_http_samples_total",
            "Samples answered, by status.",
            ["status"],
            registry=self._registry,
        )
        self._duration = Histogram(
            "antiphon_reward_http_request_duration_seconds",
            "From the arrival of a request to its scores.",
            registry=self._registry,
        )
        for status in Status:
            self._samples.labels(status.value)

    @contextmanager
    def request(self) -> Iterator[Callable[[Sequence[Score]], Sequence[Score]]]:
        """Times a request; what it yields counts the scores and hands them through."""
        start = time.perf_counter()
        yield self._count
        self._duration.observe(time.perf_counter() - start)

    def _count(self, scores: Sequence[Score]) -> Sequence[Score]:
        for score in scores:
            self._samples.labels(score.status.value).inc()
        return scores

    def exposition(self) -> bytes:
        return generate_latest(self._registry)
