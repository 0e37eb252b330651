"""The chain around the call of one component, and the only file of this folder that the gateway needs.

    samples -> cache -> flights -> retry -> breaker -> budget -> hedge -> wire -> component

One guard per component and service, used from one event loop. Whatever the wire does, every sample gets
exactly one score by the deadline, and it is its own.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from antiphon.settings import Settings
from reward_service.bundle import check_ids
from reward_service.guards.breaker import Breaker, BreakerConfig
from reward_service.guards.budget import Budget, BudgetConfig
from reward_service.guards.cache import Cache, CacheConfig
from reward_service.guards.delivery import Call, Clock, deliver, failures
from reward_service.guards.flights import Flight, Flights, unowned, wait_for
from reward_service.guards.hedge import Hedge, HedgeConfig
from reward_service.guards.identity import Identity
from reward_service.guards.retry import Retry, RetryConfig
from reward_service.guards.spending import Estimate, Spending
from reward_service.guards.tally import Tally
from reward_service.types import NOTHING, Sample, Score, Status, Usage

BROKEN = frozenset({Status.ERROR, Status.TIMEOUT})
"""What speaks against the component. The other statuses speak of a sample, of a budget or of a judge's
manners."""


class GuardConfig(Settings):
    """How a component is asked."""

    cache: CacheConfig = CacheConfig()
    """Scores that are not asked for twice."""
    retry: RetryConfig = RetryConfig()
    """What failed is tried again."""
    breaker: BreakerConfig = BreakerConfig()
    """A component that keeps failing is left alone for a while."""
    budget: BudgetConfig = BudgetConfig()
    """What may be spent in an hour."""
    hedge: HedgeConfig | None = None
    """A second request where the first is slow; none unless set."""


def _costs_nothing(sample: Sample) -> Usage:
    return NOTHING


@dataclass(frozen=True, slots=True)
class _Request:
    """A call of the guard: all its samples, and the key of each by its id."""

    samples: Sequence[Sample]
    keys: Mapping[str, str]


class Guard:
    """Scores samples by one component, with measure."""

    def __init__(
        self,
        call: Call,
        identity: Identity,
        config: GuardConfig,
        *,
        estimate: Estimate = _costs_nothing,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """
        Args:
            call: the wire to the component.
            identity: what the component is; the cache depends on it.
            estimate: what a sample will cost at most (Reward.estimate); asked only where the budget is
                limited.
            clock: what deadlines are on; must be that of the event loop.
            wall_clock: seconds since 1970, by which the hour of the budget is counted.
            rng: draws the pauses before retries.

        Raises:
            UserError: the cache cannot be opened.
        """
        self._identity, self._clock = identity, clock
        self._cache = Cache(config.cache)
        self._flights = Flights()
        self._breaker = Breaker(config.breaker, clock)
        self._budget = Budget(config.budget, wall_clock)
        is_limited = config.budget.is_limited
        self._spending = Spending(self._budget, is_limited, identity, estimate)
        self._retry = Retry(config.retry, clock, rng or random.Random(), self._breaker.would_admit)
        self._wire = Hedge(call, config.hedge, self._may_hedge)
        self._tally = Tally()

    async def score(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        """One score per sample, in the same order, by `deadline`; nothing is raised for a sample that fails.

        A score that was remembered, or made for another sample, has no latency and no usage.

        Raises:
            ValueError: two samples have the same id.
        """
        check_ids(samples)
        request = _Request(samples, self._identity.keys_of(samples))
        wanted = dict.fromkeys(request.keys.values())
        found = await self._cache.find(wanted, deadline - self._clock())
        if len(found) < len(wanted):
            found |= await self._fly(request, [key for key in wanted if key not in found], deadline)
        return self._tally.count([_of(s, found[request.keys[s.id]]) for s in samples])

    def stats(self) -> dict[str, float]:
        """Counts since the start, and gauges; the names are `<part>/<what>`."""
        parts = {
            "cache": self._cache.stats(),
            "flights": self._flights.stats(),
            "retry": self._retry.stats(),
            "breaker": self._breaker.stats(),
            "budget": self._budget.stats(),
            "hedge": self._wire.stats(),
            "scores": self._tally.stats(),
        }
        return {f"{part}/{name}": value for part, stats in parts.items() for name, value in stats.items()}

    def state_dict(self) -> dict[str, Any]:
        """What must survive a restart: the spending of the last hour. JSON-able."""
        return {"budget": self._budget.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._budget.load_state_dict(state["budget"])

    def close(self) -> None:
        """Writes what the cache has not written yet. Blocks; nothing may be scored afterwards."""
        self._cache.close()

    async def _fly(self, request: _Request, keys: Sequence[str], deadline: float) -> dict[str, Score]:
        """A score for every key: made here, or for another request that is making it already."""
        sample_of = {request.keys[s.id]: s for s in reversed(request.samples)}
        found: dict[str, Score] = {}
        missing = list(keys)
        while missing:
            joined = self._flights.joined(missing)
            free = [key for key in missing if key not in joined]
            found |= await self._lead(request, [sample_of[key] for key in free], deadline)
            found |= await wait_for(joined, deadline - self._clock())
            missing = [key for key in missing if key not in found]
            if missing and self._clock() >= deadline:
                late = failures([sample_of[key] for key in missing], Status.TIMEOUT, "no answer in time")
                found |= {request.keys[id_]: score for id_, score in late.items()}
                break
        return found

    async def _lead(self, request: _Request, samples: Sequence[Sample], deadline: float) -> dict[str, Score]:
        """The scores of samples that nobody else is scoring, by key."""
        if not samples:
            return {}
        begun = self._flights.begin(request.keys[s.id] for s in samples)
        try:
            attempt = partial(self._attempt, request, begun)
            verdicts = await self._retry.run(attempt, samples, deadline)
            scores = {request.keys[s.id]: verdicts[s.id] for s in samples}
            for key, score in scores.items():
                # This request is out of time; those that wait for it may have some left.
                self._flights.end(key, begun[key], None if score.status is Status.TIMEOUT else score)
            return scores
        finally:
            for key, flight in begun.items():
                self._flights.end(key, flight, None)

    async def _attempt(
        self, request: _Request, begun: Mapping[str, Flight], samples: Sequence[Sample], deadline: float
    ) -> dict[str, Score]:
        """One try: refused, or sent."""
        if self._clock() >= deadline:
            return failures(samples, Status.TIMEOUT, "the deadline had passed before it was sent")
        permit = self._breaker.admit()
        if permit is None:
            return failures(samples, Status.ERROR, self._breaker.why())
        failed_share = None
        try:
            verdicts, failed_share = await self._send(
                self._identity.companions(samples, request.samples), deadline
            )
        finally:
            permit.report(failed_share)
        # At once, so that others have them even if the rest of this request takes long, or is given up.
        ok = {request.keys[s.id]: verdicts[s.id] for s in samples if verdicts[s.id].is_ok}
        self._cache.store(ok)
        for key, score in ok.items():
            self._flights.end(key, begun[key], score)
        return {s.id: verdicts[s.id] for s in samples}

    async def _send(
        self, samples: Sequence[Sample], deadline: float
    ) -> tuple[dict[str, Score], float | None]:
        """A verdict for every sample, by id, and the share of what was sent that the component failed at."""
        purchases, verdicts = self._spending.reserve(samples)
        sent = [s for purchase in purchases for s in purchase.samples]
        if not sent:
            return verdicts, None
        answered = await deliver(self._wire, sent, deadline, self._clock)
        self._spending.settle(purchases, answered)
        num_failed = sum(score.status in BROKEN for score in answered.values())
        return verdicts | answered, num_failed / len(sent)

    def _may_hedge(self, samples: Sequence[Sample]) -> bool:
        return self._breaker.state == "closed" and self._spending.affords_twice(samples)


def _of(sample: Sample, score: Score) -> Score:
    """The verdict on the content of a sample as the sample's own."""
    return score if score.id == sample.id else replace(unowned(score), id=sample.id)
