"""Samples that are being scored right now: whoever asks for the same one meanwhile waits for that score.

Used by the guard, from one event loop. A flight belongs to the request that began it. When that request gives
up, by its deadline or because its caller left, one of those that wait takes the sample over.
"""

import asyncio
from collections.abc import Collection, Iterable

from reward_service.types import Score

Flight = asyncio.Future[Score | None]
"""Ends with the score, or with None when the request that began it gave up."""


class Flights:
    """The flights of one component, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}
        self._num_joined = 0

    def begin(self, keys: Iterable[str]) -> dict[str, Flight]:
        """A new flight for each key, none of which has one; each must be ended."""
        loop = asyncio.get_running_loop()
        begun: dict[str, Flight] = {key: loop.create_future() for key in keys}
        self._flights |= begun
        return begun

    def end(self, key: str, flight: Flight, score: Score | None) -> None:
        """Gives the score to all that wait for it, as nobody's own; does nothing to a flight that has
        ended."""
        if flight.done():
            return
        flight.set_result(None if score is None else unowned(score))
        del self._flights[key]

    def joined(self, keys: Collection[str]) -> dict[str, Flight]:
        """The flights of those keys that have one."""
        found = {key: self._flights[key] for key in keys if key in self._flights}
        self._num_joined += len(found)
        return found

    def stats(self) -> dict[str, float]:
        return {"num_joined": self._num_joined, "num_in_flight": len(self._flights)}


async def wait_for(flights: dict[str, Flight], timeout_s: float) -> dict[str, Score]:
    """The scores of the flights that end in time with one."""
    if flights:
        # One future is waited for by many: asyncio.wait cancels none of them when a waiter leaves.
        await asyncio.wait(flights.values(), timeout=max(0.0, timeout_s))
    ended = {key: flight.result() for key, flight in flights.items() if flight.done()}
    return {key: score for key, score in ended.items() if score is not None}


def unowned(score: Score) -> Score:
    """The verdict without whose it is, how long it took and what it cost: those count once."""
    return Score(id="", status=score.status, value=score.value, parts=score.parts, message=score.message)
