"""Every built-in component: one contract for all, and numbers worked by hand for each."""

from pathlib import Path
from typing import Any

import pytest

from antiphon.plugins import built_in
from reward_service.building import COMPONENTS
from reward_service.config import ComponentConfig
from reward_service.reward import Reward
from reward_service.types import Status
from tests.reward_service.fakes_rewards import judge, sample, value

ENTRY = {"question": "1 + 2 =", "answer": "3", "metadata": {"source_dataset": "chain_sum"}}
NETWORKS = {"classifier", "embedding", "reward_model"}
NEEDS_NO_REFERENCE = {
    *("classifier", "reward_model"),
    *("human", "judge", "regex", "length", "reasoning_gym"),
    *("json_schema", "knowledge_graph", "repetition", "sentiment", "toxicity", "walk"),
}
AWKWARD = [
    "",
    " \n\t ",
    "the answer is 42",
    "...!?",
    "кот 猫 🐈",
    "-" * 500,
    "a b " * 200,
    "1,2,3e5,.-",
    "1e9999",
    "\x00\ufffd",
    "<answer>3</answer>",
]
EVERY = sorted(built_in(Reward, COMPONENTS))


@pytest.mark.parametrize("name", EVERY)
def test_every_component_is_in_the_manual(name: str) -> None:
    manual = Path(__file__).parents[2] / "docs" / "rewards.md"
    assert f"`{name}`" in manual.read_text()


@pytest.mark.parametrize("name", EVERY)
def test_no_option_is_called_like_a_setting_that_all_components_have(name: str) -> None:
    options = built_in(Reward, COMPONENTS)[name].Config.model_fields
    assert not set(options) & set(ComponentConfig.model_fields)


@pytest.mark.parametrize("name", EVERY)
def test_whatever_the_policy_writes_is_scored_within_the_declared_range(name: str) -> None:
    samples = [
        sample(text, id=str(i), reference="the answer is 42", metadata={"entry": ENTRY}, num_tokens=1)
        for i, text in enumerate(AWKWARD)
    ]
    low, high = built_in(Reward, COMPONENTS)[name].range
    for score in judge(name, *samples):
        assert score.status is Status.OK, score.message
        assert low <= score.value <= high


@pytest.mark.parametrize("name", EVERY)
def test_a_score_does_not_depend_on_its_neighbours(name: str) -> None:
    samples = [
        sample(text, id=str(i), reference="the answer is 42", metadata={"entry": ENTRY})
        for i, text in enumerate(AWKWARD)
    ]
    together = {s.id: s.value for s in judge(name, *samples[::-1])}
    alone = {s.id: judge(name, s)[0].value for s in samples}
    # A network adds up in another order where texts are padded to another width.
    assert together == (pytest.approx(alone, abs=1e-5) if name in NETWORKS else alone)


@pytest.mark.parametrize("name", sorted(set(EVERY) - NEEDS_NO_REFERENCE))
def test_a_missing_reference_is_invalid_input(name: str) -> None:
    (score,) = judge(name, sample("42"))
    assert (score.status, score.value) == (Status.INVALID_INPUT, None)
    assert "needs a reference" in score.message


@pytest.mark.parametrize("name", sorted(NEEDS_NO_REFERENCE))
def test_the_others_do_without(name: str) -> None:
    assert judge(name, sample("42", metadata={"entry": ENTRY}))[0].is_ok


def test_exact_match() -> None:
    assert value("exact_match", " 1258\n", "1258") == 1.0
    assert value("exact_match", " 1258\n", "1258", strip=False) == 0.0
    assert value("exact_match", "Yes", "yes") == 0.0
    assert value("exact_match", "Yes", "yes", lower=True) == 1.0


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ("3 + 4 = 7", "7", 1.0),
        ("the first number 7 is not the last: 8", "7", 0.0),
        ("7.0", "7", 1.0),
        ("so 1,234.50 in all.", "1234.5", 1.0),
        ("1,2,3", "3", 1.0),
        ("10-3", "3", 1.0),
        ("it is -3", "3", 0.0),
        ("it is \N{MINUS SIGN}3", "-3", 1.0),
        ("2e3", "2000", 1.0),
        (".5", "0.5", 1.0),
        ("no idea", "7", 0.0),
        # As floats these two are the same number.
        ("12345678901234567890", "12345678901234567891", 0.0),
    ],
)
def test_numeric(completion: str, reference: str, expected: float) -> None:
    assert value("numeric", completion, reference) == expected


