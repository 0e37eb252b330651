"""Judges who use their scale differently: numbers worked by hand."""

import numpy as np
import pytest

from reward_service.fusion.align import alignment, covariance, signal_variance

NAN = float("nan")
X = np.array([0.0, 1.0, 2.0])


def test_harsh_and_kind_judges_get_the_mean_of_the_middle_one() -> None:
    values = np.stack([X, X + 1.0, X + 5.0], axis=1)  # Means 1, 2, 6.
    factor, shift = alignment(values, np.zeros(3), "bias")
    assert factor.tolist() == [1.0, 1.0, 1.0]
    assert shift.tolist() == [1.0, 0.0, -4.0]


def test_judges_who_use_less_of_the_scale_get_the_spread_of_the_middle_one() -> None:
    values = np.stack([X, 2.0 * X + 3.0], axis=1)
    # Deviations 1 and 2, in the middle 1.5; means 1 and 5, in the middle 3.
    factor, shift = alignment(values, np.zeros(2), "scale")
    assert factor == pytest.approx([1.5, 0.75])
    assert shift == pytest.approx([1.5, -0.75])


def test_without_alignment_judges_are_taken_at_their_word() -> None:
    factor, shift = alignment(np.stack([X, 2.0 * X + 3.0], axis=1), np.zeros(2), "none")
    assert (factor.tolist(), shift.tolist()) == ([1.0, 1.0], [0.0, 0.0])


def test_a_judge_without_a_difference_is_only_moved() -> None:
    factor, shift = alignment(np.stack([X, np.full(3, 4.0)], axis=1), np.zeros(2), "scale")
    # Means 1 and 4, in the middle 2.5.
    assert factor.tolist() == [1.0, 1.0]
    assert shift == pytest.approx([1.5, -1.5])


def test_covariances_are_those_of_common_samples() -> None:
    values = np.array([[0.0, 2.0], [1.0, NAN], [2.0, 6.0]])
    # Judge 1 alone: variance 1. Together 0 and 2 with 2 and 6: covariance 4.
    assert covariance(values) == pytest.approx(np.array([[1.0, 4.0], [4.0, 8.0]]))


def test_what_judges_have_in_common_is_told_from_their_noise() -> None:
    # Signals 1, 2, 3 times the same thing: covariances 2, 3, 6, and 2 x 3 / 6 = 1.
    covariances = np.array([[5.0, 2.0, 3.0], [2.0, 8.0, 6.0], [3.0, 6.0, 10.0]])
    assert signal_variance(covariances, np.zeros(3)) == pytest.approx([1.0, 4.0, 9.0])


def test_a_judge_who_says_the_opposite_spoils_nobody_elses_scale() -> None:
    covariances = np.array([[3.0, 1.0, -1.0], [1.0, 3.0, -1.0], [-1.0, -1.0, 3.0]])
    assert signal_variance(covariances, np.zeros(3)) == pytest.approx([1.0, 1.0, 1.0])


def test_a_signal_is_neither_more_than_everything_nor_next_to_nothing() -> None:
    covariances = np.array([[1.0, 9.0, 9.0], [9.0, 9.0, 1.0], [9.0, 1.0, 900.0]])
    # Judge 1: 9 x 9 / 1 is more than its 1; judges 2 and 3: 9 x 1 / 9 = 1.
    assert signal_variance(covariances, np.zeros(3)) == pytest.approx([1.0, 1.0, 90.0])


def test_of_two_judges_the_noise_that_repeats_show_is_taken_off() -> None:
    covariances = np.array([[3.0, 1.0], [1.0, 4.0]])
    assert signal_variance(covariances, np.array([1.0, 3.9])) == pytest.approx([2.0, 0.4])


def test_simulated_judges_are_brought_onto_one_scale() -> None:
    random = np.random.default_rng(0)
    quality = random.normal(0.5, 0.2, 4000)
    values = np.stack([quality, 0.3 * quality + 0.6, 2.0 * quality - 1.0], axis=1)
    values += random.normal(size=values.shape) * np.array([0.1, 0.05, 0.3])
    factor, _ = alignment(values, np.zeros(3), "scale")
    # The middle signal is 1 x quality.
    assert factor == pytest.approx([1.0, 1 / 0.3, 0.5], rel=0.1)
