"""The store of ratings: what is shown next, what is kept, and several processes at once."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from antiphon.errors import UserError
from reward_service.ratings.files import as_lines, read_judgements
from reward_service.ratings.items import Comparison, Item, Mode
from reward_service.ratings.store import RatingStore, UnknownItem

QUESTION = "Good?"


def item(completion: str, *, mode: Mode = "rate", prompt: str = "p", num_wanted: int = 1) -> Item:
    return Item(mode=mode, question=QUESTION, prompt=prompt, completion=completion, num_wanted=num_wanted)


A, B, C = (item(c) for c in "abc")
LEFT, MIDDLE, RIGHT = (item(c, mode="compare") for c in "lmr")


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    ticks: Iterator[int] = count(1000)
    return RatingStore(tmp_path / "new" / "ratings.sqlite", now=lambda: float(next(ticks)))


def shown(store: RatingStore, rater: str = "Ann") -> str:
    """The completions on the page, in alphabetical order."""
    return "".join(sorted(s.completion for s in store.next(rater).items))


def test_what_was_asked_last_is_shown_first_and_in_the_order_of_the_question(store: RatingStore) -> None:
    store.ask([A])
    store.ask([B, C])
    assert shown(store) == "b"
    store.rate("Ann", B.id, 0.5)
    assert shown(store) == "c"
    store.rate("Ann", C.id, 0.5)
    assert shown(store) == "a"


def test_asking_again_brings_an_item_to_the_front_and_does_not_double_it(store: RatingStore) -> None:
    store.ask([A])
    store.ask([B])
    store.ask([A])
    assert shown(store) == "a"
    assert store.next("Ann").num_waiting == 2


def test_an_item_waits_until_it_has_as_many_ratings_as_are_wanted(store: RatingStore) -> None:
    store.ask([item("a", num_wanted=2)])
    store.rate("Ann", A.id, 1.0)
    assert store.next("Ann").kind == "nothing"
    assert shown(store, "Bob") == "a"
    store.rate("Bob", A.id, 0.5)
    assert store.next("Cy").kind == "nothing"
    assert store.ratings([A.id, B.id]) == {A.id: [1.0, 0.5]}


def test_a_second_rating_by_the_same_person_replaces_the_first(store: RatingStore) -> None:
    store.ask([item("a", num_wanted=2)])
    store.rate("Ann", A.id, 1.0)
    store.rate("Ann", A.id, 0.0)
    assert store.ratings([A.id]) == {A.id: [0.0]}
    assert store.next("Ann").num_waiting == 1


def test_a_skip_is_for_one_person_and_is_no_judgement(store: RatingStore) -> None:
    store.ask([A])
    store.skip("Ann", [A.id])
    assert store.next("Ann").kind == "nothing"
    assert store.next("Ann").num_mine == 0
    assert shown(store, "Bob") == "a"
    assert store.ratings([A.id]) == {}
    assert list(store.judgements()) == []


def test_undo_takes_back_the_newest_thing_that_this_person_did(store: RatingStore) -> None:
    store.ask([A, B])
    store.rate("Ann", A.id, 1.0)
    store.rate("Bob", B.id, 1.0)
    store.skip("Ann", [B.id])
    assert [s.completion for s in store.undo("Ann").items] == ["b"]
    assert [s.completion for s in store.undo("Ann").items] == ["a"]
    assert store.undo("Ann").kind == "nothing"
    assert store.ratings([A.id, B.id]) == {B.id: [1.0]}
    assert shown(store) == "a"


def test_undo_after_a_change_of_mind_takes_the_newest_of_all(store: RatingStore) -> None:
    store.ask([A, B])
    store.rate("Ann", A.id, 1.0)
    store.rate("Ann", B.id, 1.0)
    store.rate("Ann", A.id, 0.0)
    assert [s.completion for s in store.undo("Ann").items] == ["a"]


def test_pairs_come_from_one_prompt_and_those_who_met_least_meet_next(store: RatingStore) -> None:
    far = item("far", mode="compare", prompt="another")
    store.ask([LEFT, MIDDLE, RIGHT, far])
    assert shown(store) == "lm"
    store.compare("Ann", Comparison(item=LEFT.id, other=MIDDLE.id, value=1.0))
    # l and m have met; r has met nobody, and l stands first of those who could.
    assert shown(store) == "lr"
    store.compare("Ann", Comparison(item=RIGHT.id, other=LEFT.id, value=1.0))
    assert store.next("Ann").kind == "nothing"
    # Nobody can be compared with it: it waits.
    assert store.next("Ann").num_waiting == 1


def test_a_new_completion_meets_the_one_that_met_least(store: RatingStore) -> None:
    one, two, three, four = (item(c, mode="compare", num_wanted=3) for c in "1234")
    store.ask([one, two, three, four])
    store.compare("Ann", Comparison(item=one.id, other=two.id, value=1.0))
    assert shown(store) == "34"


def test_a_pair_is_shown_to_a_person_once_and_still_to_others(store: RatingStore) -> None:
    store.ask([item("l", mode="compare", num_wanted=2), item("r", mode="compare", num_wanted=2)])
    store.compare("Ann", Comparison(item=LEFT.id, other=RIGHT.id, value=1.0))
    assert store.next("Ann").kind == "nothing"
    assert shown(store, "Bob") == "lr"


def test_who_won_does_not_depend_on_the_side_on_which_it_stood(store: RatingStore) -> None:
    store.ask([LEFT, RIGHT])
    for first, second, value in ((LEFT, RIGHT, 1.0), (RIGHT, LEFT, 0.0)):
        store.compare("Ann", Comparison(item=first.id, other=second.id, value=value))
        (kept,) = store.comparisons([LEFT.context])[LEFT.context]
        assert (kept.value if kept.item == LEFT.id else 1.0 - kept.value) == 1.0


def test_the_side_on_which_a_completion_stands_is_fixed_for_a_person_and_even_over_pairs(
    store: RatingStore,
) -> None:
    pairs = [[item(c, mode="compare", prompt=f"p{n}") for c in "ab"] for n in range(60)]
    num_first = 0
    for pair in pairs:
        store.ask(pair)
        once, again = store.next("Ann").items, store.next("Ann").items
        assert once == again
        num_first += once[0].completion == "a"
    assert 15 <= num_first <= 45
    assert {store.next(f"rater {n}").items[0].completion for n in range(20)} == {"a", "b"}


def test_modes_and_prompts_do_not_mix(store: RatingStore) -> None:
    far = item("far", mode="compare", prompt="another")
    store.ask([A, LEFT, far])
    for wrong in (lambda: store.rate("Ann", LEFT.id, 1.0), lambda: store.skip("Ann", [A.id, LEFT.id])):
        with pytest.raises(UnknownItem):
            wrong()
    for other in (far.id, A.id, LEFT.id, "0" * 32):
        with pytest.raises(UnknownItem):
            store.compare("Ann", Comparison(item=LEFT.id, other=other, value=1.0))
    with pytest.raises(UnknownItem):
        store.rate("Ann", "0" * 32, 1.0)
    assert list(store.judgements()) == []


def test_a_rating_outside_of_the_scale_is_refused(store: RatingStore) -> None:
    store.ask([A])
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            store.rate("Ann", A.id, value)


def test_awkward_texts_come_back_as_they_were(store: RatingStore) -> None:
    for text in (
        "",
        "\x00\ufffd",
        "<script>alert(1)</script>",
        "кот 猫 🐈",
        "'; DROP TABLE items; --",
        "a\r\n",
    ):
        store.ask([item(text)])
        assert [s.completion for s in store.next("Ann").items] == [text]


def test_a_lone_surrogate_is_replaced_and_does_no_harm(store: RatingStore) -> None:
    store.ask([item("\ud800")])
    assert [s.completion for s in store.next("Ann\ud800").items] == ["?"]


def test_more_items_than_a_query_can_name(store: RatingStore) -> None:
    items = [item(str(n)) for n in range(1201)]
    store.ask(items)
    store.rate("Ann", items[1200].id, 0.25)
    assert store.ratings([i.id for i in items]) == {items[1200].id: [0.25]}


def test_what_is_exported_is_read_back(store: RatingStore, tmp_path: Path) -> None:
    store.ask([A, LEFT, RIGHT])
    store.rate("Ann", A.id, 0.75)
    store.compare("Ann", Comparison(item=LEFT.id, other=RIGHT.id, value=1.0))
    store.compare("Bob", Comparison(item=LEFT.id, other=RIGHT.id, value=0.5))
    rating, first, _ = rows = list(store.judgements())
    assert rating == {
        **{"kind": "rating", "question": QUESTION, "prompt": "p", "completion": "a", "value": 0.75},
        **{"rater": "Ann", "time": rating["time"]},
    }
    assert {first["completion"], first["other"]} == {"l", "r"}
    path = tmp_path / "out.jsonl"
    path.write_text("".join(as_lines(rows)))
    read = read_judgements(path, QUESTION)
    assert read.ratings == store.ratings([A.id])
    assert read.comparisons == store.comparisons([LEFT.context])
    assert read_judgements(path, "Short?").ratings == {}


def test_an_export_may_be_read_on_by_another_thread(store: RatingStore) -> None:
    store.ask([A, B])
    store.rate("Ann", A.id, 0.5)
    store.rate("Ann", B.id, 0.5)
    rows = store.judgements()
    assert next(rows)["completion"] == "a"
    with ThreadPoolExecutor(1) as thread:
        assert [row["completion"] for row in thread.submit(list, rows).result()] == ["b"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and no database at all" * 10)
    with pytest.raises(UserError, match="cannot be kept"):
        RatingStore(path)
    with pytest.raises(UserError, match="cannot be kept"):
        RatingStore(path / "below")


def judge_many(path: Path, rater: str, num: int) -> None:
    store = RatingStore(path)
    for n in range(num):
        asked = item(str(n), num_wanted=9)
        store.ask([asked])
        store.rate(rater, asked.id, 0.5)


def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "ratings.sqlite"
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=judge_many, args=(path, f"rater {n}", 20)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [p.exitcode for p in processes] == [0] * 4
    found = RatingStore(path).ratings([item(str(n)).id for n in range(20)])
    assert [len(values) for values in found.values()] == [4] * 20
