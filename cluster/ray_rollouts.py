"""Rollout actors on Ray: disposable, replaced under a budget, given work only after they confirm the weights.

RLlib's FaultTolerantActorManager knows which actors live and which calls are under way. It neither sends a
lost request again nor brings a new actor up to date: the leases and the replacement are here.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.rllib.utils.actor_manager import CallResult, FaultTolerantActorManager

from cluster.ports import Delivery, Lost, Published, StalledError
from rollout.types import Task

POLL_S = 0.02
"""How long a look for results may wait. Short: the loop has other things to look at."""
NUM_QUEUED = 2
"""Tasks per actor: one to work on, one that waits, so that no actor idles while a report travels."""
LOAD = "load"
TASK = "task"


@dataclass(slots=True)
class Member:
    """What the pool knows of one actor."""

    confirmed_version: int | None = None
    """The newest version whose digest it echoed."""
    leases: dict[int, Task] = field(default_factory=dict)
    """Task id -> the task, in the order in which they were given out."""
    busy_since_s: float = 0.0
    """When it began the oldest task that it holds."""

    def lease(self, task: Task) -> None:
        """The actor was given a task; it begins at once unless it is at another."""
        if not self.leases:
            self.busy_since_s = time.monotonic()
        self.leases[task.id] = task

    def release(self, task_id: int) -> None:
        """The actor brought a task back, and begins the next one."""
        del self.leases[task_id]
        self.busy_since_s = time.monotonic()


class RayRollouts:
    """The rollout side of a run on Ray."""

    def __init__(
        self,
        make_actor: Callable[[], ActorHandle],
        num_actors: int,
        *,
        max_restarts: int,
        task_deadline_s: float,
        load_deadline_s: float,
        on_event: Callable[..., None],
    ) -> None:
        self._make_actor = make_actor
        self._restarts_left = max_restarts
        self._task_deadline_s = task_deadline_s
        self._load_deadline_s = load_deadline_s
        self._on_event = on_event
        self._manager = FaultTolerantActorManager(max_remote_requests_in_flight_per_actor=NUM_QUEUED)
        self._members: dict[int, Member] = {}
        self._published: Published | None = None
        self._arrived: list[Delivery | Lost] = []
        self._num_replaced = 0
        self._num_refused = 0
        """Of those that were replaced: without having confirmed the published weights."""
        for _ in range(num_actors):
            self._add()

    @property
    def num_free(self) -> int:
        return sum(NUM_QUEUED - len(m.leases) for m in self._current().values())

    def submit(self, task: Task) -> None:
        members = self._current()
        actor_id = min(members, key=lambda i: (len(members[i].leases), i))
        self._members[actor_id].lease(task)
        self._call(actor_id, "run", f"{TASK}/{task.id}", task=task)

    def collect(self) -> list[Delivery | Lost]:
        self._receive()
        self._replace_overdue()
        arrived, self._arrived = self._arrived, []
        return arrived

    def load(self, published: Published) -> None:
        self._published = published
        for actor_id in list(self._members):
            self._send_weights(actor_id)
        deadline_s = time.monotonic() + self._load_deadline_s
        while not self._is_everyone_current():
            self._receive()
            if time.monotonic() > deadline_s:
                self._replace_late()
                deadline_s = time.monotonic() + self._load_deadline_s

    def vitals(self) -> dict[str, float]:
        """Called from the thread of a scrape: looks at a copy of the members."""
        version = self._published.version if self._published else None
        members = list(self._members.values())
        current = [m for m in members if m.confirmed_version == version is not None]
        return {
            "rollout/actors": float(len(members)),
            "rollout/actors_current": float(len(current)),
            "rollout/actors_idle": float(sum(not m.leases for m in current)),
            "rollout/actors_replaced_total": float(self._num_replaced),
            "rollout/weights_refused_total": float(self._num_refused),
        }

    def describe(self) -> str:
        states = (
            f"actor {i} (version {m.confirmed_version}, tasks {sorted(m.leases)})"
            for i, m in self._members.items()
        )
        return ", ".join(states) or "actors to come up"

    def close(self) -> None:
        self._manager.clear()
        self._members.clear()

    def _current(self) -> dict[int, Member]:
        """Actors that hold the published version."""
        version = self._published.version if self._published else None
        return {i: m for i, m in self._members.items() if m.confirmed_version == version is not None}

    def _is_everyone_current(self) -> bool:
        return len(self._current()) == len(self._members) > 0

    def _add(self) -> None:
        self._manager.add_actors([self._make_actor()])
        actor_id = self._manager.actor_ids()[-1]
        self._members[actor_id] = Member()
        if self._published is not None:
            self._send_weights(actor_id)

    def _send_weights(self, actor_id: int) -> None:
        assert self._published is not None
        self._call(actor_id, "load", f"{LOAD}/{self._published.version}", weights=self._published.weights)

    def _call(self, actor_id: int, method: str, tag: str, **kwargs: Any) -> None:
        self._manager.foreach_actor_async(
            method, tag=tag, kwargs=kwargs, remote_actor_ids=[actor_id], healthy_only=False
        )

    def _receive(self) -> None:
        """Take in every answer that is ready."""
        if self._manager.num_outstanding_async_reqs() == 0:
            time.sleep(POLL_S)
            return
        # RLlib annotates its iterator with the type of what a result wraps.
        ready = cast(Iterable[CallResult], self._manager.fetch_ready_async_reqs(timeout_seconds=POLL_S))
        for result in ready:
            if result.actor_id not in self._members:
                continue
            if not result.ok:
                self._handle_failure(result)
            elif result.tag.startswith(LOAD):
                self._confirm(result)
            else:
                self._deliver(result)

    def _deliver(self, result: CallResult) -> None:
        report, groups = result.get()
        self._members[result.actor_id].release(report.task.id)
        self._arrived.append(Delivery(report=report, groups=groups))

    def _confirm(self, result: CallResult) -> None:
        """The actor is current if it echoes the digest of the version that it was asked to load."""
        published = self._published
        assert published is not None
        if result.tag != f"{LOAD}/{published.version}":
            return
        if result.get() != published.digest:
            self._replace(result.actor_id, f"holds weights {result.get()} instead of {published.digest}")
        else:
            self._members[result.actor_id].confirmed_version = published.version

    def _handle_failure(self, result: CallResult) -> None:
        """A dead actor is replaced; an error of the code inside it is the run's own and travels on.

        What Ray itself raised inside the actor, such as weights that did not arrive, counts as its death.
        """
        error = result.get()
        if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
            raise error
        self._replace(result.actor_id, f"{type(error).__name__}: {error}".splitlines()[0])

    def _replace_overdue(self) -> None:
        now_s = time.monotonic()
        for actor_id, member in list(self._members.items()):
            if member.leases and now_s - member.busy_since_s > self._task_deadline_s:
                self._replace(actor_id, f"held a task for more than {self._task_deadline_s:.0f} s")

    def _replace_late(self) -> None:
        current = self._current()
        for actor_id in [i for i in self._members if i not in current]:
            self._replace(actor_id, f"did not confirm the weights within {self._load_deadline_s:.0f} s")

    def _replace(self, actor_id: int, reason: str) -> None:
        """Kill what is left of the actor, report its tasks as lost, and start another one.

        Raises:
            StalledError: the restart budget is spent.
        """
        self._num_replaced += 1
        self._num_refused += actor_id not in self._current()
        member = self._members.pop(actor_id)
        self._arrived += [Lost(task=task, reason=reason) for task in member.leases.values()]
        ray.kill(self._manager.remove_actor(actor_id), no_restart=True)
        self._on_event("actor_replaced", actor=actor_id, reason=reason, restarts_left=self._restarts_left)
        if self._restarts_left == 0:
            raise StalledError(f"actor {actor_id} {reason}, and cluster.max_restarts are used up")
        self._restarts_left -= 1
        self._add()

    def actors(self) -> Iterator[ActorHandle]:
        """The live actors, for tests that kill them."""
        yield from self._manager.actors().values()
