"""Where people's judgements are kept: one SQLite file, shared by the page and by the component `human`.

    component --ask--> items        page --rate, compare, skip, undo--> judgements
    component <--ratings, comparisons--              page <--next--

Safe for several threads and processes of one machine: every call has a connection of its own, every change
is one transaction, and readers do not wait for writers (write-ahead log; not for network file systems).
"""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from antiphon.errors import UserError
from reward_service.ratings import choosing
from reward_service.ratings.items import Assignment, Comparison, Item, storable

BUSY_S = 10.0
"""How long a change waits for that of another process."""
MAX_NAMES = 500
"""Ids in one query; SQLite bounds the number of its parameters."""
ASK = """
    INSERT INTO items (id, mode, context, question, prompt, completion, num_points, num_wanted, asked_at)
    VALUES (:id, :mode, :context, :question, :prompt, :completion, :num_points, :num_wanted, :asked_at)
    ON CONFLICT (id) DO UPDATE SET
        num_points = excluded.num_points, num_wanted = excluded.num_wanted, asked_at = excluded.asked_at
"""
RECOUNT = """
    UPDATE items SET num_judged = (
        SELECT COUNT(*) FROM judgements j WHERE items.id IN (j.item, j.other) AND j.value IS NOT NULL
    ) WHERE id IN (?, ?)
"""


class UnknownItem(LookupError):
    """A judgement of something that was never asked, or of two things that cannot be compared."""


class RatingStore:
    """Items that people were asked about, and what they said."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        """Makes the file, and the folder that it lies in, if they are not there.

        Raises:
            UserError: they cannot be made, or the file is something else.
        """
        self.path = path
        self._now = now
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(files(__package__).joinpath("schema.sql").read_text())
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"the ratings cannot be kept in {path}: {error}",
                remedy="give a path in a folder that can be written; the file is made if it is not there",
            ) from None

    def ask(self, items: Sequence[Item]) -> None:
        """Put items before the raters; those that are there already come to the front again."""
        now = self._now()
        rows = [
            {
                "id": i.id,
                "mode": i.mode,
                "context": i.context,
                "question": storable(i.question),
                "prompt": storable(i.prompt),
                "completion": storable(i.completion),
                "num_points": i.num_points,
                "num_wanted": i.num_wanted,
                "asked_at": now,
            }
            for i in items
        ]
        with self._change() as connection:
            connection.executemany(ASK, rows)

    def next(self, rater: str) -> Assignment:
        """What the rater is shown next: of what still waits and is new to him, what was asked last."""
        with self._read() as connection:
            return choosing.next_assignment(connection, storable(rater))

    def rate(self, rater: str, item: str, value: float) -> None:
        """Keep a rating in 0..1; a second one by the same rater replaces the first.

        Raises:
            UnknownItem: there is no such item to be rated.
            ValueError: the value is outside.
        """
        self._judge(rater, (item,), value)

    def compare(self, rater: str, comparison: Comparison) -> None:
        """Keep a comparison; a second one of the same items by the same rater replaces the first.

        Raises:
            UnknownItem: there are no such items to be compared, or they answer different prompts.
            ValueError: the share of the win is outside 0..1.
        """
        self._judge(rater, (comparison.item, comparison.other), comparison.value)

    def skip(self, rater: str, items: Sequence[str]) -> None:
        """Do not show this rater one item, or this pair, again.

        Raises:
            UnknownItem: there is no such item, or pair.
        """
        self._judge(rater, tuple(items), None)

    def undo(self, rater: str) -> Assignment:
        """Take the rater's newest judgement or skip back; returns what it was about, or nothing."""
        rater = storable(rater)
        with self._change() as connection:
            newest = connection.execute(
                "SELECT number, item, other FROM judgements WHERE rater = ? ORDER BY number DESC LIMIT 1",
                (rater,),
            ).fetchone()
            if newest is None:
                return choosing.nothing(connection, rater)
            number, item, other = newest
            connection.execute("DELETE FROM judgements WHERE number = ?", (number,))
            connection.execute(RECOUNT, (item, other))
            return choosing.assignment(connection, rater, [item, other] if other else [item])

    def ratings(self, ids: Sequence[str]) -> dict[str, list[float]]:
        """The ratings of each of these items that has any, by its id."""
        found: dict[str, list[float]] = defaultdict(list)
        query = "SELECT item, value FROM judgements WHERE other = '' AND value IS NOT NULL AND item IN ({})"
        for item, value in self._select(query, ids):
            found[item].append(value)
        return dict(found)

    def comparisons(self, contexts: Sequence[str]) -> dict[str, list[Comparison]]:
        """All comparisons between items of each of these contexts that has any, by the context."""
        found: dict[str, list[Comparison]] = defaultdict(list)
        query = (
            "SELECT i.context, j.item, j.other, j.value FROM items i JOIN judgements j ON j.item = i.id "
            "WHERE j.other <> '' AND j.value IS NOT NULL AND i.context IN ({})"
        )
        for context, item, other, value in self._select(query, contexts):
            found[context].append(Comparison(item=item, other=other, value=value))
        return dict(found)

    def judgements(self) -> Iterator[dict[str, Any]]:
        """Everything that was said, oldest first, as JSON-able rows; see files.py for their form."""
        with self._read() as connection:
            yield from choosing.rows(connection)

    def _judge(self, rater: str, items: tuple[str, ...], value: float | None) -> None:
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"a judgement lies in 0..1, got {value}")
        item, other = min(items), max(items) if len(items) > 1 else ""
        # The share of the win belongs to the item that comes first.
        share = value if value is None or item == items[0] else 1.0 - value
        with self._change() as connection:
            _check_known(connection, items)
            # A new row and not a changed one: undo goes by the order of the rows.
            connection.execute(
                "INSERT OR REPLACE INTO judgements (rater, item, other, value, made_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (storable(rater), item, other, share, self._now()),
            )
            connection.execute(RECOUNT, (item, other))

    def _select(self, query: str, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query for any number of names, which stand where its braces are."""
        unique = list(dict.fromkeys(names))
        with self._read() as connection:
            for start in range(0, len(unique), MAX_NAMES):
                some = unique[start : start + MAX_NAMES]
                yield from connection.execute(query.format(", ".join("?" * len(some))), some)

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        # An export is read on by whichever thread of the web server is free, one at a time.
        with closing(sqlite3.connect(self.path, timeout=BUSY_S, check_same_thread=False)) as connection:
            yield connection

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other change comes between; undone where the block raises."""
        with closing(sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _check_known(connection: sqlite3.Connection, items: tuple[str, ...]) -> None:
    """Raises UnknownItem unless it is one item to be rated, or two to be compared with each other."""
    mode = "rate" if len(items) == 1 else "compare"
    found = connection.execute(
        f"SELECT context FROM items WHERE mode = ? AND id IN ({', '.join('?' * len(items))})", (mode, *items)
    ).fetchall()
    if len(found) != len(items) or len(set(found)) != 1:
        raise UnknownItem(f"{' and '.join(items)} cannot be judged: never asked, or not together")
