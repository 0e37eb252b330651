"""The price of length, who meets whom, what a judge's habits amount to, and how long to be patient."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.judging.bias import WINDOW, Habits, PositionBias
from reward_service.judging.length import corrected, fitted_slope, length_of, middle
from reward_service.judging.pairs import circle, win_share
from reward_service.judging.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S, Gate, retry_after_s


def test_length_is_paid_beyond_the_pivot_only() -> None:
    # ln((1 + 19) / (1 + 9)) = ln 2 = 0.6931; 0.8 - 0.1 * 0.6931 = 0.7307.
    assert corrected(0.8, 19, slope=0.1, pivot=9) == pytest.approx(0.8 - 0.1 * math.log(2))
    assert corrected(0.8, 9, slope=0.1, pivot=9) == 0.8
    assert corrected(0.8, 0, slope=0.1, pivot=9) == 0.8


def test_a_corrected_score_stays_between_0_and_1() -> None:
    assert corrected(0.1, 10**6, slope=1.0, pivot=1) == 0.0
    assert corrected(1.0, 0, slope=1.0, pivot=1) == 1.0


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        corrected(0.5, 1, slope=-0.1, pivot=1)


def test_length_counts_words_or_characters() -> None:
    assert length_of("a bc\n def ", "words") == 3
    assert length_of("a bc\n", "characters") == 5


def test_the_middle_of_lengths_is_geometric() -> None:
    # (1 + 1)(1 + 7) = 16; its square root is 4.
    assert middle([1, 7]) == pytest.approx(3.0)


def test_the_slope_of_scores_that_rise_with_log_length_is_found() -> None:
    lengths = np.array([0, 1, 3, 7, 15])
    # ln(1 + n) = k ln 2; a score of 0.1 k rises by 0.1 / ln 2 per unit.
    slope, correlation = fitted_slope(lengths, 0.1 * np.arange(5))
    assert (slope, correlation) == (pytest.approx(0.1 / math.log(2)), pytest.approx(1.0))
    # Taking the slope away leaves nothing of it.
    rest = [corrected(0.5 + 0.1 * k, n, slope=slope, pivot=0) for k, n in enumerate(lengths)]
    assert fitted_slope(lengths, rest)[0] == pytest.approx(0.0, abs=1e-12)


def test_the_correlation_is_numpys() -> None:
    random = np.random.default_rng(0)
    lengths, scores = random.integers(0, 500, 100), random.random(100)
    slope, correlation = fitted_slope(lengths, scores)
    x = np.log1p(lengths)
    assert correlation == pytest.approx(np.corrcoef(x, scores)[0, 1])
    assert slope == pytest.approx(np.polyfit(x, scores, 1)[0])


@pytest.mark.parametrize(
    ("lengths", "scores"), [([], []), ([3], [0.5]), ([3, 3], [0.1, 0.9]), ([1, 9], [1, 1])]
)
def test_what_does_not_vary_has_no_slope(lengths: list[int], scores: list[float]) -> None:
    assert fitted_slope(lengths, scores) == (0.0, 0.0)


def test_lengths_and_scores_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="two vectors"):
        fitted_slope([1, 2, 3], [0.1, 0.2])


def test_in_a_small_group_everybody_meets_everybody() -> None:
    assert circle(3, 4) == [(0, 1), (0, 2), (1, 2)]
    assert circle(1, 4) == []


@given(st.integers(2, 20), st.integers(1, 5).map(lambda half: 2 * half))
def test_everybody_meets_equally_many_others_once(num: int, max_opponents: int) -> None:
    pairs = circle(num, max_opponents)
    wanted = min(max_opponents, num - 1)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == num * wanted / 2
    for player in range(num):
        assert sum(player in pair for pair in pairs) == wanted
        assert (player, player) not in pairs


@pytest.mark.parametrize("number", [0, 1, 3])
def test_an_uneven_number_of_opponents_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="even"):
        circle(9, number)


def test_the_win_share_counts_decided_pairs_from_the_players_side() -> None:
    pairs = [(0, 1), (2, 0), (0, 3)]
    # 0 wins all of the first, a quarter of the second (1 - 0.75), and the third was not decided.
    assert win_share(0, pairs, {(0, 1): 1.0, (2, 0): 0.75}) == pytest.approx(0.625)
    with pytest.raises(ValueError, match="no pair of 3"):
        win_share(3, pairs, {(0, 1): 1.0})


def test_position_bias_counts_flips_ties_and_the_first_place() -> None:
    bias = PositionBias()
    bias.add(1.0, 0.0)  # the same answer in both orders
    bias.add(1.0, 1.0)  # whatever is first
    bias.add(0.0, 0.0)  # whatever is second
    bias.add(0.5, 1.0)  # a tie, and then a winner: not turned round
    # 8 verdicts, 1 tie; of the other 7 the first place won 1 + 2 + 0 + 1 = 4.
    assert bias.report() == {
        "pairs_total": 4.0,
        "flip_share": 0.5,
        "tie_share": 1 / 8,
        "first_wins_share": pytest.approx(4 / 7),
    }


def test_no_comparison_shows_no_bias() -> None:
    assert PositionBias().report() == {
        "pairs_total": 0.0,
        "flip_share": 0.0,
        "tie_share": 0.0,
        "first_wins_share": 0.5,
    }


def test_habits_are_those_of_the_newest_judgements() -> None:
    habits = Habits()
    for _ in range(WINDOW):
        habits.add(900, 0.9)
    for _ in range(WINDOW // 2):
        habits.add(1, 0.2)
        habits.add(3, 0.4)
    report = habits.report()
    assert report["judged_total"] == 2 * WINDOW
    assert (report["raw_mean"], report["length_mean"]) == (pytest.approx(0.3), 2.0)
    # From ln 2 to ln 4 the score rises by 0.2.
    assert report["length_slope"] == pytest.approx(0.2 / math.log(2))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_gate_is_closed_for_as_long_as_the_endpoint_says_and_a_little_longer() -> None:
    clock = Clock()
    gate = Gate(clock, draw=lambda: 0.5)
    assert gate.pause_s() == 0.0
    gate.refused(10.0)
    assert gate.pause_s() == pytest.approx(10.5)
    gate.refused(2.0)
    assert gate.pause_s() == pytest.approx(10.5)
    clock.now += 10.5
    assert gate.pause_s() == 0.0


def test_without_a_word_pauses_double_up_to_a_bound_and_start_again_after_success() -> None:
    clock = Clock()
    gate = Gate(clock, draw=lambda: 1.0)
    pauses = []
    for _ in range(9):
        gate.refused(None)
        pauses.append(gate.pause_s())
        clock.now += pauses[-1]
    assert pauses[:3] == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S)
    gate.served()
    gate.refused(None)
    assert gate.pause_s() == pytest.approx(FIRST_PAUSE_S)


def test_requests_that_were_under_way_when_the_gate_closed_do_not_double_the_pause() -> None:
    gate = Gate(Clock(), draw=lambda: 1.0)
    for _ in range(16):
        gate.refused(None)
    assert gate.pause_s() == pytest.approx(FIRST_PAUSE_S)


NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOON) == seconds
