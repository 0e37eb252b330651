"""How noisy a judge is, and the best of several judgements: numbers worked by hand."""

import numpy as np
import pytest

from reward_service.fusion.noise import (
    disagreement,
    inverse_variance,
    repeat_variance,
    split_disagreement,
)

NAN = float("nan")
FREE = np.zeros(3, dtype=bool)


def square(pairs: dict[tuple[int, int], float], size: int = 3) -> np.ndarray:
    """A symmetric matrix."""
    matrix = np.zeros((size, size))
    for (i, j), value in pairs.items():
        matrix[i, j] = matrix[j, i] = value
    return matrix


def test_repeats_are_pooled_by_their_degrees_of_freedom() -> None:
    # Judge 1: variance 2 from two repeats, 1 from three: (1 x 2 + 2 x 1) / 3. Judge 2 was never repeated.
    within = np.array([[2.0, NAN], [1.0, NAN]])
    pooled = repeat_variance(within, np.array([[2.0, 1.0], [3.0, 1.0]]))
    assert pooled[0] == pytest.approx(4 / 3)
    assert np.isnan(pooled[1])


def test_disagreement_is_the_variance_of_differences() -> None:
    # Differences -1, 0, -2: mean -1, squares 0 + 1 + 1, by 2.
    values = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 4.0], [NAN, 9.0]])
    pairwise, num = disagreement(values)
    assert pairwise[0, 1] == pairwise[1, 0] == 1.0
    assert num.tolist() == [[3, 3], [3, 4]]


def test_a_constant_bias_is_no_noise() -> None:
    values = np.arange(5.0)[:, None] + np.array([0.0, 3.0])
    assert disagreement(values)[0][0, 1] == 0.0


def test_three_judges_tell_on_each_other() -> None:
    # Noise 1, 2, 3: the differences vary by 3, 4, 5, and (3 + 4 - 5) / 2 = 1.
    pairwise = square({(0, 1): 3.0, (0, 2): 4.0, (1, 2): 5.0})
    noise = split_disagreement(pairwise, np.full((3, 3), 50.0), np.zeros(3), FREE)
    assert noise == pytest.approx([1.0, 2.0, 3.0])


def test_no_judge_has_less_than_no_noise() -> None:
    # The hat gives (1 + 1 - 4) / 2 < 0 to judge 1; with 0 in its place the others minimise
    # 2 (1 - v)² + (4 - 2 v)² / 16, which is least where 4.5 v = 5.
    pairwise = square({(0, 1): 1.0, (0, 2): 1.0, (1, 2): 4.0})
    noise = split_disagreement(pairwise, np.full((3, 3), 50.0), np.zeros(3), FREE)
    assert noise == pytest.approx([0.0, 10 / 9, 10 / 9])


def test_a_pair_seen_more_often_counts_for_more() -> None:
    pairwise = square({(0, 1): 1.0, (0, 2): 1.0, (1, 2): 4.0})
    num = square({(0, 1): 1e9, (0, 2): 1.0, (1, 2): 1.0})
    assert split_disagreement(pairwise, num, np.zeros(3), FREE)[1] == pytest.approx(1.0, abs=1e-3)


def test_of_two_judges_nothing_says_whose_the_disagreement_is() -> None:
    pairwise, num, free = square({(0, 1): 7.0}, 2), np.full((2, 2), 9.0), np.zeros(2, dtype=bool)
    # Repeats show 1 and 2; of 7 that leaves 4 to be shared.
    low = np.array([1.0, 2.0])
    assert split_disagreement(pairwise, num, low, free) == pytest.approx([3.0, 4.0])
    assert split_disagreement(pairwise, num, low, np.array([True, False])) == pytest.approx([1.0, 6.0])
    assert split_disagreement(pairwise, num, np.array([4.0, 5.0]), free) == pytest.approx([4.0, 5.0])


def test_judges_who_never_met_are_taken_at_their_repeats() -> None:
    pairwise = square({(0, 1): NAN}, 2)
    low = np.array([1.0, 0.0])
    noise = split_disagreement(pairwise, np.zeros((2, 2)), low, np.zeros(2, dtype=bool))
    assert noise.tolist() == [1.0, 0.0]


def test_the_noise_of_simulated_judges_is_found() -> None:
    random = np.random.default_rng(0)
    sigma = np.array([0.1, 0.2, 0.4, 0.8])
    values = random.normal(size=(4000, 1)) + random.normal(size=(4000, 4)) * sigma
    pairwise, num = disagreement(values)
    noise = split_disagreement(pairwise, num, np.zeros(4), np.zeros(4, dtype=bool))
    assert np.sqrt(noise) == pytest.approx(sigma, rel=0.1)


def test_judges_count_by_inverse_variance() -> None:
    # Weights 1 and 1/2: (1 + 2) / 1.5 = 2, with variance 1 / 1.5.
    fused, variance, share = inverse_variance(np.array([[1.0, 4.0]]), np.array([[1.0, 2.0]]))
    assert fused[0] == pytest.approx(2.0)
    assert variance[0] == pytest.approx(2 / 3)
    assert share[0] == pytest.approx([2 / 3, 1 / 3])


def test_who_said_nothing_counts_for_nothing() -> None:
    values = np.array([[1.0, NAN], [NAN, NAN]])
    fused, variance, share = inverse_variance(values, np.array([[1.0, NAN], [NAN, NAN]]))
    assert (fused[0], variance[0]) == (1.0, 1.0)
    assert np.isnan([fused[1], variance[1]]).all()
    assert share.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_perfect_judges_share_a_weight() -> None:
    fused, _, share = inverse_variance(np.array([[1.0, 3.0]]), np.zeros((1, 2)))
    assert fused[0] == pytest.approx(2.0)
    assert share[0] == pytest.approx([0.5, 0.5])
