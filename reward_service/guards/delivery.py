"""One verdict per sample by the deadline, whatever the wire to the component does.

Called by the guard for every attempt. It knows nothing of retries, budgets or caches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from reward_service.bundle import by_id
from reward_service.reward import in_one_line
from reward_service.types import Sample, Score, Status

Call = Callable[[Sequence[Sample], float], Awaitable[list[Score]]]
"""The wire to a component: samples, and a deadline on the monotonic clock. It may raise TimeoutError or
ConnectionError, and may answer late, partly, or in another order."""

Clock = Callable[[], float]
"""Seconds, from any origin."""


async def deliver(call: Call, samples: Sequence[Sample], deadline: float, clock: Clock) -> dict[str, Score]:
    """A verdict for every sample, by id. Returns by the deadline even if the call does not."""
    task = asyncio.create_task(_ask(call, samples, deadline))
    try:
        await asyncio.wait({task}, timeout=deadline - clock())
        return _answer(task, samples)
    finally:
        abandon(task)


async def _ask(call: Call, samples: Sequence[Sample], deadline: float) -> dict[str, Score]:
    """What the wire brought, by id; what is no score is left out."""
    return by_id([score for score in await call(samples, deadline) if isinstance(score, Score)])


def _answer(task: asyncio.Task[dict[str, Score]], samples: Sequence[Sample]) -> dict[str, Score]:
    """The verdicts that the task came back with, or what kept it from that."""
    answered: dict[str, Score] = {}
    status, message = Status.ERROR, "the answer left the sample out"
    if not task.done():
        status, message = Status.TIMEOUT, "no answer within the deadline"
    elif task.cancelled():
        message = "the request was cancelled on its way"
    else:
        try:
            answered = task.result()
        except TimeoutError as error:
            status, message = Status.TIMEOUT, str(error) or "no answer within the deadline"
        except ConnectionError as error:
            message = f"the component was lost: {error}"
        except Exception as error:  # Behind the wire is untrusted code, and it may answer anything.
            message = in_one_line(error)
    return failures([s for s in samples if s.id not in answered], status, message) | {
        s.id: answered[s.id] for s in samples if s.id in answered
    }


def failures(samples: Iterable[Sample], status: Status, message: str) -> dict[str, Score]:
    """The same failure for each sample, by id."""
    return {s.id: Score(id=s.id, status=status, message=message) for s in samples}


def abandon(task: asyncio.Task[dict[str, Score]] | asyncio.Task[list[Score]]) -> None:
    """Cancels a task that nobody waits for any more; one that does not heed it may end when it likes."""
    task.cancel()
    task.add_done_callback(_look_at)


def _look_at(task: asyncio.Task[dict[str, Score]] | asyncio.Task[list[Score]]) -> None:
    """Takes note of an exception, which asyncio would otherwise report as never retrieved."""
    if not task.cancelled():
        task.exception()
