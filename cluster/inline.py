"""The one-process assembly: the same worker and the same learner process, called in turn. No Ray.

Thread counts are set before each part works, as its own process would have them: the arithmetic is then the
same bit for bit, whichever assembly runs it.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cluster.ports import Delivery, Lost, Pending, Published
from learner.process import LearnerProcess, UpdateReport
from rollout.types import Group, Task
from rollout.worker import Worker


class Later:
    """Work that is done when somebody first asks whether it is done."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._outcome: list[Any] = []

    def is_done(self) -> bool:
        self.result()
        return True

    def result(self) -> Any:
        if not self._outcome:
            self._outcome.append(self._work())
        return self._outcome[0]


class InlineRollouts:
    """One worker that plays for all actors: it takes the oldest task whenever the loop collects."""

    def __init__(self, worker: Worker, num_threads: int, num_queued: int) -> None:
        self._worker = worker
        self._num_threads = num_threads
        self._num_queued = num_queued
        self._tasks: deque[Task] = deque()

    @property
    def num_free(self) -> int:
        return self._num_queued - len(self._tasks)

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def collect(self) -> list[Delivery | Lost]:
        if not self._tasks:
            return []
        torch.set_num_threads(self._num_threads)
        result = self._worker.run(self._tasks.popleft())
        return [Delivery(report=result.report, groups=result.groups)]

    def load(self, published: Published) -> None:
        """
        Raises:
            RuntimeError: the engine holds other weights than were published.
        """
        echoed = self._worker.load(published.weights)
        if echoed != published.digest:
            raise RuntimeError(f"published weights {published.digest}, the engine holds {echoed}")

    def vitals(self) -> dict[str, float]:
        """One worker that is never idle: what it does not do, this process does."""
        return {
            "rollout/actors": 1.0,
            "rollout/actors_current": 1.0,
            "rollout/actors_idle": 0.0,
            "rollout/actors_differing": 0.0,
            "rollout/actors_replaced_total": 0.0,
            "rollout/weights_refused_total": 0.0,
        }

    def describe(self) -> str:
        return f"{len(self._tasks)} tasks in this process"

    def close(self) -> None:
        self._tasks.clear()


class InlineLearner:
    """The learner process as an object of this process."""

    def __init__(self, process: LearnerProcess, num_threads: int) -> None:
        self._process = process
        self._num_threads = num_threads

    def warm_up(self, is_stopping: Callable[[], bool]) -> Pending[dict[str, float]]:
        return self._later(partial(self._process.warm_up, is_stopping))

    def accept(self, delivery: Delivery, keys: frozenset[tuple[int, int]]) -> Pending[None]:
        groups: tuple[Group, ...] = delivery.groups
        return self._later(partial(self._process.accept, [g for g in groups if g.key in keys]))

    def update(self, version: int) -> Pending[UpdateReport]:
        return self._later(partial(self._process.update, version))

    def publish(self, version: int) -> Pending[Published]:
        return self._later(partial(self._publish, version))

    def save(self, folder: Path) -> Pending[None]:
        return self._later(partial(self._process.save, folder))

    def load(self, folder: Path) -> Pending[None]:
        return self._later(partial(self._process.load, folder))

    def close(self) -> None:
        """Nothing to close."""

    def _publish(self, version: int) -> Published:
        weights = self._process.pack(version)
        return Published(
            version=version, digest=weights.digest, size_bytes=weights.size_bytes, weights=weights
        )

    def _later(self, work: Callable[[], Any]) -> Later:
        def with_threads() -> Any:
            torch.set_num_threads(self._num_threads)
            return work()

        return Later(with_threads)
