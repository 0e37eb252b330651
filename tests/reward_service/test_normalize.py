"""Components on a common footing: numbers worked by hand."""

import json

import numpy as np
import pytest

from reward_service.fusion.arrays import group_index
from reward_service.fusion.normalize import Normalizer, RunningMoments, per_prompt

NAN = float("nan")


def test_samples_of_one_prompt_share_a_number_and_those_without_a_group_are_alone() -> None:
    assert group_index(["b", "a", "", "b", ""]).tolist() == [0, 1, 2, 0, 3]
    assert group_index([]).tolist() == []


def test_running_moments_are_those_of_everything_so_far() -> None:
    moments = RunningMoments()
    moments.add(np.array([1.0, 3.0]))
    # Mean 2, deviations 1 and 1.
    assert (moments.count, moments.mean, moments.std) == (2, 2.0, 1.0)
    moments.add(np.array([5.0]))
    # 1, 3, 5: mean 3, squares 4 + 0 + 4, by 3.
    assert (moments.count, moments.mean) == (3, 3.0)
    assert moments.std == pytest.approx((8 / 3) ** 0.5)


def test_how_a_stream_was_cut_into_batches_does_not_matter() -> None:
    stream = np.random.default_rng(0).normal(7.0, 0.1, 100)
    by_one, by_many = RunningMoments(), RunningMoments()
    for value in stream:
        by_one.add(np.array([value]))
    for batch in np.split(stream, [3, 50, 51]):
        by_many.add(batch)
    assert by_one.mean == pytest.approx(stream.mean(), rel=1e-12) == by_many.mean
    assert by_one.std == pytest.approx(stream.std(), rel=1e-9) == pytest.approx(by_many.std, rel=1e-9)


def test_what_was_not_scored_or_cannot_be_squared_is_not_learned_from() -> None:
    moments = RunningMoments()
    moments.add(np.array([1.0, NAN, 3.0, 1e200]))
    moments.add(np.array([NAN]))
    assert (moments.count, moments.mean, moments.std) == (2, 2.0, 1.0)


def test_running_normalisation_counts_a_request_in_first() -> None:
    normalizer = Normalizer("running", None)
    normalizer.apply(np.array([1.0, 3.0]), np.array([0, 1]))
    (value,) = normalizer.apply(np.array([5.0]), np.array([0]))
    # Mean 3, deviation √(8/3).
    assert value == pytest.approx(2 / (8 / 3) ** 0.5, abs=1e-5)


def test_what_never_varies_is_normalised_to_nothing() -> None:
    normalizer = Normalizer("running", None)
    values = normalizer.apply(np.full(7, 0.1), np.zeros(7, dtype=np.intp))
    assert np.abs(values).max() < 1e-6


def test_per_prompt_is_the_rule_of_grpo() -> None:
    values = np.array([1.0, 5.0, 2.0, 5.0, 3.0, 9.0])
    group = np.array([0, 1, 0, 1, 0, 2])
    # 1, 2, 3: mean 2, deviation 1 with Bessel. The others are a constant group and a group of one.
    assert per_prompt(values, group) == pytest.approx([-1, 0, 0, 0, 1, 0], abs=1e-5)
    # Three times 0.1 has a mean that is not 0.1.
    assert per_prompt(np.full(3, 0.1), np.zeros(3, dtype=np.intp)).tolist() == [0.0, 0.0, 0.0]


def test_per_prompt_compares_those_that_were_scored() -> None:
    values = np.array([1.0, NAN, 3.0, NAN, 4.0])
    normal = per_prompt(values, np.array([0, 0, 0, 1, 1]))
    # Mean 2, deviation √2 of 1 and 3; the 4 has nobody left to be compared with.
    assert normal[[0, 2, 4]] == pytest.approx([-(0.5**0.5), 0.5**0.5, 0.0], abs=1e-5)
    assert np.isnan(normal[[1, 3]]).all()


def test_the_clip_comes_after_the_normalisation() -> None:
    group = np.zeros(3, dtype=np.intp)
    assert Normalizer("none", (0.0, 2.5)).apply(np.array([-1.0, 2.0, 3.0]), group).tolist() == [0.0, 2.0, 2.5]
    clipped = Normalizer("per_prompt", (-0.5, 2.0)).apply(np.array([1.0, 2.0, 3.0]), group)
    assert clipped == pytest.approx([-0.5, 0.0, 1.0], abs=1e-5)


def test_the_moments_survive_as_json() -> None:
    before, after = Normalizer("running", None), Normalizer("running", None)
    before.apply(np.array([1.0, 2.0, 4.0]), np.arange(3))
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    values, group = np.array([5.0, 7.0]), np.arange(2)
    assert before.apply(values, group).tolist() == after.apply(values, group).tolist()


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="want equal shapes of rank 1"):
        per_prompt(np.zeros(3), np.zeros(2, dtype=np.intp))
