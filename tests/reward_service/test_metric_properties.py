"""S15: what every sentence metric must do on any text, and sacrebleu and rouge-score to compare with."""

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from reward_service.building import build_reward
from reward_service.reward import Reward
from reward_service.types import Sample, Score

METRICS = ["bleu", "chrf", "ter", "rouge1", "rouge2", "rougeL"]
SCORERS: dict[str, Reward] = {name: build_reward(name, {}, name) for name in METRICS}
UNIGRAMS = build_reward("bleu", {"max_ngram_order": 1}, "bleu")
LIBRARIES = {
    "bleu": lambda c, r: sacrebleu.sentence_bleu(c, [r], use_effective_order=True).score / 100,
    "chrf": lambda c, r: sacrebleu.sentence_chrf(c, [r]).score / 100,
    "ter": lambda c, r: max(0.0, 1 - sacrebleu.sentence_ter(c, [r]).score / 100),
    "rouge1": lambda c, r: RougeScorer(["rouge1"]).score(r, c)["rouge1"].fmeasure,
    "rougeL": lambda c, r: RougeScorer(["rougeL"]).score(r, c)["rougeL"].fmeasure,
}
words = st.text("abcdefgh", min_size=1, max_size=6)
sentences = st.lists(words, min_size=1, max_size=12).map(" ".join)
different_words = st.lists(st.text("abcdefgh", min_size=3, max_size=8), min_size=3, max_size=10, unique=True)
# Surrogates are no text: nothing that was decoded contains them.
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
each_metric = pytest.mark.parametrize("metric", METRICS)
few = settings(max_examples=30, deadline=None, derandomize=True)


def score_of(reward: Reward, completion: str, reference: str) -> Score:
    return reward.score([Sample(id="s", prompt="p", completion=completion, reference=reference)])[0]


def value_of(metric: str, completion: str, reference: str) -> float:
    score = score_of(SCORERS[metric], completion, reference)
    assert score.value is not None, score.message
    return score.value


@each_metric
@few
@given(text=sentences)
def test_a_text_is_exactly_like_itself(metric: str, text: str) -> None:
    """S15."""
    assert value_of(metric, text, text) == 1.0


@each_metric
@few
@given(reference=sentences)
def test_nothing_scores_exactly_zero(metric: str, reference: str) -> None:
    """S15."""
    assert value_of(metric, "", reference) == 0.0


@each_metric
@few
@given(completion=any_text, reference=sentences)
def test_whatever_is_written_scores_between_zero_and_one(
    metric: str, completion: str, reference: str
) -> None:
    """S15."""
    assert 0.0 <= value_of(metric, completion, reference) <= 1.0


@each_metric
@few
@given(completion=any_text, reference=any_text)
def test_no_text_is_an_error(metric: str, completion: str, reference: str) -> None:
    score = score_of(SCORERS[metric], completion, reference)
    assert score.status in ("ok", "invalid_input"), score.message


@pytest.mark.parametrize("metric", sorted(LIBRARIES))
@few
@given(completion=sentences, reference=sentences)
def test_values_are_the_library_s(metric: str, completion: str, reference: str) -> None:
    """S15."""
    expected = LIBRARIES[metric](completion, reference)
    assert value_of(metric, completion, reference) == pytest.approx(expected, abs=1e-12)


@each_metric
@few
@given(reference=different_words, share=st.floats(0.0, 1.0))
def test_one_more_right_word_raises_the_score(metric: str, reference: list[str], share: float) -> None:
    """S15."""
    cut = min(len(reference) - 1, 1 + int(share * (len(reference) - 1)))
    whole = " ".join(reference)
    assert value_of(metric, " ".join(reference[:cut]), whole) < value_of(
        metric, " ".join(reference[: cut + 1]), whole
    )


@few
@given(reference=sentences, extra=sentences, num_times=st.integers(1, 5))
def test_saying_a_word_more_often_than_the_reference_does_not_pay(
    reference: str, extra: str, num_times: int
) -> None:
    """S15: the completion already has every word of the reference as often as the reference has it."""
    word = reference.split()[0]
    completion = f"{reference} {extra}"
    padded = f"{completion} {' '.join([word] * num_times)}"
    assert value_of("rouge1", padded, reference) < value_of("rouge1", completion, reference)
    before, after = (score_of(UNIGRAMS, text, reference).value for text in (completion, padded))
    assert before is not None
    assert after is not None
    assert after < before
