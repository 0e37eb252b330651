"""The processes of the service, as Ray Serve runs them. Thin: what they do is in the files they name.

Gateway      one; guards, fuses, and holds the HTTP door
CpuScorer    components of placement cpu together, and those of placement isolated in child processes
OwnScorer    one deployment for each component of placement own; batches across requests
"""

import asyncio
import faulthandler
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from reward_service.building import build_reward
from reward_service.bundle import Bundle, judge
from reward_service.client import seconds_until
from reward_service.config import ComponentConfig, RewardConfig
from reward_service.http.door import door
from reward_service.http.wire import ComponentInfo
from reward_service.isolation.pool import Pool
from reward_service.lines import BUNDLE, Call, build_gateway, describe, is_bundled, placements
from reward_service.local import LocalClient
from reward_service.types import Sample, Score

STDERR = 2
"""The file descriptor itself: Ray replaces sys.stderr."""
PING_DEADLINE_S = 5.0
MARGIN_S = 0.2
"""How long before its caller gives up the gateway answers what it has."""


ScoreUntil = Callable[[Sequence[Sample], float], list[Score]]


def watched(score: ScoreUntil, samples: Sequence[Sample], deadline: float) -> list[Score]:
    """Scores; what is still being scored when its time is up ends the process, with its stacks on stderr.

    Nobody waits for it any more, and what hangs would hang the next request too. The watch is faulthandler's,
    because a regex that does not end holds the interpreter lock for ever.
    """
    left_s = seconds_until(deadline)
    if left_s == 0.0:
        raise TimeoutError("the request waited until its time was up")
    faulthandler.dump_traceback_later(left_s + MARGIN_S, exit=True, file=STDERR)
    try:
        return score(samples, deadline)
    finally:
        faulthandler.cancel_dump_traceback_later()


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


class Simple:
    """The whole service in each replica, where nothing must be known in one place: one hop instead of two.

    Asked by handle as the gateway is; there is no door to it.
    """

    def __init__(self, config: RewardConfig) -> None:
        self._config, self._local = config, LocalClient(config)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")

    async def score(self, samples: Sequence[Sample], timeout_s: float | None = None) -> list[Score]:
        """One score per sample, in the same order."""
        limit_s = min(timeout_s or self._config.deadline_s, self._config.deadline_s)
        deadline = time.monotonic() + limit_s
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._thread, watched, self._local.score_until, samples, deadline)

    async def ping(self) -> None:
        """Answers while the replica is there, busy or not."""

    async def stats(self) -> dict[str, dict[str, float]]:
        """What one replica counts."""
        return self._local.stats()

    async def state(self) -> dict[str, Any]:
        return self._local.state_dict()

    async def load(self, state: dict[str, Any]) -> None:
        self._local.load_state_dict(state)


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


@serve.ingress()
class Gateway:
    """The ingress: asked by handle inside of the cluster, through its door from outside."""

    def __init__(
        self, config: RewardConfig, scorers: Mapping[str, DeploymentHandle], token_digest: bytes | None
    ) -> None:
        """`scorers` by label; BUNDLE is the deployment for CPU components."""
        self._config, self._scorers, self._token_digest = config, dict(scorers), token_digest
        self._gateway = build_gateway(config, self._call)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return door(self, self._config, self._token_digest)

    async def score(self, samples: Sequence[Sample], timeout_s: float | None = None) -> list[Score]:
        """One score per sample, in the same order, a moment before `timeout_s` is over."""
        limit_s = min(timeout_s or self._config.deadline_s, self._config.deadline_s)
        margin_s = min(MARGIN_S, 0.1 * limit_s)
        return await self._gateway.score(samples, time.monotonic() + limit_s - margin_s)

    async def ping(self) -> None:
        """Raises TimeoutError or ConnectionError unless every deployment answers."""
        asked = [_answer(h.ping.remote(), PING_DEADLINE_S) for h in self._scorers.values()]
        await asyncio.gather(*asked)

    def components(self) -> tuple[ComponentInfo, ...]:
        return describe(self._config)

    async def stats(self) -> dict[str, dict[str, float]]:
        """What guards, fusion and components count; of a component with several replicas, one of them."""
        asked = [_answer(scorer.stats.remote(), PING_DEADLINE_S) for scorer in self._scorers.values()]
        told = await asyncio.gather(*asked, return_exceptions=True)
        stats = self._gateway.stats()
        for said in told:
            # A replica that is being replaced has nothing to tell.
            for label, values in {} if isinstance(said, BaseException) else said.items():
                stats.setdefault(label, {}).update(values)
        return stats

    async def state(self) -> dict[str, Any]:
        """For a checkpoint of the run that owns the service."""
        return self._gateway.state_dict()

    async def load(self, state: dict[str, Any]) -> None:
        self._gateway.load_state_dict(state)

    def __del__(self) -> None:
        """Serve calls it when the replica is shut down."""
        self._gateway.close()

    def _call(self, label: str) -> Call:
        """How the component with this label is reached."""
        is_own = label in self._scorers

        async def call(samples: Sequence[Sample], deadline: float) -> list[Score]:
            left_s = seconds_until(deadline)
            if is_own:
                response = self._scorers[label].score.remote(list(samples), left_s)
            else:
                response = self._scorers[BUNDLE].score_alone.remote(label, list(samples), left_s)
            return await _answer(response, left_s)

        return call


async def _answer(response: Any, timeout_s: float) -> Any:
    """The answer of a replica; what went wrong on the way to it in the words of a Call."""
    try:
        return await asyncio.wait_for(response, timeout_s)
    except TimeoutError:
        response.cancel()
        raise
    except RayTaskError as error:
        if isinstance(error, TimeoutError):
            raise TimeoutError(str(error)) from None
        raise
    except (RayError, RayServeException) as error:
        raise ConnectionError(str(error)) from error
