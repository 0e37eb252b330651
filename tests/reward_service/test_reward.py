"""The base of all components: failures are statuses, and each stays with its sample."""

import pytest

from antiphon.settings import Settings
from reward_service.reward import Reward
from reward_service.types import Sample, Status
from tests.reward_service.fakes_rewards import Obedient, sample


@pytest.mark.parametrize(
    ("order", "status", "message"),
    [
        ("invalid", Status.INVALID_INPUT, "no such thing"),
        ("unparseable", Status.UNPARSEABLE, "the judge hummed"),
        ("late", Status.TIMEOUT, "the judge sleeps"),
        ("raise", Status.ERROR, "ZeroDivisionError: over nought"),
        ("nothing", Status.ERROR, "must be a number, got None"),
        ("text", Status.ERROR, "must be a number, got '1.0'"),
        ("nan", Status.ERROR, "must be finite, got nan"),
        ("inf", Status.ERROR, "must be finite, got inf"),
    ],
)
def test_a_failure_becomes_a_status_and_never_a_number(order: str, status: Status, message: str) -> None:
    (score,) = Obedient(Settings()).score([sample(order)])
    assert (score.status, score.value) == (status, None)
    assert message in score.message


def test_a_failure_leaves_its_neighbours_alone_and_the_order_too() -> None:
    orders = ["1", "raise", "-2.5", "nan", "3"]
    scores = Obedient(Settings()).score([sample(o, id=str(i)) for i, o in enumerate(orders)])
    assert [s.value for s in scores] == [1.0, None, -2.5, None, 3.0]
    assert [s.id for s in scores] == ["0", "1", "2", "3", "4"]


def test_an_error_says_where_it_was_raised() -> None:
    (score,) = Obedient(Settings()).score([sample("raise")])
    assert "(fakes_rewards.py:" in score.message


def test_a_component_is_ten_lines() -> None:
    class Polite(Reward):
        name = "polite"

        class Config(Settings):
            word: str = "please"

        config: Config

        def score_one(self, sample: Sample) -> float:
            return float(self.config.word in sample.completion)

    scores = Polite(Polite.Config()).score([sample("please go"), sample("go")])
    assert [s.value for s in scores] == [1.0, 0.0]


def test_a_truth_value_counts_as_a_number() -> None:
    class Yes(Reward):
        name = "yes"

        def score_one(self, sample: Sample) -> float:
            return True

    assert Yes(Settings()).score([sample()])[0].value == 1.0
