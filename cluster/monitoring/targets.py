"""Where a run can be scraped, as a file that Prometheus reads again whenever it changes.

Written by sink.py at the start of an attempt and when nodes come or go. Ports may then be any that are free,
and a run that goes on elsewhere is found again. Prometheus calls this file-based service discovery.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from cluster.run_dir import write_atomically

NAMESPACE = "runs"
"""In the place of the namespace that a run has in Kubernetes."""


class Targets:
    """The file of one run."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self._written: list[dict[str, object]] | None = None

    def write(self, driver: str, nodes: Sequence[str] = ()) -> None:
        """The driver's endpoint and those of the nodes, as host:port; writes only what is new."""
        places = [("driver", [driver]), ("node", sorted(nodes))]
        self._publish([self._entry(role, hosts) for role, hosts in places if hosts])

    def close(self) -> None:
        """Nobody is there any more; what a newer attempt has written stays."""
        if self._written is not None and json.loads(self._path.read_text()) == self._written:
            self._publish([])

    def _entry(self, role: str, hosts: list[str]) -> dict[str, object]:
        return {
            "targets": hosts,
            "labels": {"namespace": NAMESPACE, "ray_io_cluster": self._run, "antiphon_role": role},
        }

    def _publish(self, entries: list[dict[str, object]]) -> None:
        if entries != self._written:
            self._path.parent.mkdir(exist_ok=True)
            write_atomically(self._path, json.dumps(entries, indent=2) + "\n")
            self._written = entries
