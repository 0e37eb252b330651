"""What the service counts, for Prometheus: what came through this door, and what components met with."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reward_service.types import Score, Status

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "antiphon_reward_"
Stats = Mapping[str, Mapping[str, float]]
"""What a guard and a component count, by component: `cache/num_hits`, `breaker/state`, …"""
GAUGES = ("budget/", "flights/num_in_flight", "cache/num_entries")
"""Of the names that begin with num_, those that may fall."""


class DoorMetrics:
    """Its own registry, so that two doors in one process do not collide."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._components = _ComponentCollector()
        self._registry.register(self._components)
        self._samples = Counter(
            f"{PREFIX}http_samples_total",
            "Samples answered through the HTTP door, by status.",
            ["status"],
            registry=self._registry,
        )
        self._duration = Histogram(
            f"{PREFIX}http_request_duration_seconds",
            "From the arrival of a request at the HTTP door to its scores.",
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

    def exposition(self, stats: Stats) -> bytes:
        """All of it, as text; `stats` are what the components count."""
        self._components.stats = stats
        return generate_latest(self._registry)


class _ComponentCollector(Collector):
    """Turns what components count into metrics."""

    def __init__(self) -> None:
        self.stats: Stats = {}

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for component, values in self.stats.items():
            for name, value in values.items():
                family = families.setdefault(name, _family(name))
                family.add_metric([component], value)
        return families.values()


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    """`cache/num_hits` becomes the counter `antiphon_reward_cache_hits_total`, `breaker/state` a gauge."""
    part, _, what = name.rpartition("/")
    is_counter = what.endswith("_total") or (what.startswith("num_") and not name.startswith(GAUGES))
    plain = "_".join(
        w for w in (part.replace("/", "_"), what.removeprefix("num_").removesuffix("_total")) if w
    )
    kind = CounterMetricFamily if is_counter else GaugeMetricFamily
    return kind(f"{PREFIX}{plain}", f"{name} of a component, see docs/rewards.md.", labels=["component"])
