"""S15: BLEU, chrF and ROUGE of single sentences, fit to be rewards."""

import math

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from reward_service.types import Status
from tests.reward_service.fakes_rewards import judge, sample, value

METRICS = ["bleu", "chrf", "rouge1", "rouge2", "rougeL"]
PAIRS = [
    ("the cat sat", "the cat lay down"),
    ("command line tool to list files", "list files from the command line"),
    ("a", "a library for fast Fourier transforms"),
    ("GNU assembler, linker and binary utilities", "GNU assembler, linker and binary utilities"),
    ("shared library", "development files"),
    ("The quick, brown fox jumps! Over it.", "the quick brown fox jumped over the lazy dog."),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_words", [1, 2, 3, 4, 20])
def test_identical_texts_of_any_length_score_exactly_one(metric: str, num_words: int) -> None:
    """S15: without effective order, texts shorter than the longest n-gram score near 0."""
    text = " ".join(f"word{i}" for i in range(num_words))
    assert value(metric, text, text) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_an_empty_completion_scores_zero_and_is_no_failure(metric: str) -> None:
    """S15."""
    (score,) = judge(metric, sample("", reference="a b c"))
    assert (score.status, score.value) == (Status.OK, 0.0)


@pytest.mark.parametrize(("completion", "reference"), PAIRS)
def test_values_are_those_of_the_reference_libraries(completion: str, reference: str) -> None:
    """S15: on the scale from 0 to 1."""
    bleu = sacrebleu.sentence_bleu(completion, [reference], use_effective_order=True).score
    chrf = sacrebleu.sentence_chrf(completion, [reference]).score
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, completion)
    assert value("bleu", completion, reference) == pytest.approx(bleu / 100, abs=1e-12)
    assert value("chrf", completion, reference) == pytest.approx(chrf / 100, abs=1e-12)
    for name, expected in rouge.items():
        assert value(name, completion, reference) == pytest.approx(expected.fmeasure, abs=1e-12)


def test_values_are_those_worked_by_hand() -> None:
    """S15."""
    # All 1-, 2- and 3-grams match, there is no 4-gram; brevity penalty exp(1 - 4/3).
    assert value("bleu", "the cat sat", "the cat sat down") == pytest.approx(math.exp(-1 / 3))
    # Words: 2 shared of 3 and 4, F = 2*2/7. Pairs: 1 shared of 2 and 3, F = 2*1/5. Subsequence: 2 words.
    assert value("rouge1", "the cat sat", "the cat lay down") == pytest.approx(4 / 7)
    assert value("rouge2", "the cat sat", "the cat lay down") == pytest.approx(2 / 5)
    assert value("rougeL", "the cat sat", "the cat lay down") == pytest.approx(4 / 7)
    # Characters: precision 1, recall 1/2, beta 2: 5 * 1 * 0.5 / (4 * 1 + 0.5) = 5/9.
    assert value("chrf", "ab", "abcd", char_order=1) == pytest.approx(5 / 9)


@pytest.mark.parametrize("metric", METRICS)
def test_each_further_matching_word_raises_the_score(metric: str) -> None:
    """S15."""
    words = ["one", "two", "three", "four", "five", "six"]
    scores = [value(metric, " ".join(words[:n]), " ".join(words)) for n in range(2, 7)]
    assert scores == sorted(set(scores))


@pytest.mark.parametrize("metric", METRICS)
def test_repeating_a_matching_word_does_not_pay(metric: str) -> None:
    """S15: a word counts at most as often as the reference has it."""
    reference = "the cat lay on a mat"
    assert value(metric, "the the the the the the", reference) < value(metric, "the cat", reference)
    # Of four words one counts: 2 * 1 / (4 + 2).
    assert value("rouge1", "the the the the", "the cat") == pytest.approx(1 / 3)


def test_options_reach_the_libraries() -> None:
    assert value("bleu", "The Cat", "the cat", lower=True) == 1.0
    assert value("bleu", "a b x", "a b c", max_ngram_order=1) == pytest.approx(2 / 3)
    assert value("chrf", "The Cat", "the cat", lower=True) == 1.0
    assert value("rouge1", "listing files", "lists file") == 0.0
    assert value("rouge1", "listing files", "lists file", stemming=True) == 1.0


def test_rouge_refuses_to_call_other_alphabets_wrong() -> None:
    (score,) = judge("rougeL", sample("кот", reference="кот"))
    assert score.status is Status.INVALID_INPUT
    assert value("rougeL", "Кот спит", "кот спит", tokenizer="unicode") == 1.0
