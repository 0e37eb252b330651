"""A circuit breaker: a component that keeps failing is left alone for a while, then tried with single calls.

        closed --(share of failures)--> open --(open_s)--> half open --(probes pass)--> closed
                                          ^-----(a probe fails)----'

Used by the guard, from one event loop. What counts is the call: one that lost 256 samples at once, because a
replica died, is one failure and not 256 of them.
"""

from collections import deque
from typing import Literal

from pydantic import Field

from antiphon.settings import Settings
from reward_service.guards.delivery import Clock

ROUNDING = 1e-9
"""Shares are added and subtracted as they come and go."""
State = Literal["closed", "half_open", "open"]


class BreakerConfig(Settings):
    """When a component is left alone. Samples then have status error at once, and nobody waits for a dead
    judge."""

    max_failed_share: float = Field(0.5, gt=0.0, le=1.0)
    """Share of samples with status error or timeout, as the mean over the calls of the window, from which on
    the circuit is open. Raise it for a judge that is known to be flaky."""
    window_s: float = Field(60.0, gt=0.0)
    """How far back calls count."""
    min_calls: int = Field(5, ge=1)
    """With fewer calls in the window nothing is concluded."""
    open_s: float = Field(10.0, gt=0.0)
    """How long the component is left alone before it is tried again."""
    num_probes: int = Field(1, ge=1)
    """Calls that must pass, one after the other or side by side, before all are let through again."""


class Permit:
    """The right to one call. It must be given back with `report`, whatever happens."""

    def __init__(self, breaker: "Breaker", era: int) -> None:
        self._breaker, self._era = breaker, era

    def report(self, failed_share: float | None) -> None:
        """
        Args:
            failed_share: of the samples of the call, 0 to 1; None where the call was not made or not waited
                for.
        """
        self._breaker._report(self._era, failed_share)


class Breaker:
    """Counts how calls end, and says whether the next one is worth making."""

    def __init__(self, config: BreakerConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._calls: deque[tuple[float, float]] = deque()
        """When each call of the window ended, and the share that failed."""
        self._sum = 0.0
        """Of the shares in the window."""
        self._opened_at: float | None = None
        self._era = 0
        """Grows whenever the circuit opens or closes: what ends in another era than it began in says nothing
        new."""
        self._num_probing = self._num_passed = 0
        self._num_opened = self._num_refused = 0

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock() < self._opened_at + self._config.open_s else "half_open"

    def would_admit(self) -> bool:
        """Whether a call would be let through now."""
        if self.state == "half_open":
            return self._num_probing + self._num_passed < self._config.num_probes
        return self.state == "closed"

    def admit(self) -> Permit | None:
        """The right to one call; None while the component is left alone."""
        if not self.would_admit():
            self._num_refused += 1
            return None
        self._num_probing += self.state == "half_open"
        return Permit(self, self._era)

    def why(self) -> str:
        """What a sample that is refused is told."""
        if self._opened_at is None or self.state == "half_open":
            return "circuit open: the component failed, and one call is trying whether it still does"
        wait_s = self._opened_at + self._config.open_s - self._clock()
        return f"circuit open: the component failed, and is tried again in {wait_s:.1f} s"

    def stats(self) -> dict[str, float]:
        """`state` is 0 closed, 0.5 half open, 1 open."""
        return {
            "state": {"closed": 0.0, "half_open": 0.5, "open": 1.0}[self.state],
            "num_opened": self._num_opened,
            "num_refused": self._num_refused,
        }

    def _report(self, era: int, failed_share: float | None) -> None:
        if era != self._era:
            return
        if self._opened_at is not None:
            self._judge_probe(failed_share)
        elif failed_share is not None:
            self._judge_window(failed_share)

    def _judge_probe(self, failed_share: float | None) -> None:
        self._num_probing -= 1
        if failed_share is None:
            return
        if failed_share >= self._config.max_failed_share:
            self._turn(opened_at=self._clock())
            return
        self._num_passed += 1
        if self._num_passed >= self._config.num_probes:
            self._turn(opened_at=None)

    def _judge_window(self, failed_share: float) -> None:
        now = self._clock()
        self._calls.append((now, failed_share))
        self._sum += failed_share
        while self._calls[0][0] < now - self._config.window_s:
            self._sum -= self._calls.popleft()[1]
        num_calls = len(self._calls)
        is_bad = self._sum >= self._config.max_failed_share * num_calls - ROUNDING
        if num_calls >= self._config.min_calls and is_bad:
            self._turn(opened_at=now)

    def _turn(self, opened_at: float | None) -> None:
        """Opens or closes the circuit, and forgets what led to it."""
        self._opened_at = opened_at
        self._num_opened += opened_at is not None
        self._era += 1
        self._num_probing = self._num_passed = 0
        self._calls.clear()
        self._sum = 0.0
