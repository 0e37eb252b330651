"""Actors for the rollout and the learner side on Ray that need neither a model nor torch."""

import os
import time
from collections.abc import Callable
from typing import Any

import ray

from rollout.reports import TaskReport
from rollout.types import Task


@ray.remote(max_restarts=0)
class PlayingActor:
    """Does what `manner` says: {"load": …} or {"run": …} with die, raise, nap or, for load, lie. It computes
    as {"arithmetic": …} says."""

    def __init__(self, manner: dict[str, str] | None = None) -> None:
        self._manner = manner or {}
        self._held: dict[str, Any] = {}

    def ping(self) -> str:
        return "pong"

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return func(self, *args, **kwargs)

    def introduce(self) -> tuple[str, str]:
        return ray.get_runtime_context().get_node_id(), self._manner.get("arithmetic", "by hand")

    def held(self) -> dict[str, Any]:
        """The weights that it took."""
        return self._held

    def load(self, weights: list[ray.ObjectRef]) -> str:
        self._act("load")
        self._held = ray.get(weights[0])
        return "another digest" if self._manner.get("load") == "lie" else self._held["digest"]

    def run(self, task: Task) -> tuple[TaskReport, list[ray.ObjectRef]]:
        self._act("run")
        assert self._held["version"] >= task.policy_version, "work came before the weights"
        report = TaskReport(task=task, groups=(), dropped=(), generate_s=0.0, score_s=0.0)
        return report, [ray.put(task.id)]

    def _act(self, what: str) -> None:
        manner = self._manner.get(what)
        if manner == "die":
            os._exit(9)
        if manner == "raise":
            raise ZeroDivisionError("a bug in the actor")
        if manner == "nap":
            time.sleep(1.0)


@ray.remote(max_restarts=0)
class TakingActor:
    """A learner that takes whatever it is given, or fails."""

    def accept(self, groups: Any, keys: frozenset[tuple[int, int]]) -> None:
        """Nothing is kept."""

    def update(self, version: int) -> None:
        raise ZeroDivisionError("a bug in the learner")

    def warm_up(self) -> None:
        time.sleep(60.0)
