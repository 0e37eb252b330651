"""The whole service in each replica: all components are quick, nothing must be known in one place."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reward_service.config import RewardConfig
from reward_service.local import LocalClient
from reward_service.serving.watched import watched
from reward_service.types import Sample, Score


class Simple:
    """The whole service in each replica, where nothing must be known in one place: one hop instead of two.

    Asked by handle as the gateway is; there is no door to it.
    """

    def __init__(self, config: RewardConfig) -> None:
        self._config, self._local = config, LocalClient(config)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")

    async def score(self, samples: Sequence[Sample], timeout_s: float | None = None) -> list[Score]:
        """One score per sample, in the same order."""
        limit_s = min(timeout_s or self._config.deadline_s, self._config.deadline_s)
        deadline = time.monotonic() + limit_s
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._thread, watched, self._local.score_until, samples, deadline)

    async def ping(self) -> None:
        """Answers while the replica is there, busy or not."""

    async def stats(self) -> dict[str, dict[str, float]]:
        """What one replica counts."""
        return self._local.stats()

    async def state(self) -> dict[str, Any]:
        return self._local.state_dict()

    async def load(self, state: dict[str, Any]) -> None:
        self._local.load_state_dict(state)
