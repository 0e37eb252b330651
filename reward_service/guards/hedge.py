"""A second request where the first one is slow cuts the tail (Dean & Barroso 2013, "The Tail at Scale").

Used by the guard around the wire. Pays where a component has several replicas and few answers are slow; set
after_s to what 95 % of the answers need, and one request in twenty is sent twice.
"""

import asyncio
from collections.abc import Callable, Sequence

from pydantic import Field

from antiphon.settings import Settings
from reward_service.guards.delivery import Call, abandon
from reward_service.types import Sample, Score


class HedgeConfig(Settings):
    """The second request."""

    after_s: float = Field(gt=0.0)
    """How long the first one may be silent before the same samples are sent again. Both may be paid for."""


class Hedge:
    """A wire that asks twice where once takes long; a Call like the one that it is around."""

    def __init__(
        self, call: Call, config: HedgeConfig | None, may_hedge: Callable[[Sequence[Sample]], bool]
    ) -> None:
        """
        Args:
            config: None never asks twice.
            may_hedge: asked right before a second request, which is made if it says yes.
        """
        self._call, self._config, self._may_hedge = call, config, may_hedge
        self._num_hedges = self._num_wins = 0

    async def __call__(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        """The first answer; the other request is cancelled. Raises what the first raised if none answers."""
        if self._config is None:
            return await self._call(samples, deadline)
        tasks = [asyncio.create_task(self._ask(samples, deadline))]
        try:
            await asyncio.wait(tasks, timeout=self._config.after_s)
            if not tasks[0].done() and self._may_hedge(samples):
                self._num_hedges += 1
                tasks.append(asyncio.create_task(self._ask(samples, deadline)))
            winner = await _first_answer(tasks)
            self._num_wins += winner is not tasks[0]
            return winner.result()
        finally:
            for task in tasks:
                abandon(task)

    async def _ask(self, samples: Sequence[Sample], deadline: float) -> list[Score]:
        return await self._call(samples, deadline)

    def stats(self) -> dict[str, float]:
        return {"num_hedges": self._num_hedges, "num_wins": self._num_wins}


async def _first_answer(tasks: Sequence[asyncio.Task[list[Score]]]) -> asyncio.Task[list[Score]]:
    """The first task that ends well; the first of all where none does."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        answered = [task for task in tasks if task in done and _has_answer(task)]
        if answered:
            return answered[0]
    return tasks[0]


def _has_answer(task: asyncio.Task[list[Score]]) -> bool:
    return not task.cancelled() and task.exception() is None
