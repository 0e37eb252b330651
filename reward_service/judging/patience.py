"""How long to leave an endpoint alone that refuses requests for being too many.

Called by the openai backend. Pure but for the clock and the dice, which are handed in.
"""

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Without a word from the endpoint pauses double from the first to the longest, each with full jitter."""
SPREAD = 0.1
"""After a pause that the endpoint named, requests come back within so much more of it, not all at once."""


class Gate:
    """Closed for all requests of a backend while the endpoint asks for patience."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock, self._draw = clock, draw
        self._opens_at = -math.inf
        self._num_refusals = 0

    def pause_s(self) -> float:
        """Seconds until the next request may go out; 0 when the gate is open."""
        return max(0.0, self._opens_at - self._clock())

    def refused(self, retry_after_s: float | None) -> None:
        """A request came back unserved; `retry_after_s` is what the endpoint said, None for nothing."""
        now = self._clock()
        if retry_after_s is not None:
            pause_s = retry_after_s * (1.0 + SPREAD * self._draw())
        elif now < self._opens_at:
            # Sent before the gate closed: it tells nothing new, and must not double the pause once more.
            return
        else:
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._num_refusals) * self._draw()
            self._num_refusals += 1
        self._opens_at = max(self._opens_at, now + pause_s)

    def served(self) -> None:
        """A request got through."""
        self._num_refusals = 0


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: a number, or a date); None for nothing.

    Args:
        now: with a time zone; the present unless given.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
