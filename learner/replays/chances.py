"""Which of many named things is drawn how often: prioritised replay (Schaul et al., 1511.05952, section 3).

    P(i) = p_i^α / Σ_k p_k^α,  p_i = |δ_i| + ε        w_i = (N · P(i))^−β

Used for groups (prioritized.py); knows nothing of them but their names.
"""

import heapq
import random
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from learner.replays.sum_tree import SumTree

Name = TypeVar("Name", bound=Hashable)
FIRST_PRIORITY = 1.0
"""Of what enters while nothing else is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What must survive a restart of one thing's chances."""

    priority: float
    slot: int


class Chances(Generic[Name]):
    """Named things with priorities. New ones get the highest that there is, so that each is tried soon."""

    def __init__(self, alpha: float, epsilon: float) -> None:
        """
        Args:
            alpha: 0 draws all alike, 1 in proportion to their priority.
            epsilon: what is added to every error, so that nothing becomes impossible; above 0.
        """
        self._alpha, self._epsilon = alpha, epsilon
        self._tree = SumTree()
        self._priorities: dict[Name, float] = {}
        self._slots: dict[Name, int] = {}
        self._names: dict[int, Name] = {}
        self._free: list[int] = []
        """A heap of the slots below the highest that was ever used."""
        self._highest: float | None = None
        """The largest priority, where it is known: a pool that is filled need not look for it each time."""

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, name: Name) -> None:
        """
        Raises:
            ValueError: it is here already.
        """
        if name in self._slots:
            raise ValueError(f"{name!r} has a chance already")
        if self._highest is None:
            self._highest = max(self._priorities.values(), default=FIRST_PRIORITY)
        slot = heapq.heappop(self._free) if self._free else len(self._slots)
        self._put({name: Chance(priority=self._highest, slot=slot)})

    def remove(self, name: Name) -> None:
        """
        Raises:
            KeyError: it is not here.
        """
        slot = self._slots.pop(name)
        del self._priorities[name], self._names[slot]
        self._tree.set([slot], [0.0])
        heapq.heappush(self._free, slot)
        self._highest = None

    def learn(self, errors: Mapping[Name, float]) -> None:
        """Enter how much these surprised, |δ|; those that are not here any more are passed over."""
        known = {name: abs(error) + self._epsilon for name, error in errors.items() if name in self._slots}
        self._priorities |= known
        self._highest = None
        slots = [self._slots[name] for name in known]
        self._tree.set(slots, [p**self._alpha for p in known.values()])

    def draw(self, num: int, rng: random.Random) -> list[tuple[Name, float]]:
        """`num` draws with their probabilities P(i): one from each of `num` equal shares of the total mass.

        A thing may come twice. The number of times that it comes has the mean num · P(i).
        """
        if not self._slots:
            return []
        total = self._tree.total
        masses = [min((i + rng.random()) * total / num, total) for i in range(num)]
        slots = self._tree.find(masses)
        shares = self._tree.get(slots) / total
        return [(self._names[int(s)], float(p)) for s, p in zip(slots, shares, strict=True)]

    def chance(self, name: Name) -> Chance:
        """
        Raises:
            KeyError: it is not here.
        """
        return Chance(priority=self._priorities[name], slot=self._slots[name])

    def restore(self, chances: Mapping[Name, Chance]) -> None:
        """Into an empty one: everything as it was told by `chance`, with the same draws to come."""
        self._put(chances)
        self._free = sorted(set(range(max(self._names, default=-1))) - self._names.keys())

    def _put(self, chances: Mapping[Name, Chance]) -> None:
        for name, chance in chances.items():
            self._slots[name], self._names[chance.slot] = chance.slot, name
            self._priorities[name] = chance.priority
        slots = [chance.slot for chance in chances.values()]
        self._tree.set(slots, [chance.priority**self._alpha for chance in chances.values()])


def importance(probability: float, num: int, beta: float) -> float:
    """w = (N · P)^−β: what undoes, at β = 1, that some are drawn more often than others of N."""
    return float((num * probability) ** -beta)
