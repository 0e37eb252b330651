"""Bradley-Terry: numbers worked by hand, and what no order of the items may change."""

import numpy as np
import pytest

from reward_service.ratings.strengths import win_shares


def test_one_win_with_a_prior_of_a_fifth_makes_three_to_one() -> None:
    # By symmetry the strengths are o and 1/o. The slope of the log-likelihood is zero where
    # 1 / (1 + o²) = prior (o − 1) / (o + 1); with prior 0.2 and o = 3: 1/10 = 0.2 · 2/4.
    shares = win_shares(np.array([[0.0, 1.0], [0.0, 0.0]]), prior=0.2)
    assert shares == pytest.approx([0.75, 0.25], abs=1e-9)


def test_two_wins_with_twice_the_prior_say_the_same() -> None:
    shares = win_shares(np.array([[0.0, 2.0], [0.0, 0.0]]), prior=0.4)
    assert shares == pytest.approx([0.75, 0.25], abs=1e-9)


def test_a_tie_and_nothing_at_all_are_a_half() -> None:
    assert win_shares(np.array([[0.0, 0.5], [0.5, 0.0]])) == pytest.approx([0.5, 0.5])
    assert win_shares(np.zeros((2, 2))) == pytest.approx([0.5, 0.5])
    assert win_shares(np.zeros((0, 0))).shape == (0,)


def test_who_beats_a_winner_is_above_him() -> None:
    # 0 beat 1, 1 beat 2; 0 and 2 never met.
    shares = win_shares(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    assert shares[0] > shares[1] > shares[2]
    assert shares[1] == pytest.approx(0.5)


def test_the_gradient_of_the_likelihood_is_zero_at_the_answer() -> None:
    wins = np.random.default_rng(0).integers(0, 4, (6, 6)).astype(float)
    np.fill_diagonal(wins, 0.0)
    shares = win_shares(wins, prior=0.5)
    strength = shares / (1 - shares)
    expected = (wins + wins.T) * strength[:, None] / (strength[:, None] + strength[None, :])
    slope = wins.sum(1) + 0.5 - expected.sum(1) - 2 * 0.5 * shares
    assert slope == pytest.approx(np.zeros(6), abs=1e-8)


def test_the_order_of_the_items_does_not_matter() -> None:
    wins = np.random.default_rng(1).integers(0, 3, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0.0)
    order = np.array([3, 0, 4, 1, 2])
    assert win_shares(wins[np.ix_(order, order)]) == pytest.approx(win_shares(wins)[order], abs=1e-9)


@pytest.mark.parametrize(
    ("wins", "prior", "says"),
    [
        (np.zeros(3), 0.5, r"\[n, n\]"),
        (np.zeros((2, 3)), 0.5, r"\[n, n\]"),
        (np.eye(2), 0.5, "diagonal"),
        (np.array([[0.0, -1.0], [0.0, 0.0]]), 0.5, "at least 0"),
        (np.array([[0.0, np.inf], [0.0, 0.0]]), 0.5, "finite"),
        (np.zeros((2, 2)), 0.0, "positive"),
    ],
)
def test_what_is_no_table_of_wins_is_refused(wins: np.ndarray, prior: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        win_shares(wins, prior)
