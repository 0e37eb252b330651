"""Sends what a process counts of itself to the metrics endpoint of its node, through Ray.

Ray runs one endpoint per node and takes in the numbers of every worker process there: no ports to open, no
list of processes to keep. It puts `ray_` before each name; who scrapes takes it away (monitoring/files.py).
"""

from typing import Any

from ray.util.metrics import Counter, Gauge

from cluster.metrics import prometheus_name

TAG = "run"
"""The nodes of a cluster may work for several runs."""


class RayMeters:
    """Meters of one process (antiphon.meters). Travels to it as the name of the run alone."""

    def __init__(self, run: str) -> None:
        self._tags = {TAG: run}
        self._made: dict[str, Any] = {}

    def add(self, name: str, amount: float) -> None:
        self._metric(Counter, name).inc(amount, self._tags)

    def set(self, name: str, value: float) -> None:
        self._metric(Gauge, name).set(value, self._tags)

    def _metric(self, kind: type, name: str) -> Any:
        if name not in self._made:
            self._made[name] = kind(prometheus_name(name), "see docs/monitoring.md", (TAG,))
        return self._made[name]
