"""Judges who say the opposite of the others: numbers worked by hand."""

import numpy as np
import pytest

from reward_service.fusion.contrary import correlation, is_contrary

NAN = float("nan")
RANDOM = np.random.default_rng(0)
QUALITY = RANDOM.normal(size=400)


def judges(*signs: float, sigma: float = 0.5) -> np.ndarray:
    """As many judges of the same quality, each with its own noise."""
    return QUALITY[:, None] * np.array(signs) + sigma * RANDOM.normal(size=(len(QUALITY), len(signs)))


def test_correlations_are_those_of_common_samples() -> None:
    up = np.array([0.0, 1.0, 2.0, 3.0])
    values = np.stack([up, -up, up, np.full(4, 7.0)], axis=1)
    values[3, 2] = NAN
    rho, num = correlation(values, 3)
    assert rho[0] == pytest.approx([0.0, -1.0, np.sqrt(1.0 / (5 / 3)), 0.0])
    assert num[0].tolist() == [0.0, 4.0, 3.0, 4.0]
    assert correlation(values, 4)[0][0, 2] == 0.0


def test_the_one_who_says_the_opposite_is_contrary_and_the_others_are_not() -> None:
    # Next to it each of the others has a mean correlation of (0.8 - 0.8) / 2 = 0, it has -0.8.
    assert is_contrary(judges(1.0, 1.0, -1.0), 32).tolist() == [False, False, True]
    assert is_contrary(judges(-1.0, 1.0, 1.0, 1.0), 32).tolist() == [True, False, False, False]


def test_a_clear_voice_among_noisy_ones_does_not_make_those_contrary() -> None:
    # The contrary judge without noise has the larger correlations: -0.7 with each, while they have 0.5.
    values = judges(1.0, 1.0, 1.0, -1.0, sigma=1.0)
    values[:, 3] = -QUALITY
    assert is_contrary(values, 32).tolist() == [False, False, False, True]


def test_two_of_five_may_be_contrary() -> None:
    assert is_contrary(judges(1.0, -1.0, 1.0, -1.0, 1.0), 32).tolist() == [False, True, False, True, False]


def test_of_two_nobody_is_contrary() -> None:
    assert not is_contrary(judges(1.0, -1.0), 32).any()


def test_a_judge_who_knows_nothing_or_says_one_thing_is_not_contrary() -> None:
    assert not is_contrary(judges(1.0, 1.0, 0.0), 32).any()
    values = judges(1.0, 1.0, 1.0)
    values[:, 2] = 3.0
    assert not is_contrary(values, 32).any()


def test_chance_makes_nobody_contrary() -> None:
    # 20 samples: the correlation has a standard error of 1 / sqrt(20) = 0.22, of which 3 are 0.67.
    values = judges(1.0, 1.0, -0.3, sigma=1.0)
    assert not is_contrary(values[:20], 8).any()
    assert is_contrary(values, 8)[2]


def test_too_few_common_samples_say_nothing() -> None:
    assert not is_contrary(judges(1.0, 1.0, -1.0)[:31], 32).any()
