"""The trajectories of earlier runs as groups to learn from: found, checked, and read one piece at a time.

A piece is a row group of one of their Parquet files: all that is in memory of them is what somebody holds.
The plan makes one of these to check a recipe, the learner process makes another to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from antiphon.errors import UserError
from rollout.trajectories import TOKENIZER
from rollout.trajectory_table import SCHEMA, from_table, is_readable
from rollout.types import Group

FIRST_EPOCH = -2
"""The groups of piece n carry the epoch FIRST_EPOCH − n and count from 0: no group of the run itself, and
none of an evaluation, has such a key."""
FOREIGN_VERSION = -1
"""The policy version of logged groups: none of this run drew them."""
SUBFOLDER = "trajectories"
"""Where a run directory keeps its store."""
FILES = "version=*/*.parquet"
"""The files of a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What token ids mean to the model of the run, and what it can take."""

    tokenizer: str
    """Its fingerprint (rollout/fingerprint.py)."""
    vocab_size: int
    max_tokens: int | None
    """Of a prompt with its completion; None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a store, as its footer describes it."""

    place: int
    """Which of the places that were given."""
    name: str
    """Its path inside of the store."""
    path: Path
    size_bytes: int
    num_rows: tuple[int, ...]
    """Trajectories of each row group."""


class Logged:
    """All pieces of some stores, by number."""

    def __init__(self, places: Sequence[str], limits: Limits) -> None:
        """Reads the footers of all files, and nothing else.

        Args:
            places: run directories, or folders of trajectories.

        Raises:
            UserError: there are none, or some cannot be learned from: other columns, another tokenizer, ids
                that the model does not know, no rewards.
        """
        self._limits = limits
        self._files = [
            _inspect(number, store, path, limits)
            for number, store in enumerate(find_store(Path(place)) for place in places)
            for path in sorted(store.glob(FILES))
        ]
        if not self.num_trajectories:
            raise _nothing_in(", ".join(places))

    @property
    def num_files(self) -> int:
        return len(self._files)

    @property
    def num_trajectories(self) -> int:
        return sum(sum(file.num_rows) for file in self._files)

    @property
    def num_pieces(self) -> int:
        return sum(len(file.num_rows) for file in self._files)

    def read(self, piece: int) -> list[Group]:
        """The groups of a piece, under keys of their own.

        Raises:
            UserError: the file has become unreadable, a trajectory has no score or is too long, or ids are
                unknown to the model.
        """
        path, row_group = self._locate(piece)
        try:
            with pq.ParquetFile(path) as file:
                groups = from_table(file.read_row_group(row_group))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        for group in groups:
            _check_group(group, path, self._limits)
        return [
            replace(group, epoch=FIRST_EPOCH - piece, index=index, policy_version=FOREIGN_VERSION)
            for index, group in enumerate(groups)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Which files there are, JSON-able: the numbers of the pieces follow from it."""
        return {"files": [[file.place, file.name, file.size_bytes] for file in self._files]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep to the files of the state, whatever was added since.

        Raises:
            UserError: one of them is gone, or has another size.
        """
        here = {(file.place, file.name, file.size_bytes): file for file in self._files}
        wanted = [(place, name, size_bytes) for place, name, size_bytes in state["files"]]
        changed = [name for place, name, size_bytes in wanted if (place, name, size_bytes) not in here]
        if changed:
            raise UserError(
                f"{len(changed)} files of logged trajectories are not as they were when the checkpoint was "
                f"written, the first is {changed[0]}",
                remedy="put them back, or point replay.trajectories in the run's recipe.yaml, in the same "
                "order, to where they are now",
            )
        self._files = [here[key] for key in wanted]

    def _locate(self, piece: int) -> tuple[Path, int]:
        left = piece
        for file in self._files:
            if left < len(file.num_rows):
                return file.path, left
            left -= len(file.num_rows)
        raise ValueError(f"there are {self.num_pieces} pieces, {piece} was asked for")


def piece_of(key: tuple[int, int]) -> int:
    """The piece that a logged group is in, by its key."""
    return FIRST_EPOCH - key[0]


def find_store(place: Path) -> Path:
    """The trajectory store of a run directory, or the folder itself.

    Raises:
        UserError: there is nothing in it.
    """
    for folder in (place / SUBFOLDER, place):
        if any(folder.glob(FILES)):
            return folder
    raise _nothing_in(str(place))


def _inspect(place: int, store: Path, path: Path, limits: Limits) -> StoredFile:
    """What the footer of a file says, found to be in order."""
    try:
        with pq.ParquetFile(path) as file:
            schema, footer = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    _check_schema(schema, path, limits)
    row_groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    if not all(row_group.num_rows for row_group in row_groups):
        raise _unreadable(path, ValueError("one of its row groups is empty"))
    num_unscored = sum(_statistic(row_group, "score_value", "null_count", 0) for row_group in row_groups)
    if num_unscored:
        raise _unscored(f"{num_unscored} of the {footer.num_rows} trajectories in {path} have no reward")
    _check_ids(max((_statistic(r, "token_ids", "max", 0) for r in row_groups), default=0), path, limits)
    return StoredFile(
        place=place,
        name=path.relative_to(store).as_posix(),
        path=path,
        size_bytes=path.stat().st_size,
        num_rows=tuple(row_group.num_rows for row_group in row_groups),
    )


def _check_schema(schema: pa.Schema, path: Path, limits: Limits) -> None:
    if not is_readable(schema):
        missing = [name for name in SCHEMA.names if name not in schema.names]
        what = f"lacks the columns {', '.join(missing)}" if missing else "has columns of other types"
        raise UserError(
            f"{path} {what} of a trajectory store",
            remedy="give runs of this version of Antiphon, or write the file with "
            "rollout.trajectories.write_parquet",
        )
    written = (schema.metadata or {}).get(TOKENIZER.encode(), b"").decode()
    if written != limits.tokenizer:
        whose = f"are of the tokenizer {written}" if written else "do not say of which tokenizer they are"
        raise UserError(
            f"the token ids in {path} {whose}, the model of this run has the tokenizer {limits.tokenizer}",
            remedy="use runs of models with the same tokenizer, or set model.name to a model of those runs",
        )


def _check_ids(largest: int, path: Path, limits: Limits) -> None:
    if largest >= limits.vocab_size:
        raise UserError(
            f"{path} holds the token id {largest}, the vocabulary of the model has {limits.vocab_size}",
            remedy="use runs of models with the same vocabulary",
        )


def _check_group(group: Group, path: Path, limits: Limits) -> None:
    if any(score.value is None for score in group.scores):
        raise _unscored(f"a trajectory of prompt {group.prompt.id!r} in {path} has no reward")
    longest = max(len(t.token_ids) for t in group.trajectories)
    if limits.max_tokens is not None and longest > limits.max_tokens:
        raise UserError(
            f"a trajectory of prompt {group.prompt.id!r} in {path} has {longest} tokens, the model takes "
            f"{limits.max_tokens}",
            remedy="use a model with a longer context, or runs with shorter completions",
        )
    _check_ids(max(max(t.token_ids) for t in group.trajectories), path, limits)


def _statistic(row_group: Any, column: str, name: str, default: int) -> int:
    """A number from the footer about a column, or the default where the writer left none."""
    columns = (row_group.column(i) for i in range(row_group.num_columns))
    found = next(c for c in columns if c.path_in_schema.split(".")[0] == column)
    value = getattr(found.statistics, name, None)
    return default if value is None else int(value)


def _unscored(problem: str) -> UserError:
    return UserError(problem, remedy="score them first: only scored trajectories can be learned from")


def _nothing_in(places: str) -> UserError:
    return UserError(
        f"no trajectories are stored in {places}",
        remedy="give a run directory that has finished at least one update with fresh rollouts",
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"{path} cannot be read as trajectories: {reason}", remedy="remove the file, or make the run again"
    )
