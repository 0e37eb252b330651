"""The one process that guards, fuses and holds the HTTP door; it fans out to the replicas."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from reward_service.client import seconds_until
from reward_service.config import RewardConfig
from reward_service.http.door import door
from reward_service.http.wire import ComponentInfo
from reward_service.lines import BUNDLE, Call, build_gateway, describe
from reward_service.types import Sample, Score

PING_DEADLINE_S = 5.0
MARGIN_S = 0.2
"""How long before its caller gives up the gateway answers what it has."""


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
