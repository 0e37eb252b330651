"""Rollout actors on Ray: disposable, replaced under a budget, given work only after they confirm the weights.

ray_calls.py asks them, members.py keeps what is known of each, crew.py says how many there shall be.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.rllib.utils.actor_manager import CallResult

from cluster.members import Member, Members, choose_leavers
from cluster.ports import Delivery, Lost, Published, StalledError
from cluster.ray_calls import Calls
from rollout.types import Task

_log = logging.getLogger(__name__)

NUM_QUEUED = 2
"""Tasks per actor: one to work on, one that waits, so that no actor idles while a report travels."""
LOAD, TASK, INTRODUCE = "load", "task", "introduce"


class RayRollouts:
    """The rollout side of a run on Ray."""

    def __init__(
        self,
        make_actor: Callable[[], ActorHandle],
        num_actors: int,
        *,
        num_needed: int | None = None,
        max_restarts: int,
        task_deadline_s: float,
        load_deadline_s: float,
        publish_deadline_s: float,
        on_event: Callable[..., None],
    ) -> None:
        """
        Args:
            num_actors: with how many to begin.
            num_needed: how many must hold the first weights before anything is rolled out; None: all.
            max_restarts: actors that may be replaced.
            load_deadline_s: for an actor to come up, and to take weights once it is at no task.
            publish_deadline_s: how long a publication waits for those who hold older weights.
        """
        self._make_actor = make_actor
        self._num_needed = num_needed or num_actors
        self._restarts_left = max_restarts
        self._task_deadline_s = task_deadline_s
        self.load_deadline_s = load_deadline_s
        self._publish_deadline_s = publish_deadline_s
        self._on_event = on_event
        self._calls = Calls(NUM_QUEUED)
        self._members = Members()
        self._published: Published | None = None
        self._num_loads = 0
        self._arrived: list[Delivery | Lost] = []
        self._ways_told: frozenset[str] = frozenset()
        """Of computing, when it was last told that there are several."""
        self._num_replaced = 0
        self._num_refused = 0
        """Of those that were replaced: without having confirmed the published weights."""
        self._home = ray.get_runtime_context().get_node_id()
        self.num_wanted = 0
        self.resize(num_actors)

    @property
    def num_free(self) -> int:
        return sum(NUM_QUEUED - len(m.leases) for m in self._current().values())

    @property
    def num_serving(self) -> int:
        return self._members.num_serving

    @property
    def num_busy(self) -> int:
        return self._members.num_busy

    def resources(self) -> Mapping[str, float]:
        """What the nodes of the cluster offer in sum."""
        return ray.cluster_resources()

    def resize(self, num_actors: int) -> None:
        """Have so many actors: new ones get the weights before work, leavers end what they hold."""
        self.num_wanted = num_actors
        staying = self._members.staying
        for actor_id in choose_leavers(staying, len(staying) - num_actors, self._home):
            self._members[actor_id].is_leaving = True
        self._let_go()
        for _ in range(num_actors - len(staying)):
            self._add()

    def submit(self, task: Task) -> None:
        members = self._current()
        actor_id = min(members, key=lambda i: (len(members[i].leases), i))
        self._members[actor_id].lease(task)
        self._calls.call(actor_id, "run", f"{TASK}/{task.id}", task=task)

    def collect(self) -> list[Delivery | Lost]:
        self._receive()
        self._replace_overdue()
        self._replace_late()
        for member in self._members.values():
            member.collect(self._num_loads)
        arrived, self._arrived = self._arrived, []
        return arrived

    def load(self, published: Published) -> None:
        """
        Who held older weights is waited for, until the deadline of a publication; those that come up only now
        are not. Nobody who has not confirmed is given work, however late it is.
        """
        num_needed = self._num_needed if self._published is None else 1
        self._published = published
        for actor_id in self._members.staying:
            self._send_weights(actor_id)
        deadline_s = time.monotonic() + self._publish_deadline_s
        while (behind := self._members.behind(published.version)) or len(self._current()) < num_needed:
            if time.monotonic() > deadline_s and len(self._current()) >= num_needed:
                break
            self._receive()
            self._replace_late()
        if behind:
            self._on_event("actors_set_aside", actors=behind, version=published.version)
        self._num_loads += 1
        self._let_go()

    def vitals(self) -> dict[str, float]:
        """Called from the thread of a scrape: looks at a copy of the members."""
        return {
            **self._members.vitals(self._current()),
            "rollout/actors_replaced_total": float(self._num_replaced),
            "rollout/weights_refused_total": float(self._num_refused),
        }

    def describe(self) -> str:
        return self._members.describe()

    def close(self) -> None:
        self._calls.end_all()
        self._members.clear()

    def _current(self) -> dict[int, Member]:
        return self._members.current(self._published.version) if self._published else {}

    def _add(self) -> None:
        actor_id = self._calls.add(self._make_actor())
        self._members[actor_id] = Member()
        self._calls.call(actor_id, "introduce", INTRODUCE)
        if self._published is not None:
            self._send_weights(actor_id)

    def _send_weights(self, actor_id: int) -> None:
        assert self._published is not None
        if self._members[actor_id].is_loading:
            return
        self._members[actor_id].ask()
        self._calls.call(
            actor_id, "load", f"{LOAD}/{self._published.version}", weights=self._published.weights
        )

    def _receive(self) -> None:
        """Take in every answer that is ready."""
        for result in self._calls.ready():
            if result.actor_id not in self._members:
                continue
            if not result.ok:
                self._handle_failure(result)
            elif result.tag == INTRODUCE:
                self._welcome(result)
            elif result.tag.startswith(LOAD):
                self._confirm(result)
            else:
                self._deliver(result)

    def _welcome(self, result: CallResult) -> None:
        """Take note of where it is and how it computes; tell it where not all do that in the same way."""
        member = self._members[result.actor_id]
        member.node, member.arithmetic = result.get()
        ways = self._members.by_arithmetic()
        if len(ways) > 1 and frozenset(ways) != self._ways_told:
            self._ways_told = frozenset(ways)
            self._on_event("actors_differ", actors_by_arithmetic=ways)
            _log.warning("actors of this run round differently, by how they compute: %s", ways)

    def _deliver(self, result: CallResult) -> None:
        report, groups = result.get()
        self._members[result.actor_id].release(report.task.id)
        self._arrived.append(Delivery(report=report, groups=groups))

    def _confirm(self, result: CallResult) -> None:
        """The actor is current if it echoes the digest of the version that it was asked to load."""
        published = self._published
        assert published is not None
        self._members[result.actor_id].is_loading = False
        if result.tag != f"{LOAD}/{published.version}":
            self._send_weights(result.actor_id)
        elif result.get() != published.digest:
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
        """Replace those that are at no task and still do not confirm. One that has not come up, while others
        work, costs nothing of the budget: it may wait for a node."""
        if self._published is None:
            return
        now_s, current = time.monotonic(), self._current()
        for actor_id, member in self._members.staying.items():
            is_at_it = actor_id not in current and not member.leases
            if is_at_it and now_s - member.asked_since_s > self.load_deadline_s:
                reason = f"did not confirm the weights within {self.load_deadline_s:.0f} s"
                self._replace(actor_id, reason, is_free=bool(current) and not member.has_joined)

    def _replace(self, actor_id: int, reason: str, *, is_free: bool = False) -> None:
        """Kill what is left of the actor, report its tasks as lost, and start another one, but for a leaver.

        Raises:
            StalledError: the restart budget is spent.
        """
        self._num_replaced += 1
        self._num_refused += actor_id not in self._current()
        member = self._members.pop(actor_id)
        self._arrived += [Lost(task=task, reason=reason) for task in member.leases.values()]
        self._calls.end(actor_id)
        if member.is_leaving:
            self._on_event("actor_left", actor=actor_id, reason=reason)
            return
        self._on_event("actor_replaced", actor=actor_id, reason=reason, restarts_left=self._restarts_left)
        if not is_free:
            if self._restarts_left == 0:
                raise StalledError(f"actor {actor_id} {reason}, and cluster.max_restarts are used up")
            self._restarts_left -= 1
        self._add()

    def _let_go(self) -> None:
        """End the leavers of whom nothing is needed any more; what they have is free from then on."""
        for actor_id in [i for i, m in self._members.items() if m.may_go(self._num_loads)]:
            del self._members[actor_id]
            self._calls.end(actor_id)
            self._on_event("actor_left", actor=actor_id, reason="not needed")

    def actors(self) -> Iterator[ActorHandle]:
        """The live actors, for tests that kill them."""
        yield from self._calls.actors()
