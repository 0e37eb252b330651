"""The whole reward service in this process: for debugging, for runs without Ray, and for scoring files.

Components are called directly, one after the other, so that a breakpoint in a reward can be sat upon.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from reward_service.bundle import Bundle, Scorer, judge
from reward_service.config import RewardConfig
from reward_service.isolation.pool import Pool
from reward_service.lines import BUNDLE, Call, build_all, build_gateway, is_bundled
from reward_service.types import Sample, Score

FOR_EVER_S = 10 * 365 * 86400.0
"""A deadline that a person in a debugger does not miss."""


class LocalClient:
    """A gateway whose components live here. One thread at a time."""

    def __init__(
        self, config: RewardConfig, *, is_isolated: bool = False, deadline_s: float = FOR_EVER_S
    ) -> None:
        """
        Args:
            is_isolated: components of placement isolated run in child processes, as in the service.
            deadline_s: for one call; what runs in this process is not interrupted by it.

        Raises:
            UserError: a mistake in the recipe, or something missing that a component loads.
        """
        rewards = build_all(config)
        self._deadline_s, self._rewards = deadline_s, rewards
        isolated = {
            c.shown_as: (c.name, c.options)
            for c in config.components
            if is_isolated and rewards[c.shown_as].placement == "isolated"
        }
        self._pool = Pool(isolated, config.isolation) if isolated else None
        for label, reward in rewards.items():
            if label not in isolated:
                reward.start()
        scorers: dict[str, Scorer] = {label: reward.score for label, reward in rewards.items()}
        bundled = {
            c.shown_as: scorers[c.shown_as] for c in config.components if is_bundled(c, rewards[c.shown_as])
        }
        scorers[BUNDLE] = Bundle(bundled).score
        calls = {label: _direct(scorer) for label, scorer in scorers.items()}
        calls |= {label: self._in_pool(label) for label in isolated}
        self._gateway = build_gateway(config, calls.__getitem__)
        # One loop for all calls: what guards hold belongs to it.
        self._loop = asyncio.new_event_loop()

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in the same order; ids must differ within a call."""
        return self.score_until(samples, time.monotonic() + self._deadline_s)

    def score_until(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        """The same with a deadline of its own, on the monotonic clock."""
        return self._loop.run_until_complete(self._gateway.score(samples, deadline))

    def stats(self) -> dict[str, dict[str, float]]:
        """What guards, fusion and components count."""
        stats = self._gateway.stats()
        for label, reward in self._rewards.items():
            if said := reward.stats():
                stats.setdefault(label, {}).update({f"component/{k}": v for k, v in said.items()})
        return stats

    def state_dict(self) -> dict[str, Any]:
        return self._gateway.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._gateway.load_state_dict(dict(state))

    def close(self) -> None:
        """Ends the child processes, if there are any, and writes what a cache on disk has not written yet."""
        self._gateway.close()
        if self._pool is not None:
            self._pool.close()
        self._loop.close()

    def _in_pool(self, label: str) -> Call:
        pool = self._pool
        assert pool is not None

        async def call(samples: Sequence[Sample], deadline: float) -> list[Score]:
            return await asyncio.to_thread(pool.score, label, samples, deadline)

        return call


def _direct(scorer: Scorer) -> Call:
    async def call(samples: Sequence[Sample], deadline: float) -> list[Score]:
        return list(judge(scorer, samples).values())

    return call
