"""Groups on disk: how a run keeps what it learned from, for people, for other tools, and for later runs.

    trajectories/version=000003/groups.parquet     the groups that made policy version 3 into version 4

The columns are those of trajectory_table.SCHEMA. A file is read one row group at a time, and no group is torn
by one. The metadata of its schema says under "tokenizer" whose ids they are (fingerprint.py).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq

from antiphon.errors import UserError
from rollout.trajectory_table import SCHEMA, from_table, to_table
from rollout.types import Group

TOKENIZER = "tokenizer"
"""Key of the fingerprint in the metadata of a stored file."""
GROUPS_AT_ONCE = 256
"""Groups of one row group, at most: what a reader has in memory at a time."""
TOKENS_AT_ONCE = 250_000
"""Tokens after which a row group ends, however few groups it has."""


def write_parquet(groups: Sequence[Group], folder: Path, version: int, tokenizer: str = "") -> Path:
    """Store the groups that policy version `version` learned from; the file appears whole or not at all.

    Writing a version again (after a resume) replaces its file, so that nothing is there twice. Without the
    fingerprint of their tokenizer, no run will learn from them later.
    """
    path = folder / f"version={version:06d}" / "groups.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Readers of a folder of Parquet files skip names that begin with a dot.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            write_groups(groups, file, tokenizer)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def write_groups(groups: Iterable[Group], file: IO[bytes], tokenizer: str = "") -> None:
    """Groups as one Parquet file, made and written a row group at a time."""
    metadata = {**SCHEMA.metadata, **({TOKENIZER: tokenizer} if tokenizer else {})}
    with pq.ParquetWriter(file, SCHEMA.with_metadata(metadata), compression="zstd") as writer:
        for part in _row_groups(groups):
            table = to_table(part)
            writer.write_table(table, row_group_size=table.num_rows)


def read_groups(path: Path) -> Iterator[Group]:
    """The groups of one file, one row group in memory at a time."""
    # The name of the folder is not a column: a ParquetFile, unlike read_table, does not make it one.
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield from from_table(file.read_row_group(number))


def read_parquet(folder: Path) -> Iterator[Group]:
    """The stored groups of a run, oldest version first.

    Raises:
        UserError: nothing is stored there.
    """
    paths = sorted(folder.glob("version=*/groups.parquet"))
    if not paths:
        raise UserError(
            f"no trajectories are stored in {folder}",
            remedy="give the trajectories folder of a run directory that has finished at least one update",
        )
    for path in paths:
        yield from read_groups(path)


def _row_groups(groups: Iterable[Group]) -> Iterator[list[Group]]:
    """The groups in parts that are small enough to be read at once."""
    part: list[Group] = []
    num_tokens = 0
    for group in groups:
        part.append(group)
        num_tokens += group.num_tokens
        if len(part) == GROUPS_AT_ONCE or num_tokens >= TOKENS_AT_ONCE:
            yield part
            part, num_tokens = [], 0
    if part:
        yield part
