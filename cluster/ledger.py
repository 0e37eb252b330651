"""Where every group of the run is: dispatched = trained + dropped(reason) + in flight, at all times.

A group's place is its position in the order of dispatch. It is first running (on an actor), then accepted
(in the replay), then trained or dropped, once. The ledger is part of the checkpoint: what was running when it
was written is given out again after a resume, before anything new.
"""

from collections import Counter, deque
from typing import Any


class Ledger:
    """Bookkeeping by position. All methods raise KeyError for a position that is not where it should be."""

    def __init__(self) -> None:
        self.next_position = 0
        self.running: dict[int, int] = {}
        """Position -> policy version at dispatch."""
        self.accepted: dict[int, int] = {}
        """Position -> policy version at dispatch, for groups in the replay."""
        self.num_trained = 0
        self.dropped: Counter[str] = Counter()
        self.waiting: deque[int] = deque()
        """Positions to give out again, before any new one."""

    @property
    def num_dispatched(self) -> int:
        return self.next_position

    @property
    def num_in_flight(self) -> int:
        return len(self.running) + len(self.accepted) + len(self.waiting)

    @property
    def num_accepted_ever(self) -> int:
        """Groups that were trained or will be: what admission counts."""
        return self.num_trained + len(self.accepted)

    def dispatch(self, num_groups: int, version: int) -> list[int]:
        """Take the next positions, re-issues first, and mark them running at this version."""
        positions = [self._next() for _ in range(num_groups)]
        self.running.update(dict.fromkeys(positions, version))
        return positions

    def accept(self, position: int) -> None:
        """The group reached the replay."""
        self.accepted[position] = self.running.pop(position)

    def reissue(self, position: int) -> None:
        """The group was lost with its actor; it will be given out again."""
        self._remove(position)
        self.waiting.append(position)

    def train(self, position: int) -> None:
        """The group was part of an update."""
        del self.accepted[position]
        self.num_trained += 1

    def drop(self, position: int, reason: str) -> None:
        """The group will not be trained on."""
        self._remove(position)
        self.dropped[reason] += 1

    def check(self) -> None:
        """Raise AssertionError unless dispatched = trained + dropped + in flight."""
        settled = self.num_trained + self.dropped.total()
        assert self.num_dispatched == settled + self.num_in_flight, (
            f"{self.num_dispatched} dispatched, {self.num_trained} trained, {dict(self.dropped)} dropped, "
            f"{self.num_in_flight} in flight"
        )

    def state_dict(self) -> dict[str, Any]:
        """JSON-able. What is running is written as waiting: after a resume nobody runs it."""
        return {
            "next_position": self.next_position,
            "waiting": sorted([*self.waiting, *self.running]),
            "accepted": sorted(self.accepted.items()),
            "num_trained": self.num_trained,
            "dropped": dict(self.dropped),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next_position = state["next_position"]
        self.waiting = deque(state["waiting"])
        self.running = {}
        self.accepted = dict(state["accepted"])
        self.num_trained = state["num_trained"]
        self.dropped = Counter(state["dropped"])

    def _remove(self, position: int) -> None:
        del (self.running if position in self.running else self.accepted)[position]

    def _next(self) -> int:
        if self.waiting:
            return self.waiting.popleft()
        self.next_position += 1
        return self.next_position - 1
