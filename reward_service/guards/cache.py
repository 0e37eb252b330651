"""The scores that a component gave before: the most recently used in memory, more of them on disk if wanted.

Used by the guard, from one event loop. Only ok scores come here: a failure may pass, a score does not. The
cache does not know what its keys mean (identity.py does).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import Field, model_validator

from antiphon.settings import Settings
from reward_service.guards.disk import Disk
from reward_service.guards.flights import unowned
from reward_service.types import Score


class CacheConfig(Settings):
    """What is remembered of a component's scores."""

    max_entries: int = Field(65536, ge=0)
    """Scores kept in memory, around 1 kB each; 0 for a component whose scores must not be remembered."""
    path: str | None = None
    """A folder for scores that outlive the service; runs and components may share it. Needs diskcache. Worth
    it for whatever costs money or a forward pass."""
    max_disk_bytes: int = Field(2**30, ge=2**20)
    """Size of the folder beyond which the scores stored first are dropped."""

    @model_validator(mode="after")
    def _memory_before_disk(self) -> Self:
        if self.path is not None and self.max_entries == 0:
            raise ValueError("path is set, but max_entries is 0, so that nothing is remembered")
        return self


class Cache:
    """Scores by key; never a reason for a sample to fail."""

    def __init__(self, config: CacheConfig) -> None:
        """
        Raises:
            UserError: diskcache is not installed, or there can be no cache in `path`.
        """
        self._max_entries = config.max_entries
        self._memory: OrderedDict[str, Score] = OrderedDict()
        self._disk = None if config.path is None else Disk(config.path, config.max_disk_bytes)
        self._num_hits = self._num_disk_hits = self._num_misses = 0

    async def find(self, keys: Iterable[str], timeout_s: float) -> dict[str, Score]:
        """The scores that are there, by key. Their ids are empty: they belong to any sample with that key."""
        wanted = list(keys)
        found = self._recall(wanted)
        if self._disk is not None and len(found) < len(wanted):
            stored = await self._disk.find([key for key in wanted if key not in found], timeout_s)
            self._num_disk_hits += len(stored)
            self._remember(stored)
            # While the disk was read, another request may have scored what it does not hold.
            found = self._recall(wanted) | stored
        self._num_hits += len(found)
        self._num_misses += len(wanted) - len(found)
        return found

    def store(self, scores: Mapping[str, Score]) -> None:
        """Remembers ok scores, by key."""
        if self._max_entries == 0:
            return
        entries = {key: unowned(score) for key, score in scores.items()}
        self._remember(entries)
        if self._disk is not None and entries:
            self._disk.store(entries)

    def close(self) -> None:
        """Writes what is not on disk yet, and closes the files."""
        if self._disk is not None:
            self._disk.close()

    def stats(self) -> dict[str, float]:
        """Counts of keys looked up, and the share of hits among them (0 before the first)."""
        num_asked = self._num_hits + self._num_misses
        return {
            "num_hits": self._num_hits,
            "num_disk_hits": self._num_disk_hits,
            "num_misses": self._num_misses,
            "hit_ratio": self._num_hits / num_asked if num_asked else 0.0,
            "num_entries": len(self._memory),
            "num_disk_errors": 0 if self._disk is None else self._disk.num_errors,
        }

    def _recall(self, keys: Iterable[str]) -> dict[str, Score]:
        found = {key: score for key in keys if (score := self._memory.get(key)) is not None}
        for key in found:
            self._memory.move_to_end(key)
        return found

    def _remember(self, entries: Mapping[str, Score]) -> None:
        for key, score in entries.items():
            self._memory[key] = score
            self._memory.move_to_end(key)
        while len(self._memory) > self._max_entries:
            self._memory.popitem(last=False)
