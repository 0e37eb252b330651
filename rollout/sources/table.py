"""What the sources that read rows (jsonl, parquet, hub) have in common: from columns to examples.

No source by itself; a source says where its rows come from.
"""

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from antiphon.errors import UserError
from antiphon.seeds import derive
from antiphon.settings import Settings
from rollout.prompts import Example, Message, PromptSource, Split, keep_apart, split_off


class TableConfig(Settings):
    """Which columns mean what."""

    prompt: str = "prompt"
    """The column with what is asked: a text, or a list of messages with `role` and `content`."""
    reference: str | None = "reference"
    """The column with a right answer; null where the rewards need none."""
    metadata: tuple[str, ...] = ()
    """Columns that the reward components get to see."""
    num_held_out: int = Field(128, ge=1)
    """Prompts to measure on, never trained on; of a held-out table of its own, at most so many."""
    seed: int = 0
    """Which rows are held out. Not the seed of the run: runs stay comparable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows as read, and the name that messages and example ids give them."""

    name: str
    rows: Sequence[Mapping[str, Any]]


class TableSource(PromptSource):
    """Reads `train_table`, and a held-out table of its own where the settings name one."""

    config: TableConfig

    @abstractmethod
    def train_table(self) -> Table:
        """The rows to train on."""

    @abstractmethod
    def held_out_table(self) -> Table | None:
        """The rows to measure on; None to set some of the training rows apart."""

    def examples(self) -> Split:
        config = self.config
        table = self.train_table()
        train = to_examples(table, config)
        held_out_table = self.held_out_table()
        if held_out_table is None:
            return split_off(train, config.num_held_out, config.seed, table.name)
        held_out = to_examples(held_out_table, config)
        num_measured = min(config.num_held_out, len(held_out))
        draw = random.Random(derive(config.seed, "held_out"))
        return keep_apart(train, draw.sample(held_out, num_measured), table.name)


def existing(path: Path) -> Path:
    """The path with `~` expanded.

    Raises:
        UserError: nothing is there.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(
            f"there is no file {path}",
            remedy=f"correct the path; a relative one is taken from the working directory, {Path.cwd()}",
        )
    return path


def to_examples(table: Table, config: TableConfig) -> list[Example]:
    """One example per row.

    Raises:
        UserError: no rows, a column that is not there, or a value that cannot be read; names the row.
    """
    if not table.rows:
        raise UserError(f"{table.name} is empty", remedy="give data with at least one row")
    return [_example(row, number, table.name, config) for number, row in enumerate(table.rows, start=1)]


def _example(row: Mapping[str, Any], number: int, name: str, config: TableConfig) -> Example:
    where = f"{name}, row {number}"
    reference = None if config.reference is None else _cell(row, "reference", config.reference, where)
    return Example(
        id=f"{name}/{number}",
        content=_content(_cell(row, "prompt", config.prompt, where), where),
        reference=None if reference is None else _reference(reference, where),
        metadata={column: _cell(row, "metadata", column, where) for column in config.metadata},
    )


def _cell(row: Mapping[str, Any], setting: str, column: str, where: str) -> Any:
    """The value of a column. A reference that is null is refused too: each of its scores would fail."""
    if column not in row:
        raise UserError(
            f"{where}: there is no column {column!r}; the columns are {', '.join(map(repr, row))}",
            remedy=f"set {setting} to the right column{', or to null' * (setting == 'reference')}",
        )
    if row[column] is None and setting != "metadata":
        raise UserError(
            f"{where}: the {setting} is null", remedy=f"fill column {column!r}, or remove the row"
        )
    return row[column]


def _content(value: Any, where: str) -> str | tuple[Message, ...]:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return tuple(Message(role=item["role"], content=item["content"]) for item in value)
    raise UserError(
        f"{where}: the prompt is {_short(value)}, neither a text nor a list of messages",
        remedy='give "a text", or [{"role": "user", "content": "a text"}]',
    )


def _is_message(item: Any) -> bool:
    return isinstance(item, Mapping) and all(isinstance(item.get(key), str) for key in ("role", "content"))


def _reference(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(
            f"{where}: the reference is {_short(value)}, neither a text nor a number",
            remedy="name another column as reference; columns of other types may be metadata",
        )
    return str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"


MAX_SHOWN_CHARS = 60
"""A value of a data set in an error message; some are pages long."""
