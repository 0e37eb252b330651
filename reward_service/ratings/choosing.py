"""The queries behind what a rater is shown. Given an open connection; called by the store only."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from antiphon.seeds import derive
from reward_service.ratings.items import Assignment, Shown

NEXT_RATING = """
    SELECT id FROM items
    WHERE mode = 'rate' AND num_judged < num_wanted AND NOT EXISTS (
        SELECT 1 FROM judgements WHERE rater = ? AND item = items.id AND other = ''
    )
    ORDER BY asked_at DESC, number LIMIT 1
"""
NEXT_PAIR = """
    SELECT a.id, b.id FROM items a JOIN items b ON b.context = a.context AND b.id <> a.id
    WHERE a.mode = 'compare' AND a.num_judged < a.num_wanted AND NOT EXISTS (
        SELECT 1 FROM judgements
        WHERE rater = ? AND item = min(a.id, b.id) AND other = max(a.id, b.id)
    )
    ORDER BY a.asked_at DESC, a.num_judged, b.num_judged, a.number, b.number LIMIT 1
"""
ROWS = """
    SELECT j.rater, j.value, j.made_at, i.question, i.prompt, i.completion, o.completion
    FROM judgements j JOIN items i ON i.id = j.item LEFT JOIN items o ON o.id = j.other
    WHERE j.value IS NOT NULL ORDER BY j.number
"""


def next_assignment(connection: sqlite3.Connection, rater: str) -> Assignment:
    """The newest question that the rater has not answered and that still waits; ratings before comparisons.

    What was asked last is what a run waits for now. An opponent need not wait itself.
    """
    for query in (NEXT_RATING, NEXT_PAIR):
        found = connection.execute(query, (rater,)).fetchone()
        if found is not None:
            return assignment(connection, rater, found)
    return nothing(connection, rater)


def assignment(connection: sqlite3.Connection, rater: str, ids: Sequence[str]) -> Assignment:
    """One item to be rated, or two to be compared, as the rater sees them.

    Which of two stands first is drawn from names alone: the same on every look, and even over the pairs.
    """
    order = sorted(ids)
    if derive(0, rater, *order) % 2:
        order.reverse()
    rows = [
        connection.execute(
            "SELECT question, prompt, num_points, completion FROM items WHERE id = ?", (item,)
        ).fetchone()
        for item in order
    ]
    question, prompt, num_points, _ = rows[0]
    return Assignment(
        kind="rating" if len(ids) == 1 else "comparison",
        question=question,
        prompt=prompt,
        num_points=num_points,
        items=tuple(Shown(id=i, completion=row[3]) for i, row in zip(order, rows, strict=True)),
        **counts(connection, rater),
    )


def nothing(connection: sqlite3.Connection, rater: str) -> Assignment:
    return Assignment(kind="nothing", **counts(connection, rater))


def counts(connection: sqlite3.Connection, rater: str) -> dict[str, Any]:
    """How many items wait for anybody, and how many judgements the rater has given."""
    (waiting,) = connection.execute("SELECT COUNT(*) FROM items WHERE num_judged < num_wanted").fetchone()
    (mine,) = connection.execute(
        "SELECT COUNT(*) FROM judgements WHERE rater = ? AND value IS NOT NULL", (rater,)
    ).fetchone()
    return {"num_waiting": waiting, "num_mine": mine}


def rows(connection: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """All judgements, oldest first."""
    for rater, value, made_at, question, prompt, completion, other in connection.execute(ROWS):
        what = {"kind": "rating"} if other is None else {"kind": "comparison", "other": other}
        yield {
            **what,
            "question": question,
            "prompt": prompt,
            "completion": completion,
            "value": value,
            "rater": rater,
            "time": made_at,
        }
