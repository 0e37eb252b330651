"""Components that look at how a completion is written: repetition, sentiment, toxicity."""

import time

import pytest
from better_profanity import Profanity
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_service.components.repetition import repeated_share
from reward_service.components.sentiment import first_words
from reward_service.components.toxicity import Lexicon
from tests.reward_service.fakes_rewards import value


def test_repetition_is_minus_the_share_of_ngrams_that_were_there_before() -> None:
    # Six words, four triples: abc bca cab abc; one of four is a repeat.
    assert value("repetition", "a b c a b c") == pytest.approx(-1 / 4)
    # Five pairs: ab bc ca ab bc; two of five are repeats. Words: three of six.
    assert value("repetition", "a b c a b c", ngram=2) == pytest.approx(-2 / 5)
    assert value("repetition", "a b c a b c", ngram=1) == pytest.approx(-3 / 6)
    assert value("repetition", "a b c d e f") == 0.0
    # 98 triples, all the same.
    assert value("repetition", "no " * 100) == pytest.approx(-97 / 98)


def test_repetition_sees_neither_case_nor_punctuation() -> None:
    assert value("repetition", "Yes, yes; YES! yes? yes") == pytest.approx(-2 / 3)


def test_texts_shorter_than_an_ngram_repeat_nothing() -> None:
    for text in ("", "...", "no no"):
        assert value("repetition", text) == 0.0


def test_repetition_of_characters_is_for_languages_without_spaces() -> None:
    # Pairs: 你好 好你 你好; one of three is a repeat.
    assert value("repetition", "你好你好", unit="characters", ngram=2) == pytest.approx(-1 / 3)
    assert value("repetition", "你好你好", ngram=2) == 0.0


def test_an_ngram_of_nothing_is_a_programmer_s_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1 unit, got 0"):
        repeated_share("abc", 0)


def test_sentiment_is_the_compound_of_the_library_moved_to_the_wanted_tone() -> None:
    # VADER's compound is +0.6369 for the first and -0.5423 for the second.
    assert value("sentiment", "I love it") == pytest.approx((1 + 0.6369) / 2)
    assert value("sentiment", "bad") == pytest.approx((1 - 0.5423) / 2)
    assert value("sentiment", "bad", tone="negative") == pytest.approx((1 + 0.5423) / 2)
    assert value("sentiment", "bad", tone="neutral") == pytest.approx(1 - 0.5423)
    assert value("sentiment", "I love it", tone="neutral") == pytest.approx(1 - 0.6369)


def test_sentiment_knows_negation_and_says_nothing_where_it_knows_no_word() -> None:
    assert value("sentiment", "not good") < 0.5 < value("sentiment", "good")
    assert value("sentiment", "") == value("sentiment", "the table") == 0.5
    assert value("sentiment", "the table", tone="neutral") == 1.0


def test_sentiment_reads_no_further_than_told() -> None:
    assert value("sentiment", "good  \n good bad bad bad", max_words=2) == value("sentiment", "good good")
    assert first_words(" a  b\nc d", 3) == " a  b\nc"
    assert first_words("a b", 3) == "a b"
    assert first_words("", 1) == ""


def test_a_long_text_is_quickly_read_by_sentiment() -> None:
    """The library alone takes 11 s for it."""
    start = time.process_time()
    value("sentiment", "good but bad " * 4000)
    assert time.process_time() - start < 2.0


def test_each_listed_word_costs_the_penalty() -> None:
    assert value("toxicity", "what a lovely day") == 0.0
    assert value("toxicity", "what a shitty day") == pytest.approx(-0.5)
    assert value("toxicity", "shit, what a shitty day", penalty=0.25) == pytest.approx(-0.5)
    assert value("toxicity", "shit " * 50) == -1.0


@pytest.mark.parametrize("text", ["Shit!", "sh1t", "$hit", '"shit"', "'shit'", "a blow job.", "…shit…"])
def test_other_ways_of_writing_a_word_are_seen(text: str) -> None:
    assert value("toxicity", text) == pytest.approx(-0.5)


@pytest.mark.parametrize("text", ["Scunthorpe", "classic assassin", "****", "\ue000\ue000\ue000\ue000", ""])
def test_words_that_only_contain_one_are_clean(text: str) -> None:
    assert value("toxicity", text) == 0.0


def test_the_list_can_be_changed() -> None:
    assert value("toxicity", "god, kill it") == -1.0
    assert value("toxicity", "god, kill it", allow=["god", "KILL"]) == 0.0
    assert value("toxicity", "you Silly Goose", also=["SILLY goose"]) == pytest.approx(-0.5)
    assert value("toxicity", "you Silly Goose") == 0.0


library = Profanity()
library.load_censor_words()
listed = [str(word) for word in library.CENSOR_WORDSET]
swapped = st.builds(
    lambda word, old, new: word.replace(old, new),
    st.sampled_from(listed),
    st.sampled_from("aeioustl"),
    st.sampled_from("*@$0123457lvxé"),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(word=st.one_of(swapped, st.text("abcefhiknrstu*$1", max_size=6)))
def test_the_quick_list_contains_what_the_library_s_contains(word: str) -> None:
    assert (word in QUICK) is (word in library.CENSOR_WORDSET)


QUICK = Lexicon(listed, library.CHARS_MAPPING)


def test_a_long_text_is_quickly_searched() -> None:
    """The library alone takes 4 s for it."""
    start = time.process_time()
    assert value("toxicity", "a " * 4000 + "shit") == pytest.approx(-0.5)
    assert time.process_time() - start < 1.5
