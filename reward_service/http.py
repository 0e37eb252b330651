"""Both ends of the HTTP wire: the door of the service, and the client that knocks at it.

    POST /v1/score   {"samples": [Sample, ...]} -> {"scores": [Score, ...]}, in the same order
    GET  /healthz    200 while samples can be scored, else 503; open to everybody, for probes
    GET  /metrics    what came through this door, for Prometheus

The door is given a client and asks it; it knows neither Ray nor components.
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, field_validator
from starlette.middleware.base import RequestResponseEndpoint

from antiphon.errors import UserError
from antiphon.settings import Settings
from reward_service.client import Receive, RemoteClient, RewardClient, seconds_until
from reward_service.config import HttpConfig
from reward_service.door_metrics import DoorMetrics
from reward_service.rubric import check_ids
from reward_service.types import Sample, Score


class ScoreRequest(Settings):
    """The body of POST /v1/score."""

    # JSON has neither tuples nor enums, and a caller may leave out what has a default.
    model_config = ConfigDict(strict=False)

    samples: tuple[Sample, ...]
    """Their ids must differ."""

    @field_validator("samples")
    @classmethod
    def _ids_differ(cls, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        check_ids(samples)
        return samples


class ScoreAnswer(Settings):
    """What POST /v1/score answers."""

    model_config = ConfigDict(strict=False)

    scores: tuple[Score, ...]
    """One per sample, in the same order."""


def token_of(http: HttpConfig) -> str | None:
    """The bearer token that callers must show, from the environment.

    Raises:
        UserError: there is none, although others than this machine could knock.
    """
    token = os.environ.get(http.token_env) or None
    if http.enabled and token is None and not http.is_loopback:
        raise UserError(
            f"reward.http.host is {http.host!r}, which others can reach, and {http.token_env} is not set",
            remedy=f"export {http.token_env}=… with a long random token, or listen at 127.0.0.1",
        )
    return token


def digest(token: str) -> bytes:
    """What the door keeps of a token: enough to recognise it, nothing to steal."""
    return hashlib.sha256(token.encode()).digest()


def door(client: RewardClient, ping: Callable[[], None], token_digest: bytes | None) -> FastAPI:
    """The application behind the port.

    Args:
        client: scores what comes in; called from several threads.
        ping: raises TimeoutError or ConnectionError unless something is there to score.
        token_digest: of the token that callers must show; None lets everybody in.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    metrics = DoorMetrics()

    # A middleware, because it refuses before the body is read.
    @app.middleware("http")
    async def guard(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path != "/healthz" and not _may_enter(request, token_digest):
            headers = {"WWW-Authenticate": "Bearer"}
            return JSONResponse({"detail": "a bearer token is needed"}, 401, headers)
        return await call_next(request)

    @app.post("/v1/score")
    def score(request: ScoreRequest) -> ScoreAnswer:
        with metrics.request() as count:
            return ScoreAnswer(scores=tuple(count(client.score(request.samples))))

    @app.get("/healthz")
    def healthz() -> Response:
        try:
            ping()
        except (TimeoutError, ConnectionError) as error:
            return JSONResponse({"status": "unavailable", "detail": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(metrics.exposition(), media_type=metrics.content_type)

    return app


def _may_enter(request: Request, token_digest: bytes | None) -> bool:
    """Compares digests in constant time, so that an answer's delay tells nothing about the token."""
    if token_digest is None:
        return True
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(digest(token), token_digest)


class HttpClient(RemoteClient):
    """Scores over HTTP. Make it in the process that uses it: connections do not travel."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        deadline_s: float = 60.0,
        num_retries: int = 2,
        max_batch_size: int = 1024,
    ) -> None:
        """`url` is the root of the service, "http://127.0.0.1:8000" for instance."""
        super().__init__(deadline_s=deadline_s, num_retries=num_retries, max_batch_size=max_batch_size)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers)

    def close(self) -> None:
        self._http.close()

    def _send(self, samples: Sequence[Sample], deadline: float) -> Receive:
        body = ScoreRequest(samples=tuple(samples)).model_dump_json()
        return lambda: self._post(body, deadline)

    def _post(self, body: str, deadline: float) -> Sequence[Score]:
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._http.post(
                "/v1/score", content=body, headers=headers, timeout=seconds_until(deadline)
            )
        except httpx.TimeoutException as error:
            raise TimeoutError(str(error)) from error
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
        return self._scores(answer)

    def _scores(self, answer: httpx.Response) -> Sequence[Score]:
        """The scores in an answer; one exception for each way to go wrong."""
        if answer.status_code in (401, 403):
            raise UserError(
                f"the reward service at {self._http.base_url} refuses the token",
                remedy="pass the token that it was started with",
            )
        if answer.is_server_error:
            raise ConnectionError(f"HTTP {answer.status_code}: {answer.text[:200]}")
        if not answer.is_success:
            raise ValueError(f"the reward service refuses the request: {answer.text[:500]}")
        return ScoreAnswer.model_validate_json(answer.content).scores
