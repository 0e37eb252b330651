"""Where the numbers of an update go: metrics.jsonl, TensorBoard, Prometheus. One name everywhere.

`policy/kl` in metrics.jsonl and TensorBoard is `antiphon_policy_kl` in Prometheus. Counters end in `_total`.
Where a name of ours holds a reason, a status, a component or a phase, that is a label in Prometheus: rules
can sum over it. Files take the numbers of an update; the endpoint also asks what is true at the moment.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from pydantic import Field
from torch.utils.tensorboard import SummaryWriter

from antiphon.errors import UserError
from antiphon.settings import Settings
from cluster.metrics_door import guarded, token_for
from cluster.run_dir import write_atomically

LABELLED = (
    (re.compile(r"rollout/dropped_(?P<reason>.+)_total"), "rollout/dropped_total"),
    (re.compile(r"reward/failed_(?P<status>[a-z_]+)_total"), "reward/failed_total"),
    (re.compile(r"rewards/(?P<component>[^/]+)/(?P<what>.+)"), "rewards/{what}"),
    (re.compile(r"run/(?P<phase>[a-z_]+)_seconds_total"), "run/seconds_total"),
)
"""Names with a part that is a label in Prometheus, and what is left of them."""
AT_THE_START = {"num_skipped": 0.0, "watch/alarms_total": 0.0}
"""What a rule looks for a rise in must be there before it rises: the first number of a series is no rise."""


class MetricsConfig(Settings):
    """Which sinks a run writes to."""

    tensorboard: bool = True
    """Write event files under tensorboard/ in the run directory."""
    prometheus_port: int | None = Field(0, ge=0, le=65535)
    """Serve /metrics on this port of the loopback interface; 0 takes any free port, null serves nothing."""
    prometheus_host: str = "127.0.0.1"
    """The interface to serve on; 0.0.0.0 for a scraper on another machine, which then needs a token."""
    token_env: str = "ANTIPHON_METRICS_TOKEN"
    """The environment variable that holds the bearer token of scrapers; where it is set, all must show it."""
    is_open: bool = False
    """Serve without a token at an address that others reach: where a firewall or a NetworkPolicy decides."""


class Sink(Protocol):
    """A place that takes the numbers of one update."""

    def write(self, version: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object per update. A value that is not finite is written as null, which JSON can hold."""

    def __init__(self, path: Path, resumed_at: int | None = None) -> None:
        if resumed_at is not None and path.exists():
            _forget_after(path, resumed_at)
        self._file = path.open("a", buffering=1)

    def write(self, version: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"version": version, "time": time.time(), **finite}) + "\n")

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars for TensorBoard."""

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        # TensorBoard then hides what an earlier attempt wrote for the versions that are made again.
        self._writer = SummaryWriter(str(folder), purge_step=None if resumed_at is None else resumed_at + 1)

    def write(self, version: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, version)

    def close(self) -> None:
        self._writer.close()


class Prometheus:
    """The newest values on an HTTP endpoint: counters for names in `_total`, gauges for the others."""

    def __init__(self, host: str, port: int, token: str | None = None) -> None:
        """`token` None lets everybody in who reaches the port.

        Raises:
            UserError: the port cannot be opened.
        """
        self._values: dict[str, float] = {}
        self._look: Callable[[], Mapping[str, float]] = dict
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise UserError(
                f"metrics.prometheus_port {port} of {host} cannot be opened: {error.strerror}",
                remedy="set another port, 0 for any free one, or null for none",
            ) from None
        self._server.set_app(guarded(make_wsgi_app(registry), token))
        self.host, self.port = host, self._server.server_port
        self.url = f"http://{host}:{self.port}/metrics"

    def collect(self) -> Iterator[Metric]:
        """What a scrape sees; called by prometheus-client, in a thread of its own."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, value in {**self._values, **self._look()}.items():
            stored, labels = series(name)
            kind = CounterMetricFamily if stored.endswith("_total") else GaugeMetricFamily
            text = f"{name}, see docs/algorithms.md and docs/monitoring.md."
            family = families.setdefault(stored, kind(stored, text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        yield from families.values()

    def begin(self, version: int, is_fresh: bool) -> None:
        """Say where the run is before its first update; one that goes on has counts of its own."""
        self.write(version, AT_THE_START if is_fresh else {})

    def watch(self, look: Callable[[], Mapping[str, float]]) -> None:
        """Ask `look` at every scrape, from the thread of the scrape, for what is true at the moment."""
        self._look = look

    def write(self, version: int, values: Mapping[str, float]) -> None:
        self._values |= {**values, "policy/version": version, "policy/update_time_seconds": time.time()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def prometheus_name(name: str) -> str:
    """The Prometheus name of a metric: `policy/kl` -> `antiphon_policy_kl`."""
    return "antiphon_" + re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_")


def series(name: str) -> tuple[str, dict[str, str]]:
    """Under which name and labels Prometheus stores a metric of ours.

    >>> series("rollout/dropped_stale_total")
    ('antiphon_rollout_dropped_total', {'reason': 'stale'})
    """
    for pattern, left in LABELLED:
        if found := pattern.fullmatch(name):
            parts = found.groupdict()
            labels = {key: value for key, value in parts.items() if key != "what"}
            return prometheus_name(left.format(**parts)), labels
    return prometheus_name(name), {}


def open_sinks(
    config: MetricsConfig, metrics_path: Path, tensorboard_folder: Path, resumed_at: int | None = None
) -> list[Sink]:
    """The sinks of a run that are files, metrics.jsonl always among them.

    `resumed_at` is the version of the checkpoint that a run goes on from: what is known of later versions is
    forgotten, because they are made again.
    """
    sinks: list[Sink] = [JsonLines(metrics_path, resumed_at)]
    if config.tensorboard:
        sinks.append(TensorBoard(tensorboard_folder, resumed_at))
    return sinks


def open_prometheus(config: MetricsConfig) -> Prometheus | None:
    """The endpoint of a run, where one is asked for; opened before anything else is.

    Raises:
        UserError: the port cannot be opened, or would be open to others.
    """
    if config.prometheus_port is None:
        return None
    token = token_for(config.prometheus_host, config.token_env, config.is_open)
    return Prometheus(config.prometheus_host, config.prometheus_port, token)


def write_all(sinks: Sequence[Sink], version: int, values: Mapping[str, float]) -> None:
    for sink in sinks:
        sink.write(version, values)


def _forget_after(path: Path, version: int) -> None:
    """Keep the lines up to `version`; also drops a last line that was cut short."""
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    write_atomically(path, "".join(line for line in whole if json.loads(line)["version"] <= version))
