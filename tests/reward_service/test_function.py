"""Any function as a reward."""

import pytest

from antiphon.errors import UserError
from reward_service.local import LocalClient
from reward_service.types import Sample, Score, Status
from tests.reward_service.fakes_rewards import HERE, recipe, sample


def score(function: str, what: Sample, **options: object) -> Score:
    rubric = LocalClient(recipe({"name": f"{HERE}:{function}", **options}))
    return rubric.score([what])[0]


def test_a_function_receives_the_fields_that_its_parameters_name() -> None:
    assert score("only_completion", sample("four")).value == 4.0
    what = sample("2", prompt="1", reference="3", metadata={"digit": 4})
    assert score("all_fields", what).value == 1234.0


def test_a_reference_without_a_default_is_demanded() -> None:
    got = score("all_fields", sample("2", prompt="1", metadata={"digit": 4}))
    assert got.status is Status.INVALID_INPUT
    assert "needs a reference" in got.message


def test_a_reference_with_a_default_is_not() -> None:
    assert score("optional_reference", sample("x")).value == 0.0
    assert score("optional_reference", sample("x", reference="y")).value == 1.0


def test_other_parameters_are_options() -> None:
    # "ho" twice, 2.0 each by default.
    assert score("with_options", sample("ho ho"), word="ho").value == 4.0
    assert score("with_options", sample("ho ho"), word="ho", bonus=0.5).value == 1.0


def test_options_are_checked_like_those_of_any_component() -> None:
    with pytest.raises(UserError, match=r"reward.components.0.word is missing"):
        score("with_options", sample())
    with pytest.raises(UserError, match="did you mean 'bonus'"):
        score("with_options", sample(), word="ho", bonsu=1.0)
    with pytest.raises(UserError, match=r"reward.components.0.bonus is 'big'"):
        score("with_options", sample(), word="ho", bonus="big")


@pytest.mark.parametrize("function", ["asynchronous", "NoReward", "NOT_CALLABLE"])
def test_what_cannot_score_is_refused(function: str) -> None:
    with pytest.raises(UserError, match="neither a Reward nor an ordinary function"):
        score(function, sample())


def test_parameters_that_have_no_name_are_refused() -> None:
    with pytest.raises(UserError, match=r"\*texts: str of .*:variadic cannot be passed by name"):
        score("variadic", sample())


def test_a_path_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'dangerous'"):
        score("dangerouz", sample())
    with pytest.raises(UserError, match="cannot be imported"):
        LocalClient(recipe({"name": "no_such_package.rewards:polite"}))
