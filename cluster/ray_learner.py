"""The learner on Ray: one actor or one for each rank, called in order, with a deadline on every answer."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import (
    GetTimeoutError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RayTaskError,
    ReferenceCountingAssertionError,
)

from antiphon.errors import UserError
from cluster.ports import Delivery, GroupsLost, Pending, Published, StalledError
from learner.process import UpdateReport
from learner.ranks import RankError

LOST = (ObjectLostError, OwnerDiedError, ObjectFetchTimedOutError, ReferenceCountingAssertionError)
"""What Ray raises when the actor that owned an object died before somebody had fetched it."""


class RayPending:
    """An answer of the learner actor; of several ranks, of all."""

    def __init__(
        self,
        ref: ray.ObjectRef,
        what: str,
        deadline_s: float,
        finish: Callable[[Any], Any] = lambda x: x,
        others: Sequence[ray.ObjectRef] = (),
    ) -> None:
        """`ref` is the first rank's, who alone has something to say."""
        self._ref = ref
        self._what = what
        self._deadline_s = deadline_s
        self._finish = finish
        self._others = others
        self._waiting = [ref, *others]

    def is_done(self) -> bool:
        """Whether all have answered, or one has failed."""
        self._look(0.0)
        return not self._waiting or self._failed() is not None

    def result(self) -> Any:
        """
        Raises:
            GroupsLost: what was sent to the learner died on the way.
            RankError: a rank is gone.
            StalledError: no answer before the deadline.
        """
        try:
            if self._others:
                self._await_all()
            return self._finish(ray.get(self._ref, timeout=self._deadline_s))
        except LOST as error:
            raise GroupsLost(str(error)) from error
        except GetTimeoutError:
            raise StalledError(f"the learner did not {self._what} within {self._deadline_s:.0f} s") from None
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None

    def _await_all(self) -> None:
        """Until the first rank may be asked; raises what another one raised."""
        end_s = time.monotonic() + self._deadline_s
        while self._waiting and self._failed() is None:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                absent = [r for r, ref in enumerate((self._ref, *self._others)) if ref in self._waiting]
                raise StalledError(
                    f"ranks {absent} of the learner did not {self._what} within {self._deadline_s:.0f} s"
                )
            self._look(left_s)
        failed = self._failed()
        if failed is not None:
            raise failed

    def _look(self, timeout_s: float) -> None:
        """Take note of one more answer, or of all that are there."""
        num = 1 if timeout_s else len(self._waiting)
        if self._waiting:
            _, self._waiting = ray.wait(self._waiting, num_returns=num, timeout=timeout_s)

    def _failed(self) -> Exception | None:
        """What one of the others died of, if one did. The first rank's own failure comes before it, unless it
        is but a consequence."""
        for rank, ref in enumerate(self._others, start=1):
            error = None if ref in self._waiting else _error_of(ref)
            if error is None:
                continue
            own = None if self._ref in self._waiting else _error_of(self._ref)
            if own is not None and not isinstance(own, RankError | RayActorError):
                return own
            return error if isinstance(error, RankError) else _as_cause(rank, error)
        return None


def _error_of(ref: ray.ObjectRef) -> Exception | None:
    """What an answer that is there raises."""
    try:
        ray.get(ref)
    except RayTaskError as error:
        return error.as_instanceof_cause()
    except RayError as error:
        return error
    return None


def _as_cause(rank: int, error: Exception) -> RankError:
    failure = RankError(f"rank {rank} of the learner ended with {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


class RayLearner:
    """The learner side of a run on Ray."""

    def __init__(self, actor: ActorHandle, deadline_s: float, followers: Sequence[ActorHandle] = ()) -> None:
        """`followers` are the ranks after the first, which do the same at the same time."""
        self._actor = actor
        self._deadline_s = deadline_s
        self._followers = followers

    def warm_up(self, is_stopping: Callable[[], bool]) -> Pending[dict[str, float]]:
        # Whoever waits need not wait for the end: the actor is killed when the run is over.
        return self._pending(self._actor.warm_up.remote(), "warm up")

    def accept(self, delivery: Delivery, keys: frozenset[tuple[int, int]]) -> Pending[None]:
        return self._pending(self._actor.accept.remote(delivery.groups[0], keys), "take groups")

    def update(self, version: int) -> Pending[UpdateReport]:
        return self._all("update", version)

    def publish(self, version: int) -> Pending[Published]:
        def finish(packed: tuple[str, int, list[ray.ObjectRef]]) -> Published:
            digest, size_bytes, reference = packed
            return Published(version=version, digest=digest, size_bytes=size_bytes, weights=reference)

        return self._all("publish", version, finish=finish)

    def save(self, folder: Path) -> Pending[None]:
        def finish(nothing: None) -> None:
            if not any(folder.iterdir()):
                raise UserError(
                    f"the learner saved into {folder.resolve()} of its own machine, which is not this one",
                    remedy="put the run directory (--run-dir) on storage that all nodes see at the same path",
                )

        return self._all("save", folder.resolve(), finish=finish)

    def load(self, folder: Path) -> Pending[None]:
        return self._all("load", folder.resolve())

    def close(self) -> None:
        for actor in (self._actor, *self._followers):
            ray.kill(actor, no_restart=True)

    def _pending(
        self, ref: ray.ObjectRef, what: str, finish: Callable[[Any], Any] = lambda x: x
    ) -> RayPending:
        return RayPending(ref, what, self._deadline_s, finish)

    def _all(self, method: str, *args: Any, finish: Callable[[Any], Any] = lambda x: x) -> RayPending:
        """A method that all ranks have under one name."""
        ref, *others = [getattr(a, method).remote(*args) for a in (self._actor, *self._followers)]
        return RayPending(ref, method, self._deadline_s, finish, others)
