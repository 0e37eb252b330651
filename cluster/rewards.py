"""The reward service as the driver sees it: what it counts, and what it must not forget."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from reward_service.client import RewardClient

LOST = (TimeoutError, ConnectionError)


@runtime_checkable
class Owned(Protocol):
    """A client of a service that belongs to the run."""

    def stats(self) -> Mapping[str, Mapping[str, float]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Rewards:
    """Metrics and state of the rewards of a run.

    A service that others run also counts for all of them and keeps its own state: here it has neither.
    """

    def __init__(self, client: RewardClient) -> None:
        self._client = client if isinstance(client, Owned) else None
        self._newest = ""

    def metrics(self) -> dict[str, float]:
        """What the service counted so far, without zeros; nothing while it does not answer."""
        if self._client is None:
            return {}
        try:
            stats = self._client.stats()
        except LOST:
            return {}
        counted = {f"rewards/{label}/{name}": x for label, s in stats.items() for name, x in s.items()}
        return {name: value for name, value in counted.items() if value}

    def state_dict(self) -> dict[str, Any]:
        """One text, as labels may hold what a checkpoint's keys may not.

        The newest that is known where the service does not answer: that must not cost the run its checkpoint.
        """
        if self._client is not None:
            with contextlib.suppress(*LOST):
                self._newest = json.dumps(self._client.state_dict())
        return {"gateway": self._newest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._newest = state["gateway"]
        if self._client is not None and self._newest:
            self._client.load_state_dict(json.loads(self._newest))
