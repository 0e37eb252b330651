"""A judge that errs by a known amount."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from antiphon.errors import UserError
from reward_service.types import Status
from tests.reward_service.fakes_rewards import HERE, judge, sample


def noise(num: int = 2000, completion: str = "right", **options: Any) -> np.ndarray:
    """What is said of as many different prompts with the right completion, whose true score is 1."""
    samples = [sample(completion, id=str(i), prompt=str(i), reference="right") for i in range(num)]
    return np.array([s.value for s in judge("noisy", *samples, **options)])


def test_without_noise_it_is_the_other_component() -> None:
    assert noise(3, sigma=0.0).tolist() == [1.0, 1.0, 1.0]
    assert noise(3, sigma=0.0, completion="wrong").tolist() == [0.0, 0.0, 0.0]
    assert noise(1, sigma=0.0, of="length", options={"max": 0, "penalty": 0.25}).tolist() == [0.75]


def test_scale_and_bias_are_applied_to_the_truth() -> None:
    assert noise(1, sigma=0.0, scale=-1.0, bias=1.25).tolist() == [0.25]


def test_the_noise_is_as_large_as_it_says() -> None:
    said = noise(sigma=0.5, bias=2.0)
    assert said.mean() == pytest.approx(3.0, abs=0.04)
    assert said.std() == pytest.approx(0.5, rel=0.05)


def test_some_judgements_have_nothing_to_do_with_the_completion() -> None:
    said = noise(sigma=0.0, outlier_share=0.2, outlier_sigma=4.0)
    is_wild = said != 1.0
    assert is_wild.mean() == pytest.approx(0.2, abs=0.03)
    assert said[is_wild].std() == pytest.approx(4.0, rel=0.1)


def test_the_same_judgement_is_always_the_same() -> None:
    one = sample("right", reference="right")
    again = replace(one, id="another", group="g", policy_version=7)
    assert judge("noisy", one)[0].value == judge("noisy", sample("x", id="n"), again)[1].value


def test_repeats_completions_prompts_and_seeds_differ() -> None:
    one = sample("right", reference="right")
    others = [replace(one, repeat=1), replace(one, prompt="q"), replace(one, completion="right ")]
    said = {judge("noisy", s)[0].value for s in (one, *others)} | {judge("noisy", one, seed=1)[0].value}
    assert len(said) == 5


def test_a_failure_of_the_other_component_stays_one() -> None:
    (score,) = judge("noisy", sample("late"), of=f"{HERE}:Obedient")
    assert (score.status, score.message.split(" (")[0]) == (Status.TIMEOUT, "TimeoutError: the judge sleeps")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "exact_mach"}, "did you mean 'exact_match'"),
        ({"options": {"lwer": True}}, "noisy.options.lwer is not a setting"),
        ({"sigma": -1.0}, "sigma"),
        ({"outlier_share": 2.0}, "outlier_share"),
        ({"of": "json_schema", "options": {"rules": {}}}, "runs in processes of its own"),
    ],
)
def test_a_mistake_is_found_before_anything_is_scored(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        judge("noisy", sample(), **options)
