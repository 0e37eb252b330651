"""The weighted sum, and what a recipe may say."""

import pytest

from antiphon.errors import UserError
from reward_service.local import LocalClient
from reward_service.types import Status
from tests.reward_service.fakes_rewards import HERE, recipe, sample

OBEDIENT = f"{HERE}:Obedient"


def test_the_value_is_the_sum_of_weight_times_part() -> None:
    rubric = LocalClient(
        recipe(
            {"name": "exact_match", "weight": 2.0},
            {"name": "length", "weight": -0.5, "max": 1, "penalty": 0.25},
        )
    )
    # Exact: 1. Three words where one is free: 1 - 2 * 0.25 = 0.5. Together 2 * 1 - 0.5 * 0.5 = 1.75.
    (score,) = rubric.score([sample("a b c", reference="a b c")])
    assert (score.status, score.value) == (Status.OK, 1.75)
    assert score.parts == {"exact_match": 1.0, "length": 0.5}


def test_a_failed_part_fails_the_whole_and_keeps_the_parts_that_succeeded() -> None:
    rubric = LocalClient(
        recipe(
            {"name": "length", "max": 9},
            {"name": OBEDIENT, "label": "first", "weight": 0.0},
            {"name": "exact_match"},
        )
    )
    (score,) = rubric.score([sample("raise")])
    assert (score.status, score.value, score.parts) == (Status.ERROR, None, {"length": 1.0})
    assert score.message.startswith("first: ZeroDivisionError")


def test_scores_come_in_the_order_of_the_samples() -> None:
    client = LocalClient(recipe({"name": OBEDIENT}))
    samples = [sample(str(n), id=f"{n}") for n in (3, 1, 2)]
    assert [(s.id, s.value) for s in client.score(samples)] == [("3", 3.0), ("1", 1.0), ("2", 2.0)]
    assert client.score([]) == []


def test_a_component_that_breaks_on_the_whole_batch_is_contained() -> None:
    rubric = LocalClient(recipe({"name": f"{HERE}:Bulk", "breaks": True}))
    scores = rubric.score([sample(id="a"), sample(id="b")])
    assert [s.status for s in scores] == [Status.ERROR, Status.ERROR]
    assert scores[0].message.startswith("Bulk: RuntimeError: out of memory")


def test_a_component_that_forgets_a_sample_fails_that_sample_alone() -> None:
    rubric = LocalClient(recipe({"name": f"{HERE}:Bulk", "forgets": "a"}))
    scores = rubric.score([sample("one", id="a"), sample("two", id="b")])
    assert [(s.id, s.status) for s in scores] == [("a", Status.ERROR), ("b", Status.OK)]


def test_equal_ids_within_a_request_are_refused() -> None:
    rubric = LocalClient(recipe({"name": OBEDIENT}))
    with pytest.raises(ValueError, match="two samples of one request have the id 'a'"):
        rubric.score([sample("1", id="a"), sample("2", id="b"), sample("3", id="a")])


def test_a_sum_too_large_for_a_float_is_an_error() -> None:
    rubric = LocalClient(recipe({"name": OBEDIENT, "weight": 1e300}))
    (score,) = rubric.score([sample("1e300")])
    assert (score.status, score.value) == (Status.ERROR, None)
    assert "inf" in score.message


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ([{"name": "exact_mach"}], "did you mean 'exact_match'"),
        ([{"name": "exact_match", "lwer": True}], "did you mean 'lower'"),
        ([{"name": "regex"}], r"reward.components.0.pattern is missing"),
        ([{"name": "regex", "pattern": "("}], "no regular expression"),
        ([{"name": "length"}], "set either target or max"),
        ([{"name": "length", "target": 3, "max": 4}], "set either target or max"),
        ([{"name": "exact_match", "weight": "1"}], r"reward.components.0.weight is '1'"),
        ([{"name": "bleu"}, {"name": "bleu"}], "two components are called 'bleu'"),
        ([{"name": "bleu", "weight": 0}], "nothing is rewarded"),
        ([], "components"),
        ([{"weight": 1.0}], r"reward.components.0.name is missing"),
        ([{"name": "reasoning_gym", "dataset": "chain_sun"}], "did you mean 'chain_sum'"),
    ],
)
def test_a_mistake_in_the_recipe_is_found_when_the_rubric_is_built(components: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LocalClient(recipe(*components))


def test_a_component_may_be_used_twice_under_two_labels() -> None:
    rubric = LocalClient(recipe({"name": "bleu"}, {"name": "bleu", "label": "bleu2", "max_ngram_order": 2}))
    (score,) = rubric.score([sample("a b", reference="a b")])
    assert list(score.parts) == ["bleu", "bleu2"]
