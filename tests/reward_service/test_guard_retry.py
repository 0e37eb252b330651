"""The pauses before retries."""

import random
from collections.abc import Callable, Sequence

from antiphon.settings import parse
from reward_service.guards.retry import Retry, RetryConfig
from reward_service.types import Sample, Score
from tests.reward_service.fakes_guards import failed, now, run, sample


class Longest(random.Random):
    """Always draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def moments(
    rng: random.Random, deadline: float, num_retries: int = 4, may_retry: Callable[[], bool] = lambda: True
) -> list[float]:
    """When attempts were made that all failed."""
    seen: list[float] = []

    async def attempt(samples: Sequence[Sample], until: float) -> dict[str, Score]:
        seen.append(now())
        return {s.id: failed(s) for s in samples}

    async def main() -> None:
        config = parse(RetryConfig, {"num_retries": num_retries, "first_backoff_s": 1.0})
        await Retry(config, now, rng, may_retry).run(attempt, [sample("1")], deadline)

    run(main())
    return seen


def test_the_longest_pause_doubles() -> None:
    # Pauses of 1, 2, 4, 8 s.
    assert moments(Longest(), 100.0) == [0.0, 1.0, 3.0, 7.0, 15.0]


def test_nothing_is_tried_that_cannot_begin_before_the_deadline() -> None:
    assert moments(Longest(), 7.0) == [0.0, 1.0, 3.0]


def test_pauses_are_spread_over_the_whole_range() -> None:
    first = [moments(random.Random(seed), 100.0, num_retries=1)[1] for seed in range(200)]
    # Uniform on [0, 1]: a mean of 1/2 with a standard error of 0.29 / sqrt(200) = 0.02.
    assert abs(sum(first) / 200 - 0.5) < 0.1
    assert min(first) < 0.1
    assert max(first) > 0.9


def test_what_became_hopeless_during_the_pause_is_not_tried() -> None:
    # The second retry would be at 3 s.
    assert moments(Longest(), 100.0, may_retry=lambda: now() < 2.5) == [0.0, 1.0]
