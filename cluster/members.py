"""What the pool (ray_rollouts.py) knows of each rollout actor, and who goes when there are too many.

Knows nothing of Ray.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rollout.types import Task

NUM_LOADS_KEPT = 2
"""An actor owns the groups that it made, and they end with it. The learner has fetched what it was told of
before it packs weights; the next ones may have been asked for just before, so these are the second."""


@dataclass(slots=True)
class Member:
    """What the pool knows of one actor."""

    confirmed_version: int | None = None
    """The newest version whose digest it echoed."""
    leases: dict[int, Task] = field(default_factory=dict)
    """Task id -> the task, in the order in which they were given out."""
    busy_since_s: float = 0.0
    """When it began the oldest task that it holds."""
    asked_since_s: float = 0.0
    """Since when it could have taken the newest weights: they were sent, and it is at no task."""
    is_loading: bool = False
    """It was sent weights and has not answered; newer ones wait until it does, so that no two are kept."""
    node: str = ""
    """Where it lives; empty until it has said so."""
    arithmetic: str = ""
    """How it computes; empty until it has said so."""
    is_uncollected: bool = False
    """It brought something that the loop has not seen."""
    collected_at: int | None = None
    """How many publications there had been when the loop took the last of what it brought."""
    is_leaving: bool = False
    """It ends what it holds, and is given nothing more: neither tasks nor weights."""

    @property
    def has_joined(self) -> bool:
        """Whether it ever held weights; one that has not may still wait for a node."""
        return self.confirmed_version is not None

    def ask(self) -> None:
        """The newest weights were sent to it."""
        self.is_loading = True
        self.asked_since_s = time.monotonic()

    def lease(self, task: Task) -> None:
        """The actor was given a task; it begins at once unless it is at another."""
        if not self.leases:
            self.busy_since_s = time.monotonic()
        self.leases[task.id] = task

    def release(self, task_id: int) -> None:
        """The actor brought a task back, and begins the next one."""
        del self.leases[task_id]
        self.is_uncollected = True
        self.busy_since_s = self.asked_since_s = time.monotonic()

    def collect(self, num_loads: int) -> None:
        """The loop takes what it brought, after so many publications."""
        if self.is_uncollected:
            self.is_uncollected, self.collected_at = False, num_loads

    def may_go(self, num_loads: int) -> bool:
        """Whether nothing is lost when it ends now."""
        is_fetched = self.collected_at is None or num_loads >= self.collected_at + NUM_LOADS_KEPT
        return self.is_leaving and not self.leases and not self.is_uncollected and is_fetched


class Members(dict[int, Member]):
    """All actors of the pool by their ids."""

    @property
    def staying(self) -> dict[int, Member]:
        """Also asked from the thread of a scrape: looks at a copy."""
        return {i: m for i, m in list(self.items()) if not m.is_leaving}

    @property
    def num_serving(self) -> int:
        """Actors that have joined and stay."""
        return sum(m.has_joined for m in self.staying.values())

    @property
    def num_busy(self) -> int:
        """Those of them that have work."""
        return sum(m.has_joined and bool(m.leases) for m in self.staying.values())

    def current(self, version: int) -> dict[int, Member]:
        """Those that hold this version and stay."""
        return {i: m for i, m in self.staying.items() if m.confirmed_version == version}

    def behind(self, version: int) -> list[int]:
        """Those that hold an older version."""
        current = self.current(version)
        return [i for i, m in self.staying.items() if m.has_joined and i not in current]

    def by_arithmetic(self) -> dict[str, list[int]]:
        """Who computes how, as far as they have said it; the way of most of them first."""
        found: dict[str, list[int]] = {}
        for actor_id, member in self.staying.items():
            if member.arithmetic:
                found.setdefault(member.arithmetic, []).append(actor_id)
        return dict(sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0])))

    def vitals(self, current: Mapping[int, Member]) -> dict[str, float]:
        """How many shall be there, hold the published version, have nothing to do, and compute otherwise than
        most of them do."""
        _, *others = self.by_arithmetic().values() or [[]]
        return {
            "rollout/actors_differing": float(sum(map(len, others))),
            "rollout/actors": float(len(self.staying)),
            "rollout/actors_current": float(len(current)),
            "rollout/actors_idle": float(sum(not m.leases for m in current.values())),
        }

    def describe(self) -> str:
        """Each of them in words, for who waits for them."""
        states = (
            f"actor {i} (version {m.confirmed_version}, tasks {sorted(m.leases)}{', leaving' * m.is_leaving})"
            for i, m in self.items()
        )
        return ", ".join(states) or "actors to come up"


def choose_leavers(members: Mapping[int, Member], num_leavers: int, home: str) -> list[int]:
    """Whom to let go, so that little is waited for and whole nodes become empty.

    First those that wait for a node or hold old weights; then the actors of the node that has fewest, with
    nothing to do before those at work. Those of the driver's own node go last: that one is never drained.

    Args:
        home: the driver's node.
    """
    num_on = Counter(m.node for m in members.values() if m.has_joined)

    def order(actor_id: int) -> tuple[int, bool, int, str, int, int]:
        m = members[actor_id]
        version = -1 if m.confirmed_version is None else m.confirmed_version
        return version, m.node == home, num_on[m.node], m.node, len(m.leases), -actor_id

    return sorted(members, key=order)[: max(0, num_leavers)]
