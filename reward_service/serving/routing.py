"""Which replica gets a request: the one that owes this caller the fewest answers, in turn among equals.

Serve's own choice goes by queue lengths that replicas reported when they accepted earlier requests. The
requests of one large call leave before any report is back, and most of them went to one replica
(benchmarks/reward_speed.py).
"""

from collections import Counter
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica


class FewestOwed(FIFOMixin, RequestRouter):
    """One per handle; FIFO, as requests with a deadline should be."""

    def initialize_state(self, **kwargs: Any) -> None:
        self._owed: Counter[ReplicaID] = Counter()
        self._num_choices = 0

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """All replicas, one per rank: a replica that is full is passed over for the next."""
        if not candidate_replicas:
            return []
        self._num_choices += 1
        first = self._num_choices % len(candidate_replicas)
        in_turn = candidate_replicas[first:] + candidate_replicas[:first]
        return [[r] for r in sorted(in_turn, key=lambda r: self._owed[r.replica_id])]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        self._owed[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._owed[replica_id] -= 1
        if self._owed[replica_id] <= 0:
            del self._owed[replica_id]
