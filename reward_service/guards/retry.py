"""What failed is tried again, after a random pause.

Used by the guard for every request. It does not know what an attempt is. The pause is uniform between 0 and a
bound that doubles ("full jitter", Brooker 2015, "Exponential Backoff And Jitter"), lest all callers of a
service that went down come back at once.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from pydantic import Field

from antiphon.settings import Settings
from reward_service.guards.delivery import Clock
from reward_service.types import Sample, Score, Status

RETRYABLE = frozenset({Status.TIMEOUT, Status.ERROR, Status.UNPARSEABLE})
"""Invalid input stays invalid, and a spent budget is not filled by asking again."""

Attempt = Callable[[Sequence[Sample], float], Awaitable[dict[str, Score]]]
"""Samples and a deadline; a verdict for every sample, by id."""


class RetryConfig(Settings):
    """How often a component is asked again for what it failed at."""

    num_retries: int = Field(2, ge=0)
    """Further attempts at samples with status timeout, error or unparseable, while time is left."""
    first_backoff_s: float = Field(0.1, ge=0.0)
    """The longest pause before the first retry; it doubles with each one."""
    attempt_s: float | None = Field(None, gt=0.0)
    """How long one attempt may take. Without it, an attempt may use all the time there is, so that a
    component that hangs is not tried again."""


class Retry:
    """Repeats an attempt for the samples that failed."""

    def __init__(
        self,
        config: RetryConfig,
        clock: Clock,
        rng: random.Random,
        may_retry: Callable[[], bool],
    ) -> None:
        """
        Args:
            may_retry: asked before each pause and after it.
        """
        self._config, self._clock, self._rng, self._may_retry = config, clock, rng, may_retry
        self._num_retries = 0

    async def run(self, attempt: Attempt, samples: Sequence[Sample], deadline: float) -> dict[str, Score]:
        """The last verdict on every sample, by id; its usage is that of all attempts."""
        verdicts = await attempt(samples, self._limit(deadline))
        longest_s = self._config.first_backoff_s
        for _ in range(self._config.num_retries):
            failed = [s for s in samples if verdicts[s.id].status in RETRYABLE]
            pause_s = self._rng.uniform(0.0, longest_s)
            if not failed or self._clock() + pause_s >= deadline or not await self._pause(pause_s):
                break
            self._num_retries += len(failed)
            again = await attempt(failed, self._limit(deadline))
            verdicts |= {s.id: _later(verdicts[s.id], again[s.id]) for s in failed}
            longest_s *= 2.0
        return verdicts

    async def _pause(self, pause_s: float) -> bool:
        """Whether it is still, or again, worth trying after the pause; where it is not even now, at once."""
        if not self._may_retry():
            return False
        await asyncio.sleep(pause_s)
        return self._may_retry()

    def stats(self) -> dict[str, float]:
        return {"num_retries": self._num_retries}

    def _limit(self, deadline: float) -> float:
        """When an attempt that begins now must have ended."""
        if self._config.attempt_s is None:
            return deadline
        return min(deadline, self._clock() + self._config.attempt_s)


def _later(before: Score, after: Score) -> Score:
    """The verdict after a retry. One that the budget did not allow says nothing new about the sample."""
    if after.status is Status.OVER_BUDGET:
        return before
    return replace(after, usage=before.usage + after.usage)
