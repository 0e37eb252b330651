"""The Ray shell of a learner process: the same calls, with references where big things travel."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import ray
import torch

from antiphon.meters import Meters
from learner.process import LearnerProcess, UpdateReport
from rollout.trajectory_table import from_table


@ray.remote(max_restarts=0, max_task_retries=0)
class LearnerActor:
    """Not restarted by Ray: what it knows is in the checkpoint, and the run resumes from there."""

    def __init__(self, make_process: Callable[[], LearnerProcess], num_threads: int, meters: Meters) -> None:
        torch.set_num_threads(num_threads)
        self._process = make_process()
        self._meters = meters

    def warm_up(self) -> dict[str, float]:
        return self._process.warm_up()

    def accept(self, table: pa.Table, keys: frozenset[tuple[int, int]]) -> None:
        """`table` arrives by reference: it comes from the node of the actor that made it."""
        self._process.accept([group for group in from_table(table) if group.key in keys])

    def update(self, version: int) -> UpdateReport:
        with self._timed("update"):
            return self._process.update(version)

    def publish(self, version: int) -> tuple[str, int, list[ray.ObjectRef]]:
        """Digest, size in bytes, and a reference to the packed weights: one put, mapped by every actor."""
        with self._timed("pack"):
            weights = self._process.pack(version)
        self._meters.set("learner/policy_version", version)
        return weights.digest, weights.size_bytes, [ray.put(weights)]

    def save(self, folder: Path) -> None:
        with self._timed("save"):
            self._process.save(folder)

    def load(self, folder: Path) -> None:
        self._process.load(folder)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start_s = time.monotonic()
        yield
        self._meters.add(f"learner/{what}_seconds_total", time.monotonic() - start_s)
