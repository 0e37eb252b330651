"""Groups that are kept for more than one update, oldest first, with their tokens counted.

The memory (memory.py) says what enters and when it must leave; a pool says which groups are drawn.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from learner.replay import Key
from learner.replays.chances import Chance
from rollout.types import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A group in a pool."""

    group: Group
    entered: int
    """The learner version at which it came."""
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A group that was drawn."""

    key: Key
    weight: float
    """What it weighs beside the other picks; see chances.importance."""


class Pool:
    """Draws all groups alike, each at most once at a time."""

    def __init__(self) -> None:
        self.num_tokens = 0
        """Of all groups, prompts counted in every trajectory."""
        self._entries: dict[Key, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        """Keys in the order in which the groups came."""
        return iter(self._entries)

    def __getitem__(self, key: Key) -> Entry:
        return self._entries[key]

    @property
    def oldest(self) -> Key:
        """
        Raises:
            StopIteration: the pool is empty.
        """
        return next(iter(self._entries))

    def add(self, group: Group, version: int) -> None:
        """
        Raises:
            ValueError: it is here already.
        """
        self._enter(group, version)

    def remove(self, key: Key) -> None:
        """
        Raises:
            KeyError: it is not here.
        """
        self.num_tokens -= self._entries.pop(key).num_tokens

    def draw(self, num: int, version: int, rng: random.Random) -> list[Pick]:
        """`num` groups, or all where there are fewer; the same for the same content and state of `rng`."""
        keys = rng.sample(list(self._entries), min(num, len(self._entries)))
        return [Pick(key=key, weight=1.0) for key in keys]

    def learn(self, errors: Mapping[Key, float]) -> None:
        """How much groups surprised; those that have left are passed over."""

    def chance(self, key: Key) -> Chance | None:
        """What else must survive a restart about a group that is here."""
        return None

    def restore(
        self, groups: Mapping[Key, Group], entered: Mapping[Key, int], chances: Mapping[Key, Chance]
    ) -> None:
        """Into an empty pool: all as it was, in the order of `groups`."""
        for key, group in groups.items():
            self._enter(group, entered[key])

    def _enter(self, group: Group, version: int) -> None:
        if group.key in self._entries:
            raise ValueError(f"the pool already holds group {group.key}")
        entry = Entry(group=group, entered=version, num_tokens=group.num_tokens)
        self._entries[group.key] = entry
        self.num_tokens += entry.num_tokens
