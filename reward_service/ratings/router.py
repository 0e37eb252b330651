"""The page and what it calls, as routes for the service's HTTP door.

    GET  /rate                the page; holds no data, so the door may show it to everybody
    GET  /rate/next           what a rater is shown next
    POST /rate/ratings        a rating          } each answers with
    POST /rate/comparisons    a comparison      } what is shown next
    POST /rate/skips          do not ask again  }
    POST /rate/undo           takes the rater's newest judgement back, and shows it again
    GET  /rate/judgements     everything that was said, as JSON lines

All but the page are data: the door demands its token for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import ConfigDict, Field, StringConstraints

from antiphon.settings import Settings
from reward_service.ratings.files import as_lines
from reward_service.ratings.items import Assignment, Comparison
from reward_service.ratings.page import page, policy
from reward_service.ratings.store import RatingStore, UnknownItem

PAGE = "/rate"
"""Where the page is."""
WIN_SHARE = {"left": 1.0, "right": 0.0, "tie": 0.5}

Rater = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
ItemId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Body(Settings):
    """What all requests say."""

    model_config = ConfigDict(strict=False)

    rater: Rater
    """Who judges; as he calls himself."""


class RatingBody(Body):
    """A rating."""

    item: ItemId
    value: float = Field(ge=0.0, le=1.0)


class ComparisonBody(Body):
    """A comparison."""

    left: ItemId
    right: ItemId
    winner: Literal["left", "right", "tie"]


class SkipBody(Body):
    """One item, or the two of a pair."""

    items: tuple[ItemId, ...] = Field(min_length=1, max_length=2)


def ratings_router(store: RatingStore) -> APIRouter:
    """The routes around a store; they run in threads."""
    router = APIRouter(prefix=PAGE, tags=["ratings"])
    unknown: dict[int | str, dict[str, Any]] = {
        404: {"description": "Such an item was never asked, or the two do not belong together."}
    }

    @router.get("", response_class=HTMLResponse)
    def show_page() -> HTMLResponse:
        return HTMLResponse(page(), headers=policy())

    @router.get("/next")
    def show_next(rater: Rater) -> Assignment:
        return store.next(rater)

    @router.post("/ratings", responses=unknown)
    def rate(body: RatingBody) -> Assignment:
        with _or_404():
            store.rate(body.rater, body.item, body.value)
        return store.next(body.rater)

    @router.post("/comparisons", responses=unknown)
    def compare(body: ComparisonBody) -> Assignment:
        said = Comparison(item=body.left, other=body.right, value=WIN_SHARE[body.winner])
        with _or_404():
            store.compare(body.rater, said)
        return store.next(body.rater)

    @router.post("/skips", responses=unknown)
    def skip(body: SkipBody) -> Assignment:
        with _or_404():
            store.skip(body.rater, body.items)
        return store.next(body.rater)

    @router.post("/undo")
    def undo(body: Body) -> Assignment:
        return store.undo(body.rater)

    @router.get("/judgements", response_class=StreamingResponse)
    def show_judgements() -> StreamingResponse:
        headers = {"Content-Disposition": "attachment; filename=judgements.jsonl"}
        return StreamingResponse(
            as_lines(store.judgements()), media_type="application/x-ndjson", headers=headers
        )

    return router


@contextmanager
def _or_404() -> Iterator[None]:
    try:
        yield
    except UnknownItem as error:
        raise HTTPException(404, str(error)) from None
