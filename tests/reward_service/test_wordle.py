"""Wordle: the colours of a guess, and what a game is worth that somebody tells."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import UserError
from reward_service.types import Status
from reward_service.wordle_game import LOST, Outcome, marks, outcome, read_words
from tests.reward_service.fakes_rewards import judge, sample

MARKS = {
    ("apple", "apple"): "GGGGG",
    ("crane", "moody"): "BBBBB",
    ("stale", "least"): "YYGYY",
    # No letter in its place; of the two e of the guess the answer has one, which the first gets.
    ("speed", "abide"): "BBYBY",
    # e stands right twice; the third e of the answer, its first letter, goes to the e in the middle.
    ("geese", "eerie"): "BGYBG",
    # The first l is right, the second is that at the end of the answer; of two a the first gets the only one.
    ("llama", "label"): "GYYBB",
    # A right place comes first: the b in the middle is right, the b before it is the one at the beginning.
    ("abbey", "babes"): "YYGGB",
    # The only o is in its place, so that the o before it is nowhere.
    ("robot", "stoop"): "BYBGY",
    ("floor", "robot"): "BBYGY",
    ("ooops", "robot"): "YGBBB",
}


@pytest.mark.parametrize(("guess", "answer"), MARKS)
def test_marks_by_hand(guess: str, answer: str) -> None:
    assert marks(guess, answer) == MARKS[guess, answer]


WORD = st.text("abc", min_size=5, max_size=5)


@given(WORD, WORD)
def test_a_letter_is_marked_as_often_as_the_answer_has_it(guess: str, answer: str) -> None:
    found = marks(guess, answer)
    for letter in "abc":
        seen = [mark for g, mark in zip(guess, found, strict=True) if g == letter]
        num_marked = sum(mark != "B" for mark in seen)
        assert num_marked == min(guess.count(letter), answer.count(letter))
        # What is yellow is left of what is not there.
        assert "BY" not in "".join(mark for mark in seen if mark != "G")
    assert [m == "G" for m in found] == [g == a for g, a in zip(guess, answer, strict=True)]


def test_a_guess_has_the_length_of_the_answer() -> None:
    with pytest.raises(ValueError, match="length of the answer, got 'cran'"):
        marks("cran", "slate")


GAMES = {
    "apple": Outcome(num_wrong=0, is_won=True),
    # crane against apple: only a and e are in it, e in its place.
    "craneBBYBGapple": Outcome(num_wrong=1, is_won=True),
    "crane\nBBYBG\napple\n": Outcome(num_wrong=1, is_won=True),
    " Crane \nBBYBG\nAPPLE": Outcome(num_wrong=1, is_won=True),
    "zzzzzXXXXXapple": Outcome(num_wrong=1, is_won=True),
    "abXXXXXXXXXXapple": Outcome(num_wrong=2, is_won=True),
    "craneBBYBG" * 5 + "apple": Outcome(num_wrong=5, is_won=True),
    "craneBBYBG" * 5 + "crane": LOST,
    "craneBBYBG" * 6 + "apple": LOST,
    "craneBBYBG": LOST,
    "crane": LOST,
    "": LOST,
    # Other colours than those of the answer: nobody but the policy wrote them.
    "craneGGGGGapple": LOST,
    "craneBBYGBapple": LOST,
    "appleGGGGG": LOST,
    "appleBBBBBapple": LOST,
    # Nothing follows the answer.
    "appleGGGGGapple": LOST,
    "appleXXXXXapple": LOST,
    "GGGGG": LOST,
    "cranesBBYBGapple": LOST,
}


@pytest.mark.parametrize("text", GAMES)
def test_a_game_is_read_off_what_was_said(text: str) -> None:
    assert outcome(text, "apple") == GAMES[text]


@pytest.mark.parametrize("text", GAMES)
def test_the_component_counts_the_wrong_guesses(text: str) -> None:
    found = GAMES[text]
    (score,) = judge("wordle", sample(text, reference="apple"))
    assert score.value == -found.num_wrong
    (won,) = judge("wordle", sample(text, reference="apple"), form="won")
    assert won.value == found.is_won
    assert (found.num_wrong == 6) == (not found.is_won)


def test_a_game_without_an_answer_cannot_be_scored() -> None:
    (score,) = judge("wordle", sample("crane"))
    assert (score.status, score.value) == (Status.INVALID_INPUT, None)


def test_a_list_has_one_word_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("crane\nslate\n\ncrane\n")
    assert read_words(path) == ("crane", "slate")
    for text, problem in (
        ("", "it is empty"),
        ("crane\nApple\n", "'Apple' in it is none"),
        ("cranes", "none"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=problem):
            read_words(path)
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_words(tmp_path / "absent.txt")
    assert "recipes.make_wordle" in caught.value.remedy