def test_numeric_tolerance_is_absolute() -> None:
    assert value("numeric", "3.14", "3.14159", tolerance=0.002) == 1.0
    assert value("numeric", "3.14", "3.14159", tolerance=0.001) == 0.0
    assert value("numeric", "1000001", "1000000") == 0.0


def test_numeric_without_a_number_in_the_reference_is_invalid_input() -> None:
    assert judge("numeric", sample("7", reference="seven"))[0].status is Status.INVALID_INPUT


def test_token_f1() -> None:
    # Shared: the, cat. 2 * 2 / (3 + 4) = 4/7.
    assert value("token_f1", "The cat sat.", "the cat lay down") == pytest.approx(4 / 7)
    # Of four "the" one is shared: 2 * 1 / (4 + 2) = 1/3.
    assert value("token_f1", "the the the the", "the cat") == pytest.approx(1 / 3)
    assert value("token_f1", "The", "the", lower=False) == 0.0
    assert value("token_f1", "", "") == 1.0


def test_regex() -> None:
    assert value("regex", "say: yes!", pattern="yes|no") == 1.0
    assert value("regex", "say: yes!", pattern="yes|no", full_match=True) == 0.0
    assert value("regex", "no", pattern="yes|no", full_match=True) == 1.0
    assert value("regex", "YES", pattern="(?i)yes") == 1.0


def test_length() -> None:
    # Five words where three are wanted: 1 - 2 * 0.1 = 0.8; one word: also two away from the target.
    assert value("length", "a b c d e", max=3) == pytest.approx(0.8)
    assert value("length", "a", max=3) == 1.0
    assert judge("length", sample("a"), max=None, target=3)[0].value == pytest.approx(0.8)
    assert value("length", "a b c d e", max=3, penalty=0.75) == 0.0
    assert value("length", "abcde", max=4, unit="characters") == pytest.approx(0.9)


def test_length_in_tokens_counts_those_of_the_sample() -> None:
    scores = judge("length", sample("a b c d", num_tokens=5), sample("a", id="t"), max=4, unit="tokens")
    assert scores[0].value == pytest.approx(0.9)
    assert scores[1].status is Status.INVALID_INPUT


def test_error_rates() -> None:
    # One of four characters replaced: E = 1/4.
    assert value("cer", "abed", "abcd") == pytest.approx(0.75)
    # One word replaced, two added, four expected: E = 3/4.
    assert value("wer", "a x c d e f", "a b c d") == pytest.approx(0.25)
    assert value("wer", "a x c d e f", "a b c d", form="negative") == pytest.approx(-0.75)
    # Three edits for one expected word: E = 3, beyond what 1 - E can say.
    assert value("wer", "b c d", "a") == 0.0
    assert value("wer", "b c d", "a", form="negative") == pytest.approx(-3.0)
    assert value("cer", "ABCD", "abcd", lower=True) == 1.0


def test_an_error_rate_needs_something_to_err_from() -> None:
    assert judge("wer", sample("a", reference=" "))[0].status is Status.INVALID_INPUT


def test_reasoning_gym_asks_the_data_set() -> None:
    def verdict(completion: str, **options: Any) -> float | None:
        return judge("reasoning_gym", sample(completion, metadata={"entry": ENTRY}), **options)[0].value

    assert verdict("3") == 1.0
    assert verdict(" 3\n") == 1.0
    assert verdict("4") == 0.0
    assert verdict("<answer>4</answer> no, <answer> 3 </answer>.", tag="answer") == 1.0
    assert verdict("3", tag="answer") == 0.0


def test_reasoning_gym_without_an_entry_is_invalid_input() -> None:
    assert judge("reasoning_gym", sample("3"))[0].status is Status.INVALID_INPUT
