"""Pools on disk, for checkpoints: the facts about each entry as a table; the groups are stored elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from learner.replay import Key
from learner.replays.chances import Chance
from learner.replays.pool import Pool
from rollout.types import Group

SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("entered", pa.int64(), nullable=False),
        pa.field("priority", pa.float64()),
        pa.field("slot", pa.int64()),
    ]
)
"""One row per group, in the order in which they entered. Priority and slot are those of chances.Chance."""


def save_entries(pool: Pool, path: Path) -> None:
    """What the pool knows of its groups, without the groups."""
    rows = [_row(key, pool) for key in pool]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


def keys_in(path: Path) -> list[Key]:
    """The keys that `save_entries` wrote, in order."""
    return [(row["epoch"], row["index"]) for row in _rows(path)]


def load_entries(pool: Pool, path: Path, groups: Mapping[Key, Group]) -> None:
    """Fill an empty pool with what `save_entries` wrote.

    Raises:
        KeyError: one of the groups is not given.
    """
    rows = {(row["epoch"], row["index"]): row for row in _rows(path)}
    pool.restore(
        {key: groups[key] for key in rows},
        entered={key: row["entered"] for key, row in rows.items()},
        chances={
            key: Chance(priority=row["priority"], slot=row["slot"])
            for key, row in rows.items()
            if row["slot"] is not None
        },
    )


def _row(key: Key, pool: Pool) -> dict[str, Any]:
    chance = pool.chance(key)
    facts = {} if chance is None else {"priority": chance.priority, "slot": chance.slot}
    return {"epoch": key[0], "index": key[1], "entered": pool[key].entered, **facts}


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return rows
