"""A pool of logged groups: all of them where they fit into memory, else a window that moves over them."""

import random
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learner.logged import Logged, piece_of
from learner.logged_stream import LoggedStream
from learner.replay import Key
from learner.replays.files import keys_in, load_entries, save_entries
from learner.replays.pool import Pick, Pool
from rollout.types import Group

ENTRIES = "logged_entries.parquet"


class Window:
    """Reads when it is first drawn from, and as far as its room lets it.

    Where not everything fits, as many of the oldest groups leave after a draw as were drawn, and others come
    before the next one: each is here for about as many draws as would draw it once.
    """

    def __init__(self, logged: Logged, pool: Pool, *, seed: int, capacity_tokens: int) -> None:
        self.pool = pool
        self._logged = logged
        self._stream = LoggedStream(logged, seed)
        self._capacity_tokens = capacity_tokens
        self._has_moved = False

    @property
    def num_passes(self) -> int:
        """How often all logged groups were read."""
        return self._stream.num_passes

    @property
    def is_whole(self) -> bool:
        """Whether all logged groups are here."""
        return self._stream.num_passes > 0 and not self._has_moved

    def draw(self, num: int, version: int, rng: random.Random) -> list[Pick]:
        """At most `num` groups; look them up in `pool` before the next draw."""
        while not self.is_whole and self.pool.num_tokens < self._capacity_tokens:
            group = self._stream.next()
            if group.key not in self.pool:
                self.pool.add(group, version)
        return self.pool.draw(min(num, len(self.pool)), version, rng)

    def move(self, num: int) -> None:
        """After a draw of `num` groups: make room for as many others."""
        if num and not self.is_whole:
            self._has_moved = True
            for _ in range(num):
                self.pool.remove(self.pool.oldest)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write which groups are here, not the groups; returns the rest of the state, JSON-able."""
        save_entries(self.pool, folder / ENTRIES)
        stream = self._stream.state_dict()
        return {"stream": stream, "has_moved": self._has_moved, "logged": self._logged.state_dict()}

    def load(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Take up what `save` wrote and returned; reads the groups from where they are stored.

        Raises:
            UserError: the stores are no longer as they were.
        """
        self._logged.load_state_dict(state["logged"])
        self._stream.load_state_dict(state["stream"])
        self._has_moved = state["has_moved"]
        load_entries(self.pool, folder / ENTRIES, self._read(keys_in(folder / ENTRIES)))

    def _read(self, keys: list[Key]) -> dict[Key, Group]:
        """The groups with these keys, each piece read once."""
        wanted: defaultdict[int, set[Key]] = defaultdict(set)
        for key in keys:
            wanted[piece_of(key)].add(key)
        return {
            group.key: group
            for piece, own in wanted.items()
            for group in self._logged.read(piece)
            if group.key in own
        }
