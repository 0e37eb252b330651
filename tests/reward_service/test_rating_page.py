"""The page of the raters and the routes behind it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from reward_service.ratings.items import Item, Mode
from reward_service.ratings.router import ratings_router
from reward_service.ratings.store import RatingStore

EVIL = "<img src=x onerror=alert(1)></pre><script>alert(1)</script>\"'`${1}"


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    return RatingStore(tmp_path / "ratings.sqlite")


@pytest.fixture
def door(store: RatingStore) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(ratings_router(store))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def item(completion: str, mode: Mode = "rate") -> Item:
    return Item(mode=mode, question="Good?", prompt=f"p {EVIL}", completion=completion, num_points=3)


def post(door: TestClient, path: str, **body: Any) -> dict[str, Any]:
    answer = door.post(f"/rate/{path}", json={"rater": "Ann", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


class Markup(HTMLParser):
    """What a page loads, and the text of its script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.inside: dict[str, str] = {}
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style"):
            self.inside[self._tag] = self.inside.get(self._tag, "") + data


def test_the_page_loads_nothing_from_elsewhere_and_its_policy_allows_its_own_script_only(
    door: TestClient,
) -> None:
    answer = door.get("/rate")
    assert answer.headers["content-type"].startswith("text/html")
    markup, policy = Markup(answer.text), answer.headers["content-security-policy"]
    assert markup.addresses == ["data:,"]
    assert markup.handlers == []
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(markup.inside[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy


def test_the_script_never_makes_markup_of_text(door: TestClient) -> None:
    script = Markup(door.get("/rate").text).inside["script"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script)


def test_the_page_holds_no_data(door: TestClient, store: RatingStore) -> None:
    before = door.get("/rate").text
    store.ask([item("a secret")])
    assert door.get("/rate").text == before


def test_a_rating_is_kept_and_the_next_item_comes_with_the_answer(
    door: TestClient, store: RatingStore
) -> None:
    store.ask([item(EVIL), item("b")])
    first = door.get("/rate/next", params={"rater": "Ann"}).json()
    assert first == {
        **{"kind": "rating", "question": "Good?", "prompt": f"p {EVIL}", "num_points": 3},
        **{"items": [{"id": item(EVIL).id, "completion": EVIL}], "num_waiting": 2, "num_mine": 0},
    }
    second = post(door, "ratings", item=first["items"][0]["id"], value=0.5)
    assert (second["items"][0]["completion"], second["num_waiting"], second["num_mine"]) == ("b", 1, 1)
    assert store.ratings([item(EVIL).id]) == {item(EVIL).id: [0.5]}


@pytest.mark.parametrize(("winner", "share"), [("left", 1.0), ("right", 0.0), ("tie", 0.5)])
def test_a_comparison_is_kept_for_the_side_that_won(
    door: TestClient, store: RatingStore, winner: str, share: float
) -> None:
    asked = [item("a", "compare"), item("b", "compare")]
    store.ask(asked)
    left, right = (s["id"] for s in door.get("/rate/next", params={"rater": "Ann"}).json()["items"])
    assert post(door, "comparisons", left=left, right=right, winner=winner)["kind"] == "nothing"
    (kept,) = store.comparisons([asked[0].context])[asked[0].context]
    assert (kept.value if kept.item == left else 1.0 - kept.value) == share


def test_skip_and_undo(door: TestClient, store: RatingStore) -> None:
    store.ask([item("a")])
    assert post(door, "skips", items=[item("a").id])["kind"] == "nothing"
    assert post(door, "undo")["items"][0]["completion"] == "a"
    assert post(door, "undo")["kind"] == "nothing"


def test_everything_that_was_said_is_given_out_as_json_lines(door: TestClient, store: RatingStore) -> None:
    store.ask([item(str(n)) for n in range(30)])
    for n in range(30):
        store.rate("Ann", item(str(n)).id, 0.5)
    answer = door.get("/rate/judgements")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["completion"] for row in rows] == [str(n) for n in range(30)]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("ratings", {"item": "0" * 32, "value": 0.5}, 404),
        ("comparisons", {"left": "0" * 32, "right": "1" * 32, "winner": "tie"}, 404),
        ("skips", {"items": ["0" * 32]}, 404),
        ("ratings", {"item": "0" * 32, "value": 1.5}, 422),
        ("ratings", {"item": "' OR 1=1 --", "value": 0.5}, 422),
        ("ratings", {"item": "0" * 32, "value": 0.5, "extra": 1}, 422),
        ("ratings", {"item": "0" * 32, "value": 0.5, "rater": "  "}, 422),
        ("ratings", {"item": "0" * 32, "value": 0.5, "rater": "x" * 81}, 422),
        ("comparisons", {"left": "0" * 32, "right": "1" * 32, "winner": "both"}, 422),
        ("skips", {"items": []}, 422),
        ("skips", {"items": ["0" * 32] * 3}, 422),
    ],
)
def test_what_is_wrong_is_refused(door: TestClient, path: str, body: dict[str, Any], status: int) -> None:
    assert door.post(f"/rate/{path}", json={"rater": "Ann", **body}).status_code == status


def test_a_form_of_another_site_cannot_judge(door: TestClient, store: RatingStore) -> None:
    # What a browser sends across sites without asking first has one of these types.
    store.ask([item("a")])
    body = json.dumps({"rater": "Ann", "item": item("a").id, "value": 1.0})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = door.post("/rate/ratings", content=body, headers={"Content-Type": kind})
        assert answer.status_code == 422
    assert store.ratings([item("a").id]) == {}
