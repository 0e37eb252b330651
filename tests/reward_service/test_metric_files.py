"""S15: BLEU, chrF, TER and ROUGE are those of sacrebleu and rouge-score, on 50 pairs in many languages.

data/pairs.jsonl was written by the libraries alone, on their own scale; they are asked again here, so that a
new version of a library that counts otherwise is told from a mistake of ours.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from reward_service.types import Status
from tests.reward_service.fakes_rewards import judge, sample, value

FILE = Path(__file__).parent / "data" / "pairs.jsonl"
PAIRS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
EXACTLY = 1e-12
IDS = [f"line{number}" for number in range(1, len(PAIRS) + 1)]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=IDS)


def test_there_are_pairs_enough() -> None:
    assert len(PAIRS) >= 40


@each_pair
def test_bleu(pair: dict[str, Any]) -> None:
    """S15."""
    got = value("bleu", pair["completion"], pair["reference"])
    library = sacrebleu.sentence_bleu(pair["completion"], [pair["reference"]], use_effective_order=True).score
    assert got == pytest.approx(pair["bleu"] / 100, abs=EXACTLY)
    assert got == pytest.approx(library / 100, abs=EXACTLY)


@each_pair
@pytest.mark.parametrize(("column", "word_order"), [("chrf", 0), ("chrf++", 2)])
def test_chrf(pair: dict[str, Any], column: str, word_order: int) -> None:
    """S15."""
    got = value("chrf", pair["completion"], pair["reference"], word_order=word_order)
    library = sacrebleu.sentence_chrf(pair["completion"], [pair["reference"]], word_order=word_order).score
    assert got == pytest.approx(pair[column] / 100, abs=EXACTLY)
    assert got == pytest.approx(library / 100, abs=EXACTLY)


@each_pair
def test_ter(pair: dict[str, Any]) -> None:
    """S15."""
    rate = sacrebleu.sentence_ter(pair["completion"], [pair["reference"]]).score / 100
    assert rate == pytest.approx(pair["ter"] / 100, abs=EXACTLY)
    got = value("ter", pair["completion"], pair["reference"])
    assert got == pytest.approx(1 - min(rate, 1), abs=EXACTLY)
    got = value("ter", pair["completion"], pair["reference"], form="negative")
    assert got == pytest.approx(-rate, abs=EXACTLY)


@each_pair
@pytest.mark.parametrize("metric", ["rouge1", "rouge2", "rougeL"])
def test_rouge(pair: dict[str, Any], metric: str) -> None:
    """S15."""
    library = RougeScorer([metric]).score(pair["reference"], pair["completion"])[metric].fmeasure
    assert library == pytest.approx(pair[metric], abs=EXACTLY)
    (score,) = judge(metric, sample(pair["completion"], reference=pair["reference"]))
    has_words = any(c.isascii() and c.isalnum() for c in pair["reference"].lower())
    # The library calls every answer to a reference without Latin letters wrong; the component refuses.
    assert score.status is (Status.OK if has_words else Status.INVALID_INPUT)
    if has_words:
        assert score.value == pytest.approx(library, abs=EXACTLY)


def test_ter_is_that_worked_by_hand() -> None:
    """S15."""
    # Five words of six stand; "a" for "the" is one substitution: E = 1/6.
    assert value("ter", "the cat sat on a mat", "the cat sat on the mat") == pytest.approx(5 / 6)
    # "the cat" moves behind "on the mat sat" and "sat" moves: two moves of phrases, E = 2/6.
    assert value("ter", "on the mat sat the cat", "the cat sat on the mat") == pytest.approx(4 / 6)
    # Two words to delete where one is wanted: E = 2.
    assert value("ter", "a b c", "a", form="negative") == pytest.approx(-2.0)
    assert value("ter", "a b c", "a") == 0.0


def test_options_of_ter_reach_the_library() -> None:
    assert value("ter", "The Cat", "the cat") == 1.0
    assert value("ter", "The Cat", "the cat", lower=False) == 0.0
    assert value("ter", "the cat!", "the cat") == pytest.approx(1 / 2)
    assert value("ter", "the cat!", "the cat", no_punct=True) == 1.0
    # "the cat !" against "the cat": one word of two to delete.
    assert value("ter", "the cat!", "the cat", normalized=True) == pytest.approx(1 / 2)
    assert value("ter", "我去", "我不去", normalized=True, asian_support=True) == pytest.approx(2 / 3)


def test_ter_needs_something_to_err_from() -> None:
    assert judge("ter", sample("a", reference=" \n"))[0].status is Status.INVALID_INPUT
    assert judge("ter", sample("a", reference="..."), no_punct=True)[0].status is Status.INVALID_INPUT


def test_a_completion_of_twice_the_words_is_wrong_without_a_search() -> None:
    """The library's search for moves takes 4 s for the first text, and hours for the second."""
    words = [f"w{i}" for i in range(100)]
    start = time.process_time()
    for num_times in (2, 200):
        assert value("ter", " ".join(words[::-1] * num_times), " ".join(words)) == 0.0
    assert time.process_time() - start < 1.0
    # Below twice the words the search is made: all four stand, three are too many, E = 3/4.
    assert value("ter", "a b c d x y z", "a b c d") == pytest.approx(1 / 4)
    assert value("ter", "a b c d w x y z", "a b c d") == 0.0
