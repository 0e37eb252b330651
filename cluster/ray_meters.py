"""Sends what a process counts of itself to the metrics endpoint of its node, through Ray.

Ray runs one endpoint per node and takes in the numbers of every worker process there: no ports to open, no
list of processes to keep. It puts `ray_` before each name; who scrapes takes it away (monitoring/files.py).

Ray reports a gauge only when it was set since the last report, and the endpoint forgets it two reports later
(20 s): the version that an actor holds would vanish in the middle of a long update. So a thread sets gauges
again and again while the process lives; those of a process that died are forgotten.
"""

import threading
import time
from typing import Any

from ray.util.metrics import Counter, Gauge

from cluster.metrics import prometheus_name

TAG = "run"
"""The nodes of a cluster may work for several runs."""
REPEAT_S = 1.0
"""Between two settings of a gauge. Ray reports every 10 s unless told otherwise, never more often than so."""


class RayMeters:
    """Meters of one process (antiphon.meters). Travels to it as the name of the run alone."""

    def __init__(self, run: str) -> None:
        self._tags = {TAG: run}
        self._made: dict[str, Any] = {}
        self._held: dict[str, float] = {}
        """The newest value of each gauge."""

    def add(self, name: str, amount: float) -> None:
        self._metric(Counter, name).inc(amount, self._tags)

    def set(self, name: str, value: float) -> None:
        is_first = not self._held
        self._metric(Gauge, name).set(value, self._tags)
        self._held[name] = value
        if is_first:
            threading.Thread(target=self._repeat, name="gauges", daemon=True).start()

    def _repeat(self) -> None:
        while True:
            time.sleep(REPEAT_S)
            for name, value in list(self._held.items()):
                self._made[name].set(value, self._tags)

    def _metric(self, kind: type, name: str) -> Any:
        if name not in self._made:
            self._made[name] = kind(prometheus_name(name), "see docs/monitoring.md", (TAG,))
        return self._made[name]
