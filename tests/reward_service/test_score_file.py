"""Scoring a whole file."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from antiphon.errors import UserError
from reward_service.score_file import check_rows, score_file
from reward_service.types import Sample, Score, Status


class ByLength:
    """Scores the length of a completion; an empty one is invalid."""

    def __init__(self) -> None:
        self.num_calls = 0

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        self.num_calls += 1
        return [
            Score(
                id=s.id,
                status=Status.OK,
                value=float(len(s.completion)),
                parts={"half": len(s.completion) / 2},
            )
            if s.completion
            else Score(id=s.id, status=Status.INVALID_INPUT, message="nothing there")
            for s in samples
        ]


def written(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def row(completion: str, **more: object) -> dict[str, object]:
    return {"prompt": "p", "completion": completion, **more}


def test_every_row_comes_back_with_its_score_and_all_that_it_had(tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", row("ab", note="ü"), "", row(""), row("abcd", id="last"))
    client, seen = ByLength(), []
    report = score_file(client, source, tmp_path / "out.jsonl", batch_size=2, on_scored=seen.append)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["score"]["value"] for r in rows] == [2.0, None, 4.0]
    assert rows[0]["note"] == "ü"
    assert rows[1]["score"]["status"] == "invalid_input"
    assert rows[2]["id"] == "last"
    assert (client.num_calls, seen) == (2, [2, 1])
    # Means over the two rows that have a score: (2 + 4) / 2, and half of it.
    assert report.means == {"reward": 3.0, "half": 1.5}
    assert (report.num_rows, report.num_failed) == (3, 1)
    assert report.messages == ("row@3: invalid_input: nothing there",)


def test_equal_ids_of_rows_do_not_collide(tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", row("a", id="x"), row("ab", id="x"))
    score_file(ByLength(), source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["score"]["value"] for r in rows] == [1.0, 2.0]


def test_a_service_that_breaks_leaves_no_half_written_result(tmp_path: Path) -> None:
    class Breaking:
        def score(self, samples: Sequence[Sample]) -> list[Score]:
            raise RuntimeError("gone")

    source = written(tmp_path / "in.jsonl", row("a"))
    target = written(tmp_path / "out.jsonl", "an older result")
    with pytest.raises(RuntimeError, match="gone"):
        score_file(Breaking(), source, target)
    assert target.read_text() == "an older result\n"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([row("a"), {"prompt": "p"}], "line 2 is no sample: completion: Field required"),
        ([row("a"), "", row("a", num_tokens="3")], "line 3 is no sample: num_tokens"),
        (["{"], "line 1 is not JSON"),
        (["[1, 2]"], r"line 1 is '\[1, 2\]', no object"),
        ([""], "holds no row"),
    ],
)
def test_a_wrong_row_is_named_before_anything_is_scored(tmp_path: Path, rows: list, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        check_rows(written(tmp_path / "in.jsonl", *rows))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jsonl cannot be read: No such file"):
        check_rows(tmp_path / "nowhere.jsonl")
