"""Where the numbers of an update go: metrics.jsonl, TensorBoard, Prometheus. One name everywhere.

`policy/kl` in metrics.jsonl and TensorBoard is `antiphon_policy_kl` in Prometheus. Counters end in `_total`.
"""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from pydantic import Field
from torch.utils.tensorboard import SummaryWriter

from antiphon.errors import UserError
from antiphon.settings import Settings
from cluster.run_dir import write_atomically


class MetricsConfig(Settings):
    """Which sinks a run writes to."""

    tensorboard: bool = True
    """Write event files under tensorboard/ in the run directory."""
    prometheus_port: int | None = Field(0, ge=0, le=65535)
    """Serve /metrics on this port of the loopback interface; 0 takes any free port, null serves nothing."""
    prometheus_host: str = "127.0.0.1"
    """The interface to serve on; 0.0.0.0 for a scraper on another machine (there is no authentication)."""


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

    def __init__(self, host: str, port: int) -> None:
        """
        Raises:
            UserError: the port cannot be opened.
        """
        self._values: dict[str, float] = {}
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise UserError(
                f"metrics.prometheus_port {port} of {host} cannot be opened: {error.strerror}",
                remedy="set another port, 0 for any free one, or null for none",
            ) from None
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def collect(self) -> Iterator[Metric]:
        """What a scrape sees; called by prometheus-client."""
        for name, value in list(self._values.items()):
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(prometheus_name(name), name, value=value)

    def write(self, version: int, values: Mapping[str, float]) -> None:
        self._values |= {**values, "policy/version": version, "policy/update_time_seconds": time.time()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def prometheus_name(name: str) -> str:
    """The Prometheus name of a metric: `policy/kl` -> `antiphon_policy_kl`."""
    return "antiphon_" + re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_")


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
        UserError: the port cannot be opened.
    """
    if config.prometheus_port is None:
        return None
    return Prometheus(config.prometheus_host, config.prometheus_port)


def write_all(sinks: Sequence[Sink], version: int, values: Mapping[str, float]) -> None:
    for sink in sinks:
        sink.write(version, values)


def _forget_after(path: Path, version: int) -> None:
    """Keep the lines up to `version`; also drops a last line that was cut short."""
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    write_atomically(path, "".join(line for line in whole if json.loads(line)["version"] <= version))
