"""The learner on Ray: one actor, called in order, with a deadline on every answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import (
    GetTimeoutError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    OwnerDiedError,
    RayTaskError,
    ReferenceCountingAssertionError,
)

from antiphon.errors import UserError
from cluster.ports import Delivery, GroupsLost, Pending, Published, StalledError
from learner.process import UpdateReport

LOST = (ObjectLostError, OwnerDiedError, ObjectFetchTimedOutError, ReferenceCountingAssertionError)
"""What Ray raises when the actor that owned an object died before somebody had fetched it."""


class RayPending:
    """An answer of the learner actor."""

    def __init__(
        self, ref: ray.ObjectRef, what: str, deadline_s: float, finish: Callable[[Any], Any] = lambda x: x
    ) -> None:
        self._ref = ref
        self._what = what
        self._deadline_s = deadline_s
        self._finish = finish

    def is_done(self) -> bool:
        return bool(ray.wait([self._ref], timeout=0)[0])

    def result(self) -> Any:
        """
        Raises:
            GroupsLost: what was sent to the learner died on the way.
            StalledError: no answer before the deadline.
        """
        try:
            return self._finish(ray.get(self._ref, timeout=self._deadline_s))
        except LOST as error:
            raise GroupsLost(str(error)) from error
        except GetTimeoutError:
            raise StalledError(f"the learner did not {self._what} within {self._deadline_s:.0f} s") from None
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None


class RayLearner:
    """The learner side of a run on Ray."""

    def __init__(self, actor: ActorHandle, deadline_s: float) -> None:
        self._actor = actor
        self._deadline_s = deadline_s

    def warm_up(self, is_stopping: Callable[[], bool]) -> Pending[dict[str, float]]:
        # Whoever waits need not wait for the end: the actor is killed when the run is over.
        return self._pending(self._actor.warm_up.remote(), "warm up")

    def accept(self, delivery: Delivery, keys: frozenset[tuple[int, int]]) -> Pending[None]:
        return self._pending(self._actor.accept.remote(delivery.groups[0], keys), "take groups")

    def update(self, version: int) -> Pending[UpdateReport]:
        return self._pending(self._actor.update.remote(version), "update")

    def publish(self, version: int) -> Pending[Published]:
        def finish(packed: tuple[str, int, list[ray.ObjectRef]]) -> Published:
            digest, size_bytes, reference = packed
            return Published(version=version, digest=digest, size_bytes=size_bytes, weights=reference)

        return self._pending(self._actor.publish.remote(version), "publish", finish)

    def save(self, folder: Path) -> Pending[None]:
        def finish(nothing: None) -> None:
            if not any(folder.iterdir()):
                raise UserError(
                    f"the learner saved into {folder.resolve()} of its own machine, which is not this one",
                    remedy="put the run directory (--run-dir) on storage that all nodes see at the same path",
                )

        return self._pending(self._actor.save.remote(folder.resolve()), "save", finish)

    def load(self, folder: Path) -> Pending[None]:
        return self._pending(self._actor.load.remote(folder.resolve()), "load")

    def close(self) -> None:
        ray.kill(self._actor, no_restart=True)

    def _pending(
        self, ref: ray.ObjectRef, what: str, finish: Callable[[Any], Any] = lambda x: x
    ) -> RayPending:
        return RayPending(ref, what, self._deadline_s, finish)
