"""Transitions and choices: read alike from both kinds of files, refused with place and remedy; as tensors."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from antiphon.errors import UserError
from learner.choice.baselines import accuracy_of, baselines, mean_reward, word_cosine
from learner.choice.table import ChoiceTable, Texts, TransitionTable
from learner.choice.transitions import Choice, read_choices, read_transitions
from tests.learner.fakes_choice import step

STEP = {
    "state": "hello",
    "actions": ["greet", "leave"],
    "action": 1,
    "reward": 0.5,
    "next_state": "hello again",
    "next_actions": ["greet"],
    "done": False,
}
END = {**STEP, "next_state": None, "next_actions": [], "done": True}
CHOICE = {"state": "hello", "actions": ["greet", "leave"], "values": [1.0, 0]}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_lines_and_parquet_hold_the_same_transitions(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([STEP, END]), tmp_path / "rows.parquet")
    read = read_transitions([written(tmp_path, STEP, "", END)])
    assert read == read_transitions([tmp_path / "rows.parquet"])
    assert [t.taken for t in read] == [1, 1]
    assert [(t.next_state, t.next_actions, t.is_done) for t in read] == [
        ("hello again", ("greet",), False),
        ("", (), True),
    ]


def test_files_follow_each_other(tmp_path: Path) -> None:
    path = written(tmp_path, STEP)
    assert len(read_transitions([path, path])) == 2


def test_an_action_is_a_number_or_a_text_and_may_stand_alone(tmp_path: Path) -> None:
    alone = {key: value for key, value in END.items() if key != "actions"} | {"action": "wave"}
    by_text, by_itself = read_transitions([written(tmp_path, {**STEP, "action": "leave"}, alone)])
    assert by_text == read_transitions([written(tmp_path, STEP)])[0]
    assert (by_itself.actions, by_itself.taken) == (("wave",), 0)


def test_without_a_word_an_episode_is_done_where_nothing_follows(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "done"} for row in (STEP, END)]
    assert [t.is_done for t in read_transitions([written(tmp_path, *rows)])] == [False, True]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is not an object"),
        ({**STEP, "state": " "}, "line 2 has no text under 'state'"),
        ({**STEP, "actions": []}, "no list of texts under 'actions'"),
        ({**STEP, "actions": ["a", "a"], "action": 0}, "same text twice"),
        ({**STEP, "action": 2}, "action is 2, which is none of its 2"),
        ({**STEP, "action": -1}, "action is -1"),
        ({**STEP, "action": True}, "action is True"),
        ({**STEP, "action": "wave"}, "action is 'wave'"),
        ({**STEP, "reward": None}, "reward is None"),
        ({**STEP, "reward": float("nan")}, "reward is nan"),
        ({**STEP, "reward": True}, "reward is True"),
        ({**STEP, "done": "no"}, "done is 'no'"),
        ({**STEP, "next_state": None}, "no text under 'next_state'"),
        ({**STEP, "next_actions": []}, "no list of texts under 'next_actions'"),
    ],
)
def test_a_row_that_is_no_transition_is_named(row: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        read_transitions([written(tmp_path, STEP, row)])
    assert "rows.jsonl, line 2" in caught.value.problem


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({**CHOICE, "values": [1.0]}, "values is .*, not a list of 2 numbers"),
        ({**CHOICE, "values": None}, "values is None"),
        ({**CHOICE, "values": [1.0, float("inf")]}, "values is inf"),
    ],
)
def test_a_row_that_is_no_choice_is_named(row: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=problem):
        read_choices([written(tmp_path, CHOICE, row)])


def test_files_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="there is no row in"):
        read_transitions([written(tmp_path)])
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_transitions([tmp_path / "absent.jsonl"])
    with pytest.raises(UserError, match="cannot be read"):
        read_transitions([tmp_path / "broken.parquet"])


def test_texts_become_numbers_and_gaps_are_marked() -> None:
    texts = Texts()
    table = TransitionTable.of(
        [step("s", "a", 0.5, "t", "a", "b"), step("t", "b", 1.0, actions=("a", "b"), taken=1)], texts
    )
    # In the order of their coming: states s, t; of the second column −1 where there is no candidate.
    names = texts.as_read()
    assert [[names[i] if i >= 0 else "" for i in row] for row in table.actions.tolist()] == [
        ["a", ""],
        ["a", "b"],
    ]
    assert [[names[i] if i >= 0 else "" for i in row] for row in table.next_actions.tolist()] == [
        ["a", "b"],
        ["", ""],
    ]
    assert [names[i] for i in table.taken_action.tolist()] == ["a", "b"]
    assert table.next_state.tolist() == [names.index("t"), -1]
    assert (table.reward.tolist(), table.is_done.tolist()) == ([0.5, 1.0], [False, True])
    assert table.rows(table.taken.new_tensor([1])).reward.tolist() == [1.0]
    assert len(texts) == 4


def test_the_same_words_are_two_texts_where_prefixes_differ() -> None:
    texts = Texts("query: ", "passage: ")
    assert texts.state("x") != texts.action("x")
    assert texts.as_read() == ["query: x", "passage: x"]
    plain = Texts()
    assert plain.state("x") == plain.action("x")


def test_choices_of_several_sizes_stand_in_one_table() -> None:
    rows = [
        Choice(state="s", actions=("a",), values=(-1.0,)),
        Choice(state="s", actions=("a", "b"), values=(2, 3)),
    ]
    table = ChoiceTable.of(rows, Texts())
    assert table.is_there.tolist() == [[True, False], [True, True]]
    assert table.values.tolist() == [[-1.0, 0.0], [2.0, 3.0]]


def test_rules_that_learn_nothing_are_measured() -> None:
    choices = [
        Choice(state="red fox", actions=("a fox", "something else"), values=(1.0, 0.0)),
        Choice(state="blue bird", actions=("a fox", "something else"), values=(0.0, 1.0)),
    ]
    found = baselines(choices, [step("x", "a fox", 1.0), step("y", "a fox", 0.0), step("z", "other", 0.25)])
    # Of two states: "longest" and "shortest" are right in one each; the words tell the first and tie in the
    # second (½); "a fox" brought ½ in training, and "something else", never seen, counts as the mean 0.4167.
    assert found == {
        "chance": 0.5,
        "longest": 0.5,
        "shortest": 0.5,
        "shared_words": 0.75,
        "state_blind": 0.5,
    }


def test_words_count_by_their_rarity() -> None:
    cosine = word_cosine(["the cat", "the cat sat", "the dog"])
    # "the" is everywhere and counts nothing: ln(3/3) = 0. cat: ln(3/2) = 0.4055, sat: ln 3 = 1.0986.
    # cos = 0.4055² / (0.4055 · √(0.4055² + 1.0986²)) = 0.4055 / 1.1710
    assert cosine("the cat", "the cat sat") == pytest.approx(0.4055 / 1.1710, abs=1e-4)
    assert cosine("the cat", "the dog") == 0.0


def test_an_unknown_action_is_worth_the_mean() -> None:
    rule = mean_reward([step("x", "a", 1.0), step("y", "b", 0.0), step("y", "b", 0.5)])
    assert [rule("any", action) for action in ("a", "b", "new")] == [1.0, 0.25, 0.5]


def test_a_rule_that_cannot_tell_shares_its_choice() -> None:
    choice = Choice(state="s", actions=("a", "b", "c"), values=(1.0, 1.0, 0.0))
    assert accuracy_of(lambda state, action: 0.0, [choice]) == pytest.approx(2 / 3)
