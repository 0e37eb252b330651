"""Calls to the actors of a pool (ray_rollouts.py), several under way at once, each with a tag.

RLlib's FaultTolerantActorManager knows which actors live and which calls are under way. It neither sends a
lost request again nor brings a new actor up to date: that is the pool's.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import ray
from ray.actor import ActorHandle
from ray.rllib.utils.actor_manager import CallResult, FaultTolerantActorManager

POLL_S = 0.02
"""How long a look for results may wait. Short: the loop has other things to look at."""


class Calls:
    """Actors by number, and what they were asked."""

    def __init__(self, num_queued: int) -> None:
        """`num_queued` calls of one tag may be under way to one actor."""
        self._manager = FaultTolerantActorManager(max_remote_requests_in_flight_per_actor=num_queued)

    def add(self, actor: ActorHandle) -> int:
        """The number of a new actor; numbers are not used again."""
        self._manager.add_actors([actor])
        actor_id: int = self._manager.actor_ids()[-1]
        return actor_id

    def call(self, actor_id: int, method: str | Callable[[Any], Any], tag: str, **kwargs: Any) -> None:
        """Ask an actor; the answer comes with `ready`."""
        self._manager.foreach_actor_async(
            method, tag=tag, kwargs=kwargs, remote_actor_ids=[actor_id], healthy_only=False
        )

    def ready(self) -> Iterable[CallResult]:
        """The answers that are there; waits a moment when none is."""
        if self._manager.num_outstanding_async_reqs() == 0:
            time.sleep(POLL_S)
            return []
        # RLlib annotates its iterator with the type of what a result wraps.
        return cast(Iterable[CallResult], self._manager.fetch_ready_async_reqs(timeout_seconds=POLL_S))

    def end(self, actor_id: int) -> None:
        """Kill the actor, or what is left of it; what it was asked has no answer."""
        ray.kill(self._manager.remove_actor(actor_id), no_restart=True)

    def end_all(self) -> None:
        self._manager.clear()

    def actors(self) -> Iterator[ActorHandle]:
        """The actors that were not ended."""
        yield from self._manager.actors().values()
