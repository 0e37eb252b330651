"""The Ray shells of a rollout worker: one process, one worker, a door for tasks and one for weights.

Groups are put into the object store of the node that made them; only the report goes to the caller.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

import ray
import torch

from antiphon.meters import Meters
from rollout.reports import TaskReport
from rollout.trajectory_table import to_table
from rollout.types import Task
from rollout.worker import Worker

WEIGHTS_DEADLINE_S = 600.0
"""For pulling the weights from another node."""
SEVERAL_THREADS: dict[str, Any] = {"max_concurrency": 4}
"""Two tasks, weights and a ping at once. Behind two stars: Ray's annotations do not know the option."""


class _Shell:
    """What both kinds of actor do. RLlib's manager calls everything through `apply`."""

    def __init__(self, make_worker: Callable[[], Worker], num_threads: int, meters: Meters) -> None:
        torch.set_num_threads(num_threads)
        self._worker = make_worker()
        self._meters = meters

    def ping(self) -> str:
        return "pong"

    def introduce(self) -> tuple[str, str]:
        """The node that it lives on, and how it computes (Engine.arithmetic)."""
        return ray.get_runtime_context().get_node_id(), self._worker.arithmetic

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `func` with this actor: the door of RLlib's FaultTolerantActorManager."""
        return func(self, *args, **kwargs)

    def run(self, task: Task) -> tuple[TaskReport, list[ray.ObjectRef]]:
        """The report of the task, and a reference to its groups as an Arrow table."""
        result = self._worker.run(task)
        self._count(result.report)
        return result.report, [ray.put(to_table(result.groups))]

    def load(self, weights: list[ray.ObjectRef]) -> str:
        """Swap the weights for those behind the reference; returns the digest of what is held afterwards.

        The reference comes in a list, so that the transfer happens here and not in the caller's queue.
        """
        start_s = time.monotonic()
        arrived = ray.get(weights[0], timeout=WEIGHTS_DEADLINE_S)
        digest = self._worker.load(arrived)
        self._meters.add("actor/load_seconds_total", time.monotonic() - start_s)
        self._meters.set("actor/policy_version", arrived.version)
        return digest

    def _count(self, report: TaskReport) -> None:
        self._meters.add("actor/generate_seconds_total", report.generate_s)
        self._meters.add("actor/score_seconds_total", report.score_s)
        tokens = sum(n for group in report.groups for n in group.num_tokens)
        self._meters.add("actor/completion_tokens_total", tokens)
        self._meters.add("actor/tasks_total", 1)


@ray.remote(max_restarts=0, max_task_retries=0)
class RolloutActor(_Shell):
    """Takes weights when the tasks that came before them are done.

    Not restarted by Ray: a restarted actor would answer with the weights it was built with.
    """


@ray.remote(max_restarts=0, max_task_retries=0, **SEVERAL_THREADS)
class InFlightActor(_Shell):
    """Takes weights as soon as they are there: between two steps of its engine."""

    def __init__(self, make_worker: Callable[[], Worker], num_threads: int, meters: Meters) -> None:
        super().__init__(make_worker, num_threads, meters)
        self._at_work = Lock()

    def run(self, task: Task) -> tuple[TaskReport, list[ray.ObjectRef]]:
        """One task at a time."""
        with self._at_work:
            return super().run(task)
