"""The replica for quick components: those of placement cpu together, the isolated ones in child processes."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from reward_service.building import build_reward
from reward_service.bundle import Bundle
from reward_service.config import RewardConfig
from reward_service.isolation.pool import Pool
from reward_service.lines import is_bundled, placements
from reward_service.serving.watched import ScoreUntil, watched
from reward_service.types import Sample, Score


def _by(bundle: Bundle) -> ScoreUntil:
    return lambda samples, deadline: bundle.score(samples)


class CpuScorer:
    """Scores one request after the other, in a thread, and is expendable."""

    def __init__(self, config: RewardConfig) -> None:
        placed = placements(config)
        here = [(c, build_reward(c.name, c.options, where)) for where, c in placed["cpu"]]
        for _, reward in here:
            reward.start()
        self._alone = {c.shown_as: Bundle({c.shown_as: r.score}) for c, r in here if not is_bundled(c, r)}
        self._bundle = Bundle({c.shown_as: r.score for c, r in here if is_bundled(c, r)})
        isolated = {c.shown_as: (c.name, c.options) for _, c in placed["isolated"]}
        self._pool = Pool(isolated, config.isolation) if isolated else None
        if self._pool is not None:
            self._pool.wait_until_started(time.monotonic() + config.isolation.start_deadline_s)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bundle")

    async def score(self, samples: Sequence[Sample], timeout_s: float) -> list[Score]:
        """By all components of placement cpu."""
        deadline = time.monotonic() + timeout_s
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._thread, watched, _by(self._bundle), samples, deadline)

    async def score_alone(self, label: str, samples: Sequence[Sample], timeout_s: float) -> list[Score]:
        """By one component that is isolated, or judges several times."""
        deadline = time.monotonic() + timeout_s
        if label not in self._alone and self._pool is not None:
            return await asyncio.wrap_future(self._pool.submit(label, samples, deadline))
        run = asyncio.get_running_loop().run_in_executor
        scores = await run(self._thread, watched, _by(self._alone[label]), samples, deadline)
        return [replace(s, value=s.parts.get(label), parts={}) for s in scores]

    async def ping(self) -> None:
        """Answers while the replica is there, busy or not."""

    async def stats(self) -> dict[str, dict[str, float]]:
        """What the child processes went through, by component."""
        told: dict[str, dict[str, float]] = {}
        for name, value in (self._pool.stats() if self._pool else {}).items():
            label, _, what = name.rpartition("/")
            told.setdefault(label, {})[f"isolation/{what}"] = value
        return told
