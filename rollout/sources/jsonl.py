"""Prompts from a file with one JSON object per line."""

import json
from pathlib import Path
from typing import Any, ClassVar

from antiphon.errors import UserError
from rollout.sources.table import Table, TableConfig, TableSource, existing


class Jsonl(TableSource):
    """Each line is a row, each key a column; empty lines are skipped."""

    name: ClassVar[str] = "jsonl"

    class Config(TableConfig):
        path: Path
        """The file to train on."""
        held_out_path: Path | None = None
        """The file to measure on; null sets `num_held_out` rows of `path` apart."""

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def train_table(self) -> Table:
        return read_jsonl(self.config.path)

    def held_out_table(self) -> Table | None:
        path = self.config.held_out_path
        return None if path is None else read_jsonl(path)


def read_jsonl(path: Path) -> Table:
    """The objects of a file.

    Raises:
        UserError: no such file, or a line that is not a JSON object in UTF-8.
    """
    path = existing(path)
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            rows.append(_row(line, f"{path}, line {number}"))
    return Table(name=path.name, rows=rows)


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}", remedy="write one JSON object per line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object", remedy='write {"prompt": …, "reference": …} per line')
    return row
