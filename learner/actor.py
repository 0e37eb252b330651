"""The Ray shells of a learner's processes: the same calls, with references where big things travel.

With one rank there is `LearnerActor` alone. With several it is the first, the others are each a
`LearnerActorFollower`, and the driver lets them all `join` before it calls anything else.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import ray
import torch

from antiphon.meters import Meters
from learner.follower import Follower
from learner.process import LearnerProcess, UpdateReport
from learner.ranks import ALONE, Ranks
from learner.rendezvous import Address, find_store, join, open_store
from rollout.trajectory_table import from_table


@ray.remote(max_restarts=0, max_task_retries=0)
class LearnerActor:
    """Not restarted by Ray: what it knows is in the checkpoint, and the run resumes from there."""

    def __init__(
        self,
        make_process: Callable[[Ranks], LearnerProcess],
        num_threads: int,
        meters: Meters,
        num_ranks: int = 1,
        deadline_s: float = 0.0,
    ) -> None:
        """
        Args:
            deadline_s: for a rank to come to what all do together.
        """
        torch.set_num_threads(num_threads)
        self._meters = meters
        self._make_process, self._num_ranks, self._deadline_s = make_process, num_ranks, deadline_s
        if num_ranks == 1:
            self._process = make_process(ALONE)

    def open(self) -> Address:
        """Where the other ranks find this one."""
        host = ray.util.get_node_ip_address()
        self._store, address = open_store(host, self._num_ranks, self._deadline_s)
        return address

    def join(self) -> None:
        ranks = join(self._store, 0, self._num_ranks, self._deadline_s)
        self._process = self._make_process(ranks)

    def warm_up(self) -> dict[str, float]:
        return self._process.warm_up()

    def accept(self, table: pa.Table, keys: frozenset[tuple[int, int]]) -> None:
        """`table` arrives by reference: it comes from the node of the actor that made it."""
        self._process.accept([group for group in from_table(table) if group.key in keys])

    def update(self, version: int) -> UpdateReport:
        with self._timed("update"):
            return self._process.update(version)

    def publish(self, version: int) -> tuple[str, int, list[ray.ObjectRef]]:
        """Digest, size in bytes, and a reference to the packed weights: one put, mapped by every actor."""
        with self._timed("pack"):
            weights = self._process.pack(version)
        self._meters.set("learner/policy_version", version)
        return weights.digest, weights.size_bytes, [ray.put(weights)]

    def save(self, folder: Path) -> None:
        with self._timed("save"):
            self._process.save(folder)

    def load(self, folder: Path) -> None:
        self._process.load(folder)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start_s = time.monotonic()
        yield
        self._meters.add(f"learner/{what}_seconds_total", time.monotonic() - start_s)


@ray.remote(max_restarts=0, max_task_retries=0)
class LearnerActorFollower:
    """Another rank: it is called when the first one is, and says nothing."""

    def __init__(
        self,
        make_follower: Callable[[Ranks], Follower],
        num_threads: int,
        rank: int,
        num_ranks: int,
        deadline_s: float,
    ) -> None:
        torch.set_num_threads(num_threads)
        self._make_follower, self._deadline_s = make_follower, deadline_s
        self._rank, self._num_ranks = rank, num_ranks

    def join(self, address: Address) -> None:
        store = find_store(address, self._num_ranks, self._deadline_s)
        self._process = self._make_follower(join(store, self._rank, self._num_ranks, self._deadline_s))

    def update(self, version: int) -> None:
        self._process.update(version)

    def publish(self, version: int) -> None:
        self._process.pack(version)

    def save(self, folder: Path) -> None:
        self._process.save()

    def load(self, folder: Path) -> None:
        self._process.load(folder)
