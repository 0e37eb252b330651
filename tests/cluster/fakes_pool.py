"""Pools of real Ray actors that do nothing but what a test tells them."""

import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ray

from cluster.ports import Published
from cluster.ray_rollouts import RayRollouts
from rollout.actor import InFlightActor
from rollout.reports import TaskReport
from rollout.types import Sampling, Task
from rollout.worker import TaskResult
from tests.cluster.fakes_ray import PlayingActor


class Pools:
    """Opens pools, keeps what they tell, and closes them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.listen: Callable[[], None] = lambda: None
        """Called at every event."""
        self._opened: list[RayRollouts] = []

    def open(
        self,
        *manners: dict[str, str],
        num_actors: int = 2,
        make_actor: Callable[[], Any] | None = None,
        **limits: Any,
    ) -> RayRollouts:
        """A pool whose first actors have these manners; all later ones behave. Or one of other actors."""
        waiting = list(manners)

        def make_playing() -> Any:
            manner = waiting.pop(0) if waiting else None
            place = {"elsewhere": 1} if manner == "nowhere" else None
            return PlayingActor.options(num_cpus=0, resources=place).remote(
                None if manner == "nowhere" else manner
            )

        numbers = {
            "max_restarts": 3,
            "task_deadline_s": 60.0,
            "load_deadline_s": 60.0,
            "publish_deadline_s": 60.0,
        }
        rollouts = RayRollouts(
            make_actor or make_playing,
            num_actors,
            on_event=self._hear,
            **{**numbers, **limits},
        )
        self._opened.append(rollouts)
        return rollouts

    def _hear(self, kind: str, **facts: Any) -> None:
        self.events.append({**facts, "event": kind})
        self.listen()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of this kind."""
        return [event for event in self.events if event["event"] == kind]

    def close(self) -> None:
        for rollouts in self._opened:
            rollouts.close()


class OverlappedWorker:
    """Its first task is under way until version 1 is there; reports say with which versions they began and
    ended, in the place of seconds."""

    arithmetic = "by hand"

    def __init__(self) -> None:
        self._version, self._num_tasks, self._is_at_work = -1, 0, False

    def load(self, weights: Any) -> str:
        self._version = weights.version
        return str(weights.digest)

    def run(self, task: Task) -> TaskResult:
        assert not self._is_at_work, "two tasks at a time"
        self._is_at_work, began, deadline_s = True, self._version, time.monotonic() + 60.0
        self._num_tasks += 1
        while self._num_tasks == 1 and self._version < 1:
            assert time.monotonic() < deadline_s, "no weights while a task was under way"
            time.sleep(0.002)
        self._is_at_work = False
        report = TaskReport(task=task, groups=(), dropped=(), generate_s=began, score_s=self._version)
        return TaskResult(groups=(), report=report)


class Unread:
    """Meters that nobody looks at."""

    def add(self, name: str, amount: float) -> None: ...

    def set(self, name: str, value: float) -> None: ...


def overlapped_actor() -> Any:
    return InFlightActor.options(num_cpus=0).remote(OverlappedWorker, 1, Unread())


def published_object(version: int) -> Published:
    """For workers that look at the attributes of their weights."""
    weights = SimpleNamespace(version=version, digest=f"digest {version}")
    return Published(version=version, digest=weights.digest, size_bytes=1, weights=[ray.put(weights)])


def published(version: int) -> Published:
    weights = {"version": version, "digest": f"digest {version}"}
    return Published(version=version, digest=weights["digest"], size_bytes=1, weights=[ray.put(weights)])


def task(number: int, version: int = 0) -> Task:
    return Task(id=number, turns=(), num_samples=1, sampling=Sampling(), policy_version=version, seed=0)


def collect(rollouts: RayRollouts, num_arrivals: int, timeout_s: float = 30.0) -> list[Any]:
    arrived: list[Any] = []
    wait_for(rollouts, lambda: len(arrived) >= num_arrivals, arrived, timeout_s)
    return arrived


def wait_for(rollouts: RayRollouts, condition: Any, arrived: list[Any], timeout_s: float = 30.0) -> None:
    """Let the pool work until the condition holds; what it brings is added to `arrived`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        arrived += rollouts.collect()
        assert time.monotonic() < deadline_s, f"{len(arrived)} arrived; {rollouts.describe()}"


def held_versions(rollouts: RayRollouts) -> list[int]:
    return [ray.get(actor.held.remote())["version"] for actor in rollouts.actors()]


def pid_of(actor: Any) -> int:
    return ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
