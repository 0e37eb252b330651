"""The door of the service: an HTTP application around a gateway.

    POST /v1/score        scores, in the order of the samples
    GET  /v1/components   what it scores by
    GET  /healthz         200 while the service itself answers; for liveness probes
    GET  /readyz          200 while every component answers, else 503; for readiness probes
    GET  /metrics         for Prometheus
    GET  /openapi.json    the schema
    GET  /rate …          the page where people judge, where a recipe asks for one (ratings/router.py)

The door knows neither Ray nor components: it is given a service and asks it.
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as AnyHttpError
from starlette.types import ASGIApp

from antiphon.errors import UserError
from antiphon.privacy import NOTHING_MASKED, Masker, build_masker
from reward_service.components.human import Human
from reward_service.config import HttpConfig, RewardConfig
from reward_service.http.gatekeeper import OPEN_PATHS, Gatekeeper
from reward_service.http.metrics import CONTENT_TYPE, DoorMetrics
from reward_service.http.wire import ComponentInfo, ComponentList, Problem, ScoreAnswer, ScoreRequest
from reward_service.ratings.router import PAGE, ratings_router
from reward_service.ratings.store import RatingStore
from reward_service.types import Sample, Score

_log = logging.getLogger(__name__)


class Service(Protocol):
    """What stands behind the door."""

    async def score(self, samples: Sequence[Sample], timeout_s: float | None) -> list[Score]: ...

    async def ping(self) -> None:
        """Raises TimeoutError or ConnectionError, with the reason, unless every component answers."""
        ...

    def components(self) -> tuple[ComponentInfo, ...]: ...

    async def stats(self) -> Mapping[str, Mapping[str, float]]:
        """Counters and gauges, by component."""
        ...


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is no text."},
    401: {"model": Problem, "description": "The bearer token is missing or wrong."},
    413: {"model": Problem, "description": "Too many bytes or samples."},
    422: {"model": Problem, "description": "The request is not of the wanted form."},
    500: {"model": Problem, "description": "A bug in the service."},
    503: {"model": Problem, "description": "A component does not answer."},
}


def door(service: Service, config: RewardConfig, token_digest: bytes | None) -> ASGIApp:
    """The application behind the port; `token_digest` None lets everybody in."""
    app = build_app(service, config.http, build_masker(config.privacy))
    open_paths: tuple[str, ...] = OPEN_PATHS
    if (path := ratings_path(config)) is not None:
        app.include_router(ratings_router(RatingStore(path)))
        open_paths = (*OPEN_PATHS, PAGE)
    return Gatekeeper(app, token_digest, config.http.max_body_bytes, open_paths)


def ratings_path(config: RewardConfig) -> Path | None:
    """The database behind the page, where a component of the recipe waits for people.

    Raises:
        UserError: several of them, for one page.
    """
    paths = {c.options.get("path") for c in config.components if c.name == Human.name} - {None}
    if len(paths) > 1:
        raise UserError(
            f"components of the name human have different paths: {', '.join(sorted(map(str, paths)))}",
            remedy="give them one path: questions are told apart within it",
        )
    return next((Path(str(path)) for path in paths), None)


def build_app(service: Service, config: HttpConfig, masker: Masker = NOTHING_MASKED) -> FastAPI:
    """The routes, without the gatekeeper."""
    app = FastAPI(title="Antiphon reward service", version="1", docs_url=None, redoc_url=None)
    metrics = DoorMetrics()

    def refuse(only: Sequence[int]) -> dict[int | str, dict[str, Any]]:
        return {code: REFUSALS[code] for code in only}

    @app.post("/v1/score", responses=refuse((400, 401, 413, 422, 500)))
    async def score(request: ScoreRequest) -> ScoreAnswer:
        """Score every sample by every component and fuse the parts. A failed score has no value."""
        if len(request.samples) > config.max_samples:
            raise HTTPException(
                413,
                f"a request may have {config.max_samples} samples at most, this one has "
                f"{len(request.samples)}",
            )
        with metrics.request() as count:
            return ScoreAnswer(scores=tuple(count(await service.score(request.samples, request.timeout_s))))

    @app.get("/v1/components", responses=refuse((401,)))
    async def components() -> ComponentList:
        """What the service scores by."""
        return ComponentList(components=service.components())

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The service itself answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=refuse((503,)))
    async def readyz() -> dict[str, str]:
        """Every component answers."""
        try:
            await service.ping()
        except (TimeoutError, ConnectionError) as error:
            raise HTTPException(503, str(error) or "a component does not answer") from error
        return {"status": "ok"}

    @app.get("/metrics", responses=refuse((401,)), response_class=Response)
    async def show_metrics() -> Response:
        """For Prometheus."""
        return Response(metrics.exposition(await service.stats()), media_type=CONTENT_TYPE)

    _explain_refusals(app, masker)
    return app


def _explain_refusals(app: FastAPI, masker: Masker) -> None:
    """Every refusal is a Problem, with the id under which the log knows the request."""

    def problem(request: Request, status: int, detail: str) -> JSONResponse:
        request_id = request.scope.get("state", {}).get("request_id", "")
        return JSONResponse({"detail": detail, "request_id": request_id}, status)

    @app.exception_handler(AnyHttpError)
    async def on_http_error(request: Request, error: AnyHttpError) -> JSONResponse:
        answer = problem(request, error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        said = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        # A key of the caller's may hold half a surrogate pair, which no answer can carry.
        return problem(request, 422, "; ".join(said).encode("utf-8", "backslashreplace").decode())

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        answer = problem(request, 500, f"{type(error).__name__} in the service, see its log")
        told = masker.text("".join(traceback.format_exception(error)))
        _log.error("request %s failed\n%s", request.scope["state"].get("request_id"), told)
        return answer
