from collections import Counter

import pytest

from antiphon.errors import UserError
from rollout.prompts import Example, Message, PromptStream, Split, keep_apart, split_off
from tests.rollout import fakes_groups as fakes


def stream(num_prompts: int = 10, seed: int = 0) -> PromptStream:
    return PromptStream([fakes.prompt(id=str(n)) for n in range(num_prompts)], seed)


def examples(*texts: str) -> list[Example]:
    return [Example(id=f"{text}{n}", content=text) for n, text in enumerate(texts)]


def test_each_pass_gives_every_prompt_once_in_another_order() -> None:
    s = stream()
    passes = [[s.turn(10 * epoch + i).prompt.id for i in range(10)] for epoch in range(3)]
    assert all(sorted(ids) == [str(n) for n in range(10)] for ids in passes)
    assert passes[0] != passes[1] != passes[2]


def test_a_turn_knows_its_pass_and_its_place_in_it() -> None:
    turn = stream().turn(27)
    assert (turn.epoch, turn.index) == (2, 7)


def test_a_stream_has_no_state_but_its_seed() -> None:
    """Whoever goes on from a position gives out what an uninterrupted run would have."""
    from_start = [stream().turn(i) for i in range(35)]
    resumed = stream()
    assert [resumed.turn(i) for i in range(20, 35)] == from_start[20:]
    assert [resumed.turn(i) for i in reversed(range(35))] == from_start[::-1]
    assert [stream(seed=1).turn(i) for i in range(35)] != from_start


def test_every_order_of_three_prompts_occurs_about_equally_often() -> None:
    # 6 orders, 1200 passes: 200 each, standard deviation 12.9.
    s = stream(3)
    orders = Counter(tuple(s.turn(3 * e + i).prompt.id for i in range(3)) for e in range(1200))
    assert len(orders) == 6
    assert all(140 < n < 260 for n in orders.values())


def test_a_stream_refuses_what_it_cannot_give() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        PromptStream([], 0)
    with pytest.raises(ValueError, match="a position is 0 or more"):
        stream().turn(-1)


def test_what_is_held_out_is_not_in_train_even_where_the_data_repeat() -> None:
    split = split_off(examples("a", "b", "a", " a ", "c", "d"), 2, 0, "data")
    keys = [e.key for e in (*split.train, *split.held_out)]
    assert sorted(keys) == ["a", "b", "c", "d"]
    assert len(split.held_out) == 2


def test_the_split_depends_on_its_seed_alone() -> None:
    rows = examples(*map(str, range(100)))
    assert split_off(rows, 10, 0, "data") == split_off(rows, 10, 0, "data")
    assert split_off(rows, 10, 0, "data").held_out != split_off(rows, 10, 1, "data").held_out


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="data has 2 different prompts, and num_held_out is 2"):
        split_off(examples("a", "b", "a"), 2, 0, "data")


def test_training_rows_that_are_held_out_elsewhere_are_left_out() -> None:
    with pytest.warns(UserWarning, match="data: 1 prompts are held out too"):
        split = keep_apart(examples("a", "b"), examples("b", "c"), "data")
    assert [e.key for e in split.train] == ["a"]
    with pytest.raises(UserError, match="no prompt is left to train on"):
        keep_apart(examples("a"), examples("a"), "data")


def test_a_leaking_split_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="1 held-out examples are in train too, the first is a1"):
        Split(train=tuple(examples("a")), held_out=tuple(examples("b", "a")))


def test_conversations_are_compared_by_role_and_content() -> None:
    def talk(role: str) -> Example:
        return Example(id=role, content=(Message(role=role, content="a "),))

    assert talk("user").key == Example(id="x", content=(Message(role="user", content="a"),)).key
    assert talk("user").key != talk("system").key
