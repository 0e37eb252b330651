import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from antiphon.errors import UserError
from antiphon.plugins import built_in
from rollout.prompts import Message, PromptSource, Split, read_source

ROWS = [{"prompt": f"question {n}", "reference": f"answer {n}", "level": n} for n in range(20)]


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def read(name: str, **section: Any) -> Split:
    return read_source({"name": name, **section}, "data")


@pytest.fixture
def sections(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """A small section for every source that needs no network."""
    return {
        "sort_digits": {"num_digits": 3, "num_train": 30, "num_held_out": 5},
        "jsonl": {"path": str(write_jsonl(tmp_path / "rows.jsonl", ROWS)), "num_held_out": 5},
        "parquet": {"path": str(write_parquet(tmp_path / "rows.parquet", ROWS)), "num_held_out": 5},
        "reasoning_gym": {"dataset": "chain_sum", "num_train": 30, "num_held_out": 5},
    }


# Tested elsewhere: one needs a network, and two measure on what they train on, or have one prompt for all.
ELSEWHERE = {"hub", "random_walks", "wordle"}


@pytest.mark.parametrize("name", sorted(set(built_in(PromptSource, "rollout.sources")) - ELSEWHERE))
def test_every_source_keeps_its_contract(name: str, sections: dict[str, dict[str, Any]]) -> None:
    if name == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    split = read(name, **sections[name])
    assert split == read(name, **sections[name])
    both = [*split.train, *split.held_out]
    assert len(split.held_out) == 5
    assert len(split.train) >= 10
    assert len({e.id for e in both}) == len({e.key for e in both}) == len(both)
    assert all(json.loads(json.dumps(dict(e.metadata))) == e.metadata for e in both)
    assert read(name, **sections[name], seed=1).held_out != split.held_out


def test_digits_are_sorted_and_as_many_as_asked() -> None:
    split = read("sort_digits", num_digits=6)
    assert (len(split.train), len(split.held_out)) == (8192, 256)
    for e in split.train[:100]:
        digits = e.id.removeprefix("sort/")
        assert e.content == f"sort {digits}="
        assert e.reference == "".join(sorted(digits))
        assert len(digits) == 6


def test_short_strings_of_digits_are_all_used() -> None:
    split = read("sort_digits", num_digits=2, num_held_out=20)
    assert (len(split.train), len(split.held_out)) == (80, 20)
    with pytest.raises(UserError, match="10 different prompts, and num_held_out is 20"):
        read("sort_digits", num_digits=1, num_held_out=20)


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_columns_become_examples(name: str, tmp_path: Path) -> None:
    write = {"jsonl": write_jsonl, "parquet": write_parquet}[name]
    rows = [{"q": f"{n}?", "a": n, "level": n % 3, "unused": None} for n in range(5)]
    path = str(write(tmp_path / "data", rows))
    split = read(name, path=path, prompt="q", reference="a", metadata=["level"], num_held_out=1)
    by_content = {e.content: e for e in (*split.train, *split.held_out)}
    e = by_content["4?"]
    assert (e.id, e.reference, e.metadata) == ("data/5", "4", {"level": 1})
    split = read(name, path=path, prompt="q", reference=None, num_held_out=1)
    assert {x.reference for x in split.train} == {None}


def test_conversations_are_read_as_messages(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    rows = [{"prompt": talk, "reference": "yo"}, {"prompt": talk[1:], "reference": "yo"}]
    split = read("jsonl", path=str(write_jsonl(tmp_path / "a", rows)), num_held_out=1)
    contents = {e.content for e in (*split.train, *split.held_out)}
    assert contents == {
        (Message(role="system", content="be brief"), Message(role="user", content="hi")),
        (Message(role="user", content="hi"),),
    }


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_a_held_out_file_of_its_own_is_used_and_kept_apart(name: str, tmp_path: Path) -> None:
    write = {"jsonl": write_jsonl, "parquet": write_parquet}[name]
    train, held_out = write(tmp_path / "train", ROWS[:12]), write(tmp_path / "held", ROWS[10:])
    with pytest.warns(UserWarning, match="2 prompts are held out too"):
        split = read(name, path=str(train), held_out_path=str(held_out))
    assert (len(split.train), len(split.held_out)) == (10, 10)
    other = write(tmp_path / "other", ROWS[12:])
    assert len(read(name, path=str(train), held_out_path=str(other), num_held_out=1).held_out) == 1


def test_hub_data_sets_are_read_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", ROWS[:15])
    write_jsonl(folder / "test.jsonl", ROWS[15:])
    split = read("hub", dataset=str(folder), split="train[:12]", held_out_split="test")
    assert (len(split.train), len(split.held_out)) == (12, 5)
    with pytest.raises(UserError, match="split 'dev' of the data set"):
        read("hub", dataset=str(folder), split="dev")
    with pytest.raises(UserError, match="there is no column 'question'"):
        read("hub", dataset=str(folder), prompt="question")


MISTAKES = {
    "a missing file": (None, {}, "there is no file"),
    "no rows": ([], {}, "rows is empty"),
    "a missing column": (ROWS, {"prompt": "promt"}, "no column 'promt'; .* 'prompt', 'reference', 'level'"),
    "a missing reference": (ROWS, {"reference": "answer"}, "no column 'answer'"),
    "a missing metadata column": (ROWS, {"metadata": ["x"]}, "no column 'x'"),
    "a null prompt": ([{"prompt": None, "reference": ""}], {}, "row 1: the prompt is null"),
    "a null reference": ([{"prompt": "a", "reference": None}], {}, "row 1: the reference is null"),
    "an empty prompt": ([{"prompt": " ", "reference": ""}], {}, "row 1: the prompt is ' ', neither"),
    "a wrong prompt": ([{"prompt": [1] * 99, "reference": ""}], {}, "neither a text nor a list of messages"),
    "a wrong reference": ([{"prompt": "a", "reference": [1]}], {}, r"the reference is \[1\]"),
    "too few rows": (ROWS, {"num_held_out": 20}, "20 different prompts, and num_held_out is 20"),
    "a row that is no object": ([[1]], {}, "line 1 is not an object"),
    "an unknown setting": (ROWS, {"promt": "x"}, "data.promt is not a setting"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_data_set_are_told_with_their_place(mistake: str, tmp_path: Path) -> None:
    rows, section, message = MISTAKES[mistake]
    path = tmp_path / "rows"
    if rows is not None:
        write_jsonl(path, rows)
    with pytest.raises(UserError, match=message):
        read("jsonl", path=str(path), **section)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b'{"prompt": "a"}\n\n{"prompt": \xff}\n')
    with pytest.raises(UserError, match="line 3 is not JSON"):
        read("jsonl", path=str(tmp_path / "rows"))
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read("parquet", path=str(tmp_path / "rows"))
    write_parquet(tmp_path / "empty", [{"prompt": "a"}])
    pq.write_table(pq.read_table(tmp_path / "empty").slice(0, 0), tmp_path / "empty")
    with pytest.raises(UserError, match="empty is empty"):
        read("parquet", path=str(tmp_path / "empty"))


def test_reasoning_gym_items_carry_what_their_verifier_needs() -> None:
    factory = pytest.importorskip("reasoning_gym.factory")
    options = {"min_terms": 2, "max_terms": 2, "max_digits": 1}
    split = read("reasoning_gym", dataset="chain_sum", options=options, num_train=20, num_held_out=5)
    judge = factory.get_score_answer_fn("chain_sum")
    for e in (*split.train, *split.held_out):
        assert e.metadata["entry"]["metadata"]["num_terms"] == 2
        assert judge(e.reference, e.metadata["entry"]) == 1.0
        assert judge("no number", e.metadata["entry"]) < 1.0


def test_mistakes_in_a_reasoning_gym_section_are_told() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(UserError, match="did you mean 'chain_sum'"):
        read("reasoning_gym", dataset="chain_sums")
    with pytest.raises(UserError, match=r"refuses the options of 'chain_sum': .*max_term"):
        read("reasoning_gym", dataset="chain_sum", options={"max_term": 3})
    with pytest.raises(UserError, match="misjudges items that were sent as JSON"):
        read("reasoning_gym", dataset="arc_agi", num_train=1, num_held_out=1)
