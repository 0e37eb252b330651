"""Judgements as JSON lines: what the page exports, and what the component `human` reads instead of asking.

    {"prompt": …, "completion": …, "value": 0.75}                          a rating; value in 0..1
    {"kind": "comparison", "prompt": …, "completion": …, "other": …, "value": 1}
                                                the share of the win of `completion` against `other`

`question`, `rater` and `time` may be there; a row with another question than the one asked is passed over.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from antiphon.errors import UserError
from antiphon.privacy import NOTHING_MASKED, Masker
from antiphon.settings import Settings, parse
from reward_service.ratings.items import Comparison, Item, Mode


class Row(Settings):
    """One line. Keys beyond these are left alone: files of others have more."""

    model_config = ConfigDict(extra="ignore", strict=False)

    kind: Literal["rating", "comparison"] = "rating"
    prompt: str
    completion: str
    value: float = Field(ge=0.0, le=1.0)
    other: str = ""
    question: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """What people said, by the id of the item, or of the context."""

    ratings: Mapping[str, list[float]]
    comparisons: Mapping[str, list[Comparison]]


def read_judgements(path: Path, question: str, masker: Masker = NOTHING_MASKED) -> Judgements:
    """What a file says about a question, of texts as `masker` leaves them.

    Raises:
        UserError: it cannot be read, or a line is no judgement.
    """
    ratings: dict[str, list[float]] = defaultdict(list)
    comparisons: dict[str, list[Comparison]] = defaultdict(list)
    for row in (_masked(row, masker) for row in _rows(path)):
        if row.question not in (None, question):
            continue
        if row.kind == "rating":
            ratings[_item("rate", question, row.prompt, row.completion).id].append(row.value)
        else:
            item = _item("compare", question, row.prompt, row.completion)
            other = _item("compare", question, row.prompt, row.other)
            comparisons[item.context].append(Comparison(item=item.id, other=other.id, value=row.value))
    return Judgements(ratings=dict(ratings), comparisons=dict(comparisons))


def as_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Rows as JSON lines."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _masked(row: Row, masker: Masker) -> Row:
    """Its texts as the component masks them, so that both speak of the same item."""
    texts = {name: masker.tail(row.prompt, getattr(row, name)) for name in ("completion", "other")}
    return row.model_copy(update={"prompt": masker.text(row.prompt), **texts})


def _rows(path: Path) -> Iterator[Row]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the ratings in {path} cannot be read: {error}", remedy="give a file of JSON lines, as UTF-8"
        ) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield parse(Row, _object(line, f"{path}:{number}"), f"{path}:{number}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is no JSON: {error}", remedy="one object on each line") from None
    if not isinstance(found, dict):
        raise UserError(f"{where} is no JSON object", remedy="see docs/ratings.md for the form of a line")
    return found


def _item(mode: Mode, question: str, prompt: str, completion: str) -> Item:
    return Item(mode=mode, question=question, prompt=prompt, completion=completion)
