"""The dashboard is of the form that Grafana reads, by the types that Grafana publishes of it.

Grafana leaves out what it does not know, without a word: a misspelt key is a panel without its unit.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.monitoring.board import dashboard

pytest.importorskip("grafana_foundation_sdk")
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    """Kinds of panels and of queries."""
    register_default_plugins()


def through_grafana(board: dict[str, Any]) -> dict[str, Any]:
    """What is left of a dashboard after it was read and written by Grafana's own types."""
    return json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))


def lost(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Places of ours that are missing or different in theirs."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from lost(value, theirs[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{place}/{i}")
    elif ours != theirs:
        yield place


def test_grafana_knows_every_key_of_the_dashboard() -> None:
    """Mutations: a misspelt key of a panel, of a query, of a variable."""
    board = dashboard()
    assert list(lost(board, through_grafana(board))) == []


@pytest.mark.parametrize(
    ("path", "place"),
    [(("panels", 1), "/panels/1/units"), (("panels", 1, "targets", 0), "/panels/1/targets/0/units")],
)
def test_a_key_that_grafana_does_not_know_is_seen(path: tuple[str | int, ...], place: str) -> None:
    board: Any = json.loads(json.dumps(dashboard()))
    part = board
    for step in path:
        part = part[step]
    part["units"] = "s"
    assert list(lost(board, through_grafana(board))) == [place]


def test_every_unit_is_one_of_grafana() -> None:
    """An unknown one is shown behind the number as it is. Mutation: `percent-unit`."""
    known = {value for value in vars(units).values() if isinstance(value, str)}
    shown = {p["fieldConfig"]["defaults"]["unit"] for p in dashboard()["panels"] if p["type"] != "row"}
    assert len(shown) > 5
    assert shown <= known
