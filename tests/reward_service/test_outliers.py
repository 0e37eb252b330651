"""Judgements that have nothing to do with the others: numbers worked by hand."""

import numpy as np
import pytest

from reward_service.fusion.judgements import as_array, gaps, repeat_scale, summarised, without_wild_repeats
from reward_service.fusion.robust import (
    deviation_from_others,
    is_outlier,
    robust_scale,
    row_median,
    usual_deviation,
)

NAN = float("nan")


def test_the_median_of_what_was_said() -> None:
    rows = np.array([[3.0, 1.0, 2.0], [NAN, 4.0, 1.0], [NAN, NAN, 7.0], [NAN, NAN, NAN]])
    assert row_median(rows)[:3].tolist() == [2.0, 2.5, 7.0]
    assert np.isnan(row_median(rows)[3])


def test_the_usual_size_of_a_deviation_is_the_median() -> None:
    # Sizes 1, 2, 300: the wild one moves nothing.
    assert robust_scale(np.array([-1.0, 2.0, NAN, -300.0])) == pytest.approx(1.4826 * 2)
    assert robust_scale(np.array([NAN])) == 0.0


def test_a_judge_who_mostly_agrees_has_the_mean_as_its_usual_deviation() -> None:
    # The median is 0; the mean 1.
    assert robust_scale(np.array([0.0, 0.0, 0.0, 4.0])) == pytest.approx(1.2533)


def test_the_robust_scale_of_normal_noise_is_its_standard_deviation() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.3, 20_000)
    assert robust_scale(noise) == pytest.approx(0.3, rel=0.02)


def test_a_judge_is_compared_with_the_others() -> None:
    # 1 against the median 4 of 2 and 6; 2 against 3.5; 6 against 1.5.
    deviation = deviation_from_others(np.array([[1.0, 2.0, 6.0], [1.0, NAN, 6.0]]))
    assert deviation[0].tolist() == [-3.0, -1.5, 4.5]
    assert np.isnan(deviation[1]).all()


def test_a_judge_of_whom_little_is_known_has_no_usual_deviation() -> None:
    deviation = np.array([[1.0, 1.0], [1.0, NAN]])
    assert usual_deviation(deviation, 2).tolist() == [pytest.approx(1.4826), np.inf]


def test_what_is_far_for_this_judge_is_an_outlier() -> None:
    values = np.array([[1.0, 1.1, 5.0]])
    # 3.9 from the median: more than 3.5 x 0.5, less than 3.5 x 2.
    assert is_outlier(values, np.array([0.5, 0.5, 0.5]), 3.5).tolist() == [[False, False, True]]
    assert not is_outlier(values, np.array([0.5, 0.5, 2.0]), 3.5).any()


def test_of_two_judges_neither_is_an_outlier() -> None:
    assert not is_outlier(np.array([[0.0, 9.0, NAN]]), np.array([0.1, 99.0, 99.0]), 3.5).any()


def test_an_infinite_threshold_leaves_nothing_out() -> None:
    values = as_array([[(1.0, 1.0, 9.0), (1.0,), (9.0,)]], 3)
    assert without_wild_repeats(values, np.zeros(3), np.inf)[1].sum() == 0
    assert not is_outlier(values[:, :, 0], np.array([0.0, 1.0, np.inf]), np.inf).any()


def test_where_most_would_be_outliers_nobody_is() -> None:
    assert not is_outlier(np.array([[0.0, 4.0, 6.0, 10.0]]), np.full(4, 0.1), 3.5).any()
    assert is_outlier(np.array([[0.0, 4.9, 5.1, 10.0]]), np.full(4, 0.1), 3.5).sum() == 2


def test_repeats_are_summed_up() -> None:
    values = as_array([[(1.0, 3.0), (5.0,)], [(1.0, 2.0, 6.0), ()]], 2)
    seen = summarised(values, gaps(values))
    assert seen.num.tolist() == [[2, 1], [3, 0]]
    assert seen.mean[0].tolist() == [2.0, 5.0]
    # 1, 2, 6: mean 3, squares 4 + 1 + 9, by 2.
    assert seen.within[:, 0].tolist() == [2.0, 7.0]
    assert seen.gap[:, 0].tolist() == [2.0, 1.0]
    assert np.isnan([seen.mean[1, 1], seen.within[0, 1], seen.gap[0, 1], seen.gap[1, 1]]).all()


def test_the_noise_of_repeats_is_known_from_their_differences() -> None:
    repeats = np.random.default_rng(0).normal(5.0, 0.3, (20_000, 1, 2))
    repeats[:1000, 0, 0] = 99.0  # One in twenty is wild.
    assert repeat_scale(gaps(repeats), 8)[0] == pytest.approx(0.3, rel=0.08)


def test_a_wild_repeat_is_left_out_where_there_are_three() -> None:
    values = as_array([[(1.0, 1.2, 9.0)], [(1.0, 9.0)]], 1)
    kept, num_wild = without_wild_repeats(values, np.array([0.1]), 3.5)
    assert num_wild.tolist() == [[1], [0]]
    assert kept[0, 0, :2].tolist() == [1.0, 1.2]
    assert np.isnan(kept[0, 0, 2])
    assert kept[1, 0, :2].tolist() == [1.0, 9.0]
