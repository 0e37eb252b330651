"""Who watches a run: the sinks of its metrics, its file of events, and the person at the terminal.

An attempt (train.py) makes one and gives the loop its hooks. Sinks are written to under the attempt's lease.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from antiphon.lease import Lease
from antiphon.privacy import Masker
from cluster.evaluation import Measurement
from cluster.hooks import Hooks
from cluster.metrics import Sink, write_all
from cluster.progress import Progress


class Watchers:
    """Tells all of them of the same thing, each in its way."""

    def __init__(
        self,
        *,
        sinks: Sequence[Sink],
        progress: Progress,
        write_event: Callable[..., None],
        masker: Masker,
        lease: Lease,
        reward_metrics: Callable[[], Mapping[str, float]],
    ) -> None:
        """
        Args:
            write_event: takes the kind of an event and its facts, and masks what it writes.
            reward_metrics: of the rewards, which are no business of the loop; asked with every update.
        """
        self._sinks = sinks
        self._progress = progress
        self._write_event = write_event
        self._masker = masker
        self._lease = lease
        self._reward_metrics = reward_metrics

    @property
    def hooks(self) -> Hooks:
        return Hooks(on_update=self.on_update, on_measurement=self.on_measurement, on_event=self.on_event)

    def on_update(self, version: int, values: Mapping[str, float]) -> None:
        with self._lease.writing():
            write_all(self._sinks, version, {**values, **self._reward_metrics()})
        self._progress.update(version, values)

    def on_measurement(self, version: int, measurement: Measurement) -> None:
        failed = {"eval/failed": float(measurement.num_failed)} if measurement.num_failed else {}
        with self._lease.writing():
            write_all(self._sinks, version, {f"eval/{measurement.metric}": measurement.value, **failed})
        self._progress.measurement(version, measurement)

    def on_event(self, kind: str, **facts: Any) -> None:
        self._write_event(kind, **facts)
        self._progress.event(kind, self._masker.tree(facts))
