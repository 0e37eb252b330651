"""The endpoint of an attempt as a sink of its numbers, which also tells Prometheus where the run is.

Made by train.py once the processes of the attempt are up. Nothing here decides what is counted.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster.metrics import Prometheus
from cluster.monitoring.targets import Targets
from cluster.recipe import Recipe
from cluster.run_dir import RunDir

ANY = "0.0.0.0"
Look = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A sink (cluster/metrics.py): hands numbers on, and looks at each update whether nodes came or went."""

    prometheus: Prometheus
    targets: Targets
    find_nodes: Callable[[], Sequence[str]]
    """host:port of the other endpoints of the run."""

    def write(self, version: int, values: Mapping[str, float]) -> None:
        self.prometheus.write(version, values)
        self.targets.write(_reachable(self.prometheus), self.find_nodes())

    def close(self) -> None:
        self.targets.close()
        self.prometheus.close()


def open_sink(
    prometheus: Prometheus, recipe: Recipe, run_dir: RunDir, resumed_at: int | None, look: Look
) -> Endpoint:
    """Say where the run is; from now on a scrape asks `look` for what is true at the moment.

    Args:
        resumed_at: version of the checkpoint that the run goes on from; None for a fresh run.
    """
    endpoint = Endpoint(prometheus, Targets(run_dir.targets, recipe.run.name), _nodes_of(recipe))
    prometheus.begin(resumed_at or 0, is_fresh=resumed_at is None)
    prometheus.watch(look)
    endpoint.write(resumed_at or 0, {})
    return endpoint


def _nodes_of(recipe: Recipe) -> Callable[[], Sequence[str]]:
    """In one process there is no endpoint but the driver's."""
    if recipe.cluster.mode == "inline":
        return tuple
    from cluster.ray_session import scraped_nodes

    return scraped_nodes


def _reachable(prometheus: Prometheus) -> str:
    """host:port for a scraper; a host that stands for all interfaces is named as this machine."""
    host = socket.gethostname() if prometheus.host == ANY else prometheus.host
    return f"{host}:{prometheus.port}"
