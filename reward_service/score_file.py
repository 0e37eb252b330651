"""`antiphon score`: scores a whole file, row by row, by the rewards of a recipe or by a running service.

{"prompt": "sort 5821=", "completion": "1258", "reference": "1258"}     one row of the input
{..., "score": {"value": 1.0, "status": "ok", "parts": {...}}}          the same row of the output
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from antiphon.errors import UserError
from reward_service.client import RewardClient
from reward_service.types import Sample, Score

Row = dict[str, Any]
_SAMPLE = TypeAdapter(Sample)
_FIELDS = {f.name for f in fields(Sample)}
MAX_SHOWN = 3
"""Messages of failed scores in the report."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """How the scoring of a file ended."""

    num_rows: int
    num_by_status: dict[str, int]
    means: dict[str, float]
    """Of the reward, under "reward", and of every part, over the rows that were scored."""
    messages: tuple[str, ...]
    """What the first failed rows said."""

    @property
    def num_failed(self) -> int:
        return self.num_rows - self.num_by_status.get("ok", 0)


def check_rows(path: Path) -> int:
    """The number of rows of a file, every one of which can be scored.

    Raises:
        UserError: no such file, no row, or a row that is no sample, with its line number.
    """
    num_rows = 0
    for number, row in _rows(path):
        _sample(row, number, path)
        num_rows = number
    if num_rows == 0:
        raise UserError(f"{path} holds no row", remedy="write one JSON object per line")
    return num_rows


def score_file(
    client: RewardClient,
    source: Path,
    target: Path,
    *,
    batch_size: int = 1024,
    on_scored: Callable[[int], None] = lambda num_rows: None,
) -> Report:
    """Scores every row of `source` into `target`, which appears when all of it is written.

    Args:
        on_scored: told the number of rows of every batch.

    Raises:
        UserError: a row is no sample, or `target` cannot be written.
    """
    partial = target.with_name(target.name + ".partial")
    tally = _Tally()
    try:
        with partial.open("w") as out:
            rows = _rows(source)
            while batch := list(islice(rows, batch_size)):
                scores = client.score([_sample(row, number, source) for number, row in batch])
                _write(out, [row for _, row in batch], scores)
                tally.add(scores)
                on_scored(len(batch))
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error.strerror}", remedy="name another --output"
        ) from None
    partial.replace(target)
    return tally.report()


class _Tally:
    """What the report is made of."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._messages: list[str] = []

    def add(self, scores: Sequence[Score]) -> None:
        for score in scores:
            self._statuses[score.status.value] += 1
            if score.value is None:
                self._messages.append(f"{score.id}: {score.status}: {score.message}")
                del self._messages[MAX_SHOWN:]
                continue
            for name, value in {"reward": score.value, **score.parts}.items():
                self._sums[name] += value  # type: ignore[assignment]
                self._counts[name] += 1

    def report(self) -> Report:
        return Report(
            num_rows=sum(self._statuses.values()),
            num_by_status=dict(self._statuses),
            means={name: self._sums[name] / self._counts[name] for name in self._sums},
            messages=tuple(self._messages),
        )


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a JSONL file with their line numbers; empty lines are passed over."""
    try:
        with path.open() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _object(line, number, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}", remedy="give the path of a file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason}", remedy="save it as UTF-8") from None


def _object(line: str, number: int, path: Path) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number} is not JSON: {error}", remedy="mend the line") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number} is {line.strip()[:60]!r}, no object", remedy="mend the line")
    return row


def _sample(row: Row, number: int, path: Path) -> Sample:
    """A row as a sample; keys that a sample does not know stay in the row. Line numbers make ids unique."""
    known = {key: value for key, value in row.items() if key in _FIELDS}
    try:
        # In its JSON form a sample may be an object.
        body = json.dumps({**known, "id": f"{row.get('id', 'row')}@{number}"})
        return _SAMPLE.validate_json(body, strict=True)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors(include_url=False))
        raise UserError(
            f"{path}, line {number} is no sample: {wrong}",
            remedy='a row needs the texts "prompt" and "completion", and "reference" where one is compared',
        ) from None


def _write(out: TextIO, rows: Sequence[Row], scores: Sequence[Score]) -> None:
    for row, score in zip(rows, scores, strict=True):
        told = asdict(score)
        del told["id"]
        out.write(json.dumps({**row, "score": told}, ensure_ascii=False, default=str) + "\n")
