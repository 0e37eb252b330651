"""Transitions and choices, read from JSON lines or Parquet, and refused where they make no sense.

Called by the training. Knows texts; knows nothing of tokens and tensors.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet

from antiphon.errors import UserError

T = TypeVar("T")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of an episode: in `state`, `actions[taken]` was taken, and `reward` came of it."""

    state: str
    actions: tuple[str, ...]
    """What could have been taken."""
    taken: int
    reward: float
    next_state: str = ""
    """Empty where the episode was done."""
    next_actions: tuple[str, ...] = ()
    is_done: bool
    """Whether nothing can follow. An episode that was only broken off has a next state and is not done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A state with the worth of every candidate, to measure by."""

    state: str
    actions: tuple[str, ...]
    values: tuple[float, ...]
    """What each action is worth: its reward where the episode ends with it, else its exact Q."""


def read_transitions(paths: Sequence[Path]) -> list[Transition]:
    """The transitions of all files.

    Raises:
        UserError: a file that cannot be read, a row that is no transition, or none at all.
    """
    return _read_all(paths, _transition, "data.paths")


def read_choices(paths: Sequence[Path]) -> list[Choice]:
    """The choices of all files.

    Raises:
        UserError: a file that cannot be read, a row that is no choice, or none at all.
    """
    return _read_all(paths, _choice, "evaluation.paths")


def _read_all(paths: Sequence[Path], make: Callable[[Row, str], T], setting: str) -> list[T]:
    found = [make(row, where) for path in paths for row, where in _rows(path, setting)]
    if not found:
        raise UserError(
            f"there is no row in {', '.join(map(str, paths)) or setting}", remedy=f"set {setting}"
        )
    return found


def _rows(path: Path, setting: str) -> Iterator[tuple[Row, str]]:
    """The rows of a file, each with its place."""
    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path)
        else:
            yield from _json_rows(path)
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read: {reason}", remedy=f"set {setting} to files of JSON lines, or .parquet"
        ) from None


def _parquet_rows(path: Path) -> Iterator[tuple[Row, str]]:
    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}, row {number}"


def _json_rows(path: Path) -> Iterator[tuple[Row, str]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{where} is not JSON: {error}", remedy="write one JSON object per line"
                ) from None
            if not isinstance(row, dict):
                raise UserError(f"{where} is not an object", remedy='write {"state": …, "actions": …, …}')
            yield row, where


def _transition(row: Row, where: str) -> Transition:
    actions, taken = _taken(row, where)
    is_done = row.get("done", row.get("next_state") is None)
    if not isinstance(is_done, bool):
        raise UserError(f"{where}: done is {is_done!r}, not true or false", remedy="write true or false")
    return Transition(
        state=_text(row, "state", where),
        actions=actions,
        taken=taken,
        reward=_number(row.get("reward"), "reward", where),
        next_state="" if is_done else _text(row, "next_state", where),
        next_actions=() if is_done else _texts(row, "next_actions", where),
        is_done=is_done,
    )


def _taken(row: Row, where: str) -> tuple[tuple[str, ...], int]:
    """The candidates and the number of the one that was taken, which is given as number or as text."""
    action = row.get("action")
    is_text = isinstance(action, str)
    if is_text and row.get("actions") is None:
        return (_text(row, "action", where),), 0
    actions = _texts(row, "actions", where)
    if is_text and action in actions:
        return actions, actions.index(action)
    is_number = isinstance(action, int) and not isinstance(action, bool)
    if is_number and 0 <= action < len(actions):  # type: ignore[operator]
        return actions, action  # type: ignore[return-value]
    raise UserError(
        f"{where}: action is {action!r}, which is none of its {len(actions)} actions",
        remedy="write the action's text, or its number in actions, from 0",
    )


def _choice(row: Row, where: str) -> Choice:
    actions = _texts(row, "actions", where)
    values = row.get("values")
    if not isinstance(values, list) or len(values) != len(actions):
        raise UserError(
            f"{where}: values is {values!r}, not a list of {len(actions)} numbers",
            remedy="write what each of its actions is worth",
        )
    return Choice(
        state=_text(row, "state", where),
        actions=actions,
        values=tuple(_number(value, "values", where) for value in values),
    )


def _text(row: Row, key: str, where: str) -> str:
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where} has no text under {key!r}", remedy=f"it has {sorted(row)}; write {key}")
    return text


def _texts(row: Row, key: str, where: str) -> tuple[str, ...]:
    texts = row.get(key)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise UserError(f"{where} has no list of texts under {key!r}", remedy=f"write {key}: [text, …]")
    if len(set(texts)) != len(texts):
        raise UserError(f"{where} has the same text twice in {key!r}", remedy="write each candidate once")
    return tuple(texts)


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(
            f"{where}: {key} is {value!r}, not a finite number", remedy=f"write {key} as a number"
        )
    return float(value)
