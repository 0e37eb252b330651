"""How far a noisy score is to be believed: numbers worked by hand."""

import numpy as np
import pytest

from reward_service.fusion.shrink import between_excess, between_variance, pooled_between, shrunk

NAN = float("nan")
ONE_GROUP = np.zeros(2, dtype=np.intp)


def test_what_noise_does_not_explain_is_quality() -> None:
    # 1 and 3: squares 1 + 1, less one degree of freedom of noise 0.5. A group of one says nothing.
    fused, variance = np.array([1.0, 3.0, 7.0]), np.array([0.5, 0.5, 0.5])
    excess, freedom = between_excess(fused, variance, np.array([0, 0, 1]))
    assert excess.tolist() == [1.5, 0.0]
    assert freedom.tolist() == [1.0, 0.0]


def test_what_was_not_scored_is_no_degree_of_freedom() -> None:
    excess, freedom = between_excess(
        np.array([1.0, 3.0, NAN]), np.array([0.5, 0.5, NAN]), np.zeros(3, dtype=np.intp)
    )
    assert (excess.tolist(), freedom.tolist()) == ([1.5], [1.0])


def test_prompts_are_pooled_by_their_degrees_of_freedom() -> None:
    # (1.5 + 3.5) / (1 + 4).
    assert pooled_between(np.array([[1.5, 1.0], [3.5, 4.0]])) == 1.0
    assert pooled_between(np.array([[-1.5, 1.0]])) == 0.0
    assert pooled_between(np.empty((0, 2))) == 0.0


def test_a_prompt_is_estimated_from_itself_and_from_all() -> None:
    excess, freedom = np.array([1.5, -9.0]), np.array([1.0, 1.0])
    # (1.5 + 2 x 0.5) / (1 + 2).
    assert between_variance(excess, freedom, 0.5, 2.0) == pytest.approx([2.5 / 3, 0.0])
    assert between_variance(excess, freedom, 0.5, 0.0).tolist() == [1.5, 0.0]


def test_a_score_is_drawn_to_the_mean_by_its_share_of_noise() -> None:
    # As much quality as noise: half the way to the mean of 2.
    value, factor = shrunk(np.array([1.0, 3.0]), np.array([1.0, 1.0]), ONE_GROUP, np.array([1.0]))
    assert value.tolist() == [1.5, 2.5]
    assert factor.tolist() == [0.5, 0.5]


def test_the_noisier_score_is_drawn_further_and_moves_the_mean_less() -> None:
    value, factor = shrunk(np.array([1.0, 3.0]), np.array([1.0, 3.0]), ONE_GROUP, np.array([1.0]))
    # Weights 1/2 and 1/4: the mean is 5/3. 5/3 - 1/2 x 2/3 = 4/3, and 5/3 + 1/4 x 4/3 = 2.
    assert factor == pytest.approx([0.5, 0.25])
    assert value == pytest.approx([4 / 3, 2.0])


def test_without_noise_or_company_a_score_stays() -> None:
    value, factor = shrunk(
        np.array([1.0, 3.0, 8.0]), np.array([0.0, 0.0, 5.0]), np.array([0, 0, 1]), np.array([1.0, 1.0])
    )
    assert value.tolist() == [1.0, 3.0, 8.0]
    assert factor.tolist() == [1.0, 1.0, 1.0]


def test_a_prompt_without_differences_in_quality_gets_its_mean() -> None:
    value, factor = shrunk(np.array([1.0, 3.0]), np.array([1.0, 1.0]), ONE_GROUP, np.array([0.0]))
    assert (value.tolist(), factor.tolist()) == ([2.0, 2.0], [0.0, 0.0])


def test_what_was_not_scored_stays_so_and_moves_nothing() -> None:
    group = np.zeros(3, dtype=np.intp)
    value, _ = shrunk(np.array([1.0, NAN, 3.0]), np.array([1.0, NAN, 1.0]), group, np.array([1.0]))
    assert value[[0, 2]].tolist() == [1.5, 2.5]
    assert np.isnan(value[1])


def test_one_variance_per_group_is_wanted() -> None:
    with pytest.raises(ValueError, match="one τ² for each of 1 groups, got 2"):
        shrunk(np.array([1.0, 3.0]), np.array([1.0, 1.0]), ONE_GROUP, np.array([1.0, 1.0]))
