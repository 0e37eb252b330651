"""Prompts from a Parquet file, or from a folder of them."""

from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from antiphon.errors import UserError
from rollout.sources.table import Table, TableConfig, TableSource, existing


class Parquet(TableSource):
    """Rows and columns as they are in the file."""

    name: ClassVar[str] = "parquet"

    class Config(TableConfig):
        path: Path
        """The file or folder to train on."""
        held_out_path: Path | None = None
        """The file or folder to measure on; null sets `num_held_out` rows of `path` apart."""

    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def train_table(self) -> Table:
        return read_table(self.config.path)

    def held_out_table(self) -> Table | None:
        path = self.config.held_out_path
        return None if path is None else read_table(path)


def read_table(path: Path) -> Table:
    """All rows of a file or folder.

    Raises:
        UserError: nothing is there, or it is not Parquet.
    """
    path = existing(path)
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}", remedy="give a Parquet file") from error
    return Table(name=path.name, rows=rows)
