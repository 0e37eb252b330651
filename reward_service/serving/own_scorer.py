"""The replica of a component with a deployment of its own, as models and judges; batches across requests."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ray import serve

from reward_service.building import build_reward
from reward_service.bundle import judge
from reward_service.client import seconds_until
from reward_service.config import ComponentConfig
from reward_service.types import Sample, Score


class OwnScorer:
    """One component with whatever it holds; requests that wait together are scored together."""

    def __init__(self, component: ComponentConfig, where: str) -> None:
        self._reward = build_reward(component.name, component.options, where)
        self._reward.start()
        self._label = component.shown_as
        service = component.service
        size = service.max_ongoing_requests if self._reward.is_concurrent else 1
        self._threads = ThreadPoolExecutor(max_workers=size, thread_name_prefix=component.shown_as)
        self._batched.set_max_batch_size(service.max_batch_size)  # type: ignore[attr-defined]
        self._batched.set_batch_wait_timeout_s(service.batch_wait_s)  # type: ignore[attr-defined]

    async def score(self, samples: Sequence[Sample], timeout_s: float) -> list[Score]:
        if self._reward.is_concurrent:
            return await self._in_thread(samples)
        return await self._batched((samples, time.monotonic() + timeout_s))

    @serve.batch(batch_size_fn=lambda requests: sum(len(samples) for samples, _ in requests))
    async def _batched(self, requests: list[tuple[Sequence[Sample], float]]) -> list[list[Score]]:
        """Scores several requests at once; ids are told apart by the number of their request."""
        wanted = [i for i, (_, deadline) in enumerate(requests) if seconds_until(deadline) > 0.0]
        together = [replace(s, id=f"{i}|{s.id}") for i in wanted for s in requests[i][0]]
        answers: list[list[Score]] = [[] for _ in requests]
        for score in await self._in_thread(together):
            number, _, own = score.id.partition("|")
            answers[int(number)].append(replace(score, id=own))
        return answers

    async def ping(self) -> None:
        """Answers while the replica is there, busy or not."""

    async def stats(self) -> dict[str, dict[str, float]]:
        """What the component itself counts."""
        return {self._label: {f"component/{name}": value for name, value in self._reward.stats().items()}}

    async def _in_thread(self, samples: Sequence[Sample]) -> list[Score]:
        run = asyncio.get_running_loop().run_in_executor
        judged = await run(self._threads, judge, self._reward.score, samples)
        return list(judged.values())
