"""An event loop whose time is free, and wires that misbehave on command."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from reward_service.types import NOTHING, Sample, Score, Status, Usage

T = TypeVar("T")


class Leaper(selectors.SelectSelector):
    """Where the loop would sleep, time leaps; where it would sleep for ever, the test fails."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits for something that will never come")
        self.now += max(0.0, timeout)
        return super().select(0)


class FreeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaper = Leaper()
        super().__init__(self._leaper)

    def time(self) -> float:
        return self._leaper.now


def now() -> float:
    """The clock of the running loop."""
    return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs in a loop whose time begins at 0 and costs nothing."""
    with asyncio.Runner(loop_factory=FreeTimeLoop) as runner:
        return runner.run(main)


def sample(completion: str, id: str | None = None, **fields: Any) -> Sample:
    return Sample(
        **{"id": completion if id is None else id, "prompt": "p", "completion": completion, **fields}
    )


def ok(s: Sample, value: float | None = None, usage: Usage = NOTHING) -> Score:
    """The score of a sample whose completion is its score."""
    number = float(s.completion) if value is None else value
    return Score(id=s.id, status=Status.OK, value=number, parts={"x": number}, latency_s=0.5, usage=usage)


def failed(s: Sample, status: Status = Status.ERROR, usage: Usage = NOTHING) -> Score:
    return Score(id=s.id, status=status, message="so it was told", usage=usage)


async def honest(samples: Sequence[Sample]) -> list[Score]:
    return [ok(s) for s in samples]


Turn = Callable[[Sequence[Sample]], Awaitable[Any]]


class Tape:
    """A wire that answers its n-th request by its n-th turn, and honestly when the turns are over."""

    def __init__(self, *turns: Turn) -> None:
        self._turns = list(turns)
        self.sent: list[list[str]] = []
        """The ids of each request."""
        self.times: list[float] = []
        """When each was sent."""
        self.num_cancelled = 0

    async def __call__(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        self.sent.append([s.id for s in samples])
        self.times.append(now())
        turn = self._turns.pop(0) if self._turns else honest
        try:
            answer: list[Score] = await turn(samples)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        return answer


def says(status: Status, usage: Usage = NOTHING) -> Turn:
    """All samples have this status."""

    async def turn(samples: Sequence[Sample]) -> list[Score]:
        return [ok(s, usage=usage) if status is Status.OK else failed(s, status, usage) for s in samples]

    return turn


def raises(error: BaseException) -> Turn:
    async def turn(samples: Sequence[Sample]) -> list[Score]:
        raise error

    return turn


def answers(answer: Any) -> Turn:
    """Exactly this, whatever was asked."""

    async def turn(samples: Sequence[Sample]) -> Any:
        return answer

    return turn


def after(delay_s: float, then: Turn = honest) -> Turn:
    async def turn(samples: Sequence[Sample]) -> Any:
        await asyncio.sleep(delay_s)
        return await then(samples)

    return turn


async def deaf(samples: Sequence[Sample]) -> list[Score]:
    """Never answers, and does not heed being cancelled."""
    try:
        await asyncio.sleep(1e6)
    except asyncio.CancelledError:
        await asyncio.sleep(1.0)
    return []
