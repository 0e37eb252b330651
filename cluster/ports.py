"""The two doors through which the main loop sees the rest. What is behind them, it need not know.

RolloutSide   gives out tasks, brings back reports, loads weights   (inline.py, ray_rollouts.py)
LearnerSide   takes groups, updates, packs weights, saves           (inline.py, ray_learner.py)
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from learner.process import UpdateReport
from rollout.reports import TaskReport
from rollout.types import Task

T = TypeVar("T", covariant=True)


class Pending(Protocol[T]):
    """An answer that may still be under way."""

    def is_done(self) -> bool:
        """Whether `result` would return, or raise, at once. Does not block; an inline one does the work."""
        ...

    def result(self) -> T:
        """The answer. Raises what the work raised."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[T]):
    """A task that came back: its report, and a handle on the groups themselves."""

    report: TaskReport
    groups: Any
    """Whatever this assembly's LearnerSide understands: the groups, or a reference to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A task whose actor died. Nothing of it is left; it must be given out again."""

    task: Task
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Packed weights that wait for the actors."""

    version: int
    digest: str
    size_bytes: int
    weights: Any
    """Whatever this assembly's RolloutSide understands: the weights, or a reference to them."""


class RolloutSide(Protocol):
    """The rollout side."""

    @property
    def num_free(self) -> int:
        """Tasks that can be given out now."""
        ...

    def submit(self, task: Task) -> None:
        """Give the task to a worker that holds the current version."""
        ...

    def collect(self) -> list[Delivery | Lost]:
        """What came back since the last call; waits a moment when nothing did."""
        ...

    def load(self, published: Published) -> None:
        """Return when every live worker has confirmed the digest.

        Raises:
            StalledError: nobody confirmed before the deadline.
        """
        ...

    def vitals(self) -> dict[str, float]:
        """Who is there and who is idle at this moment, by metric; may be called from another thread."""
        ...

    def describe(self) -> str:
        """Whom the loop is waiting for, in words."""
        ...

    def close(self) -> None: ...


class LearnerSide(Protocol):
    """The learning side."""

    def warm_up(self, is_stopping: Callable[[], bool]) -> Pending[dict[str, float]]:
        """The supervised phase before the first update; one that occupies the caller asks whether to end."""
        ...

    def accept(self, delivery: Delivery, keys: frozenset[tuple[int, int]]) -> Pending[None]:
        """Put those groups of the delivery that have one of these keys into the replay."""
        ...

    def update(self, version: int) -> Pending[UpdateReport]:
        """Sweep the replay, take a batch, learn from it, append it to the trajectory store."""
        ...

    def publish(self, version: int) -> Pending[Published]: ...

    def save(self, folder: Path) -> Pending[None]: ...

    def load(self, folder: Path) -> Pending[None]: ...

    def close(self) -> None: ...


class StalledError(RuntimeError):
    """Nothing moved for as long as the deadline allows; the message says who was waited for."""


class GroupsLost(RuntimeError):
    """The groups of a delivery died with their actor before the replay had them."""
